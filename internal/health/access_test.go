package health

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

func TestTrusted(t *testing.T) {
	users := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(users, []byte("basic_auth_users: {ada: $2y$10$x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	user := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(name, "secret") }
	}
	for _, c := range []struct {
		name, webConfig, remote, host string
		change                        func(*http.Request)
		want                          bool
	}{
		{"loopback", "", "127.0.0.1:5000", "localhost:8001", nil, true},
		{"loopback by address", "", "127.0.0.1:5000", "127.0.0.1:8001", nil, true},
		{"loopback, IPv6", "", "[::1]:5000", "[::1]:8001", nil, true},
		{"loopback, IPv4 in IPv6", "", "[::ffff:127.0.0.1]:5000", "LOCALHOST", nil, true},
		{"another machine", "", "192.0.2.7:5000", "localhost:8001", nil, false},
		{"another machine, IPv6", "", "[2001:db8::1]:5000", "localhost:8001", nil, false},
		{"a site of another name that resolves to loopback", "", "127.0.0.1:5000", "evil.example:8001", nil, false},
		{"a name that begins like a local one", "", "127.0.0.1:5000", "localhost.evil.example", nil, false},
		{"no name", "", "127.0.0.1:5000", "", nil, false},
		{"no address", "", "@", "localhost", nil, false},
		{"behind a proxy", "", "127.0.0.1:5000", "localhost", header("X-Forwarded-For", "192.0.2.7"), false},
		{"behind a proxy that names loopback", "", "127.0.0.1:5000", "localhost", header("X-Forwarded-For", "127.0.0.1"), false},
		{"behind a proxy with an empty header", "", "127.0.0.1:5000", "localhost", header("X-Forwarded-For", ""), false},
		{"behind a proxy of RFC 7239", "", "127.0.0.1:5000", "localhost", header("Forwarded", "for=192.0.2.7"), false},
		{"behind an nginx that is told nothing", "", "127.0.0.1:5000", "127.0.0.1:8001", func(r *http.Request) {
			r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.0", 1, 0
		}, false},
		{"over HTTP/2", "", "127.0.0.1:5000", "127.0.0.1:8001", func(r *http.Request) {
			r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
		}, true},
		{"a user", users, "192.0.2.7:5000", "worker:8001", user("ada"), true},
		{"a user behind a proxy", users, "127.0.0.1:5000", "worker:8001", func(r *http.Request) {
			r.SetBasicAuth("ada", "secret")
			r.Header.Set("X-Forwarded-For", "192.0.2.7")
		}, true},
		{"nobody", users, "192.0.2.7:5000", "worker:8001", nil, false},
		{"an unknown user", users, "192.0.2.7:5000", "worker:8001", user("eve"), false},
		{"a user of a port without users", "", "192.0.2.7:5000", "worker:8001", user("ada"), false},
		{"a user of a file that is gone", users + "x", "192.0.2.7:5000", "worker:8001", user("ada"), false},
		{"a checked certificate", "", "192.0.2.7:5000", "worker:8001", func(r *http.Request) {
			r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}
		}, true},
		{"TLS alone", "", "192.0.2.7:5000", "worker:8001", func(r *http.Request) { r.TLS = &tls.ConnectionState{} }, false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr, r.Host = c.remote, c.host
		if c.change != nil {
			c.change(r)
		}
		if got := NewAccess(c.webConfig).Trusted(r); got != c.want {
			t.Errorf("%s: trusted is %v, want %v", c.name, got, c.want)
		}
	}
}
