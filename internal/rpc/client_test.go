package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/status"
	runqyv1 "github.com/runqy/runqy-worker/proto/runqy/v1"
)

func TestPing(t *testing.T) {
	busy := idle
	busy.State, busy.Reason, busy.ActiveTasks, busy.Load = status.Busy, "All slots are taken (4 of 4).", []string{"t1"}, 0.25
	for _, want := range []Pong{idle, busy} {
		address, _ := serve(t, "", "", answering(want))
		if got := mustPing(t, mustClient(t, ClientOptions{}), address); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestOneConnectionForManyPings(t *testing.T) {
	var conns atomic.Int32
	s := &http.Server{
		Handler: Handlers(answering(idle))["/runqy.v1.WorkerService/"],
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				conns.Add(1)
			}
		},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	defer func() { _ = s.Close(); <-done }()
	c := mustClient(t, ClientOptions{})
	for range 20 {
		mustPing(t, c, l.Addr().String())
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 20 pings", n)
	}
}

func TestManyAtOnce(t *testing.T) {
	var addresses []string
	for i := range 20 {
		p := idle
		p.WorkerID = fmt.Sprint("worker-", i)
		address, _ := serve(t, "", "", answering(p))
		addresses = append(addresses, address)
	}
	// Made last, and so closed first: servers would wait for connections that it has made in excess.
	c := mustClient(t, ClientOptions{})
	var wg sync.WaitGroup
	for round := range 100 {
		i := round % len(addresses)
		wg.Go(func() {
			p, err := c.Ping(t.Context(), addresses[i])
			if err != nil || p.WorkerID != fmt.Sprint("worker-", i) {
				t.Errorf("ping: %+v, %v; want worker-%d", p, err, i)
			}
		})
	}
	wg.Wait()
}

// A successor on the same port is seen through the connection that was kept to its predecessor, and told apart from it.
func TestAnotherIdentityAtTheSameAddress(t *testing.T) {
	c := mustClient(t, ClientOptions{})
	address, stop := serve(t, "", "", answering(idle))
	if p := mustPing(t, c, address); !isFrom(p, idle.WorkerID, idle.Nonce) {
		t.Fatalf("%+v answers, want worker %s", p, idle.WorkerID)
	}
	stop()
	if _, err := c.Ping(t.Context(), address); kindOf(err) != KindRefused {
		t.Errorf("a ping with no worker there: %v, want kind %s", err, KindRefused)
	}
	successor := idle
	successor.Nonce = "fedcba9876543210"
	serve(t, address, "", answering(successor))
	p := mustPing(t, c, address)
	if !isFrom(p, idle.WorkerID, successor.Nonce) {
		t.Errorf("%+v answers, want the successor with nonce %s", p, successor.Nonce)
	}
}

func TestKinds(t *testing.T) {
	plain, _ := serve(t, "", "", answering(idle))
	g := guard(t, true, true, "")
	secured, _ := serve(t, "", g.webConfig, answering(idle))
	auth := guard(t, false, true, "")
	locked, _ := serve(t, "", auth.webConfig, answering(idle))
	stranger := guard(t, true, false, "")
	mutual := guard(t, true, false, "")
	if err := os.WriteFile(mutual.webConfig, []byte("tls_server_config: {cert_file: cert.pem, key_file: key.pem, "+
		"client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mutually, _ := serve(t, "", mutual.webConfig, answering(idle))
	noHTTP2 := guard(t, true, true, "http_server_config: {http2: false}\n")
	http1, _ := serve(t, "", noHTTP2.webConfig, answering(idle))

	dir := t.TempDir()
	right, wrong := write(t, dir, "right", "secret\n"), write(t, dir, "wrong", "guess")
	reply := func(text string) string {
		return listener(t, func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		})
	}
	mute := listener(t, func(net.Conn) {})
	dribble := listener(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/proto\r\nContent-Length: 100\r\n\r\nx")
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := l.Addr().String()
	_ = l.Close()
	_, securedPort, _ := net.SplitHostPort(secured)

	short := 300 * time.Millisecond
	fleet := func(password, ca string) ClientOptions {
		return ClientOptions{CAFile: ca, Username: "fleet", PasswordFile: password}
	}
	for name, c := range map[string]struct {
		opts    ClientOptions
		address string
		want    Kind // empty: no failure
		text    string
	}{
		"right credentials":           {fleet(right, g.ca), secured, "", ""},
		"by name":                     {fleet(right, g.ca), "localhost:" + securedPort, "", ""},
		"http2: false":                {fleet(right, noHTTP2.ca), http1, "", ""},
		"password without TLS":        {fleet(right, ""), locked, "", ""},
		"wrong password":              {fleet(wrong, g.ca), secured, KindUnauthorised, "fleet.client.username"},
		"no password":                 {ClientOptions{CAFile: g.ca}, secured, KindUnauthorised, ""},
		"no password without TLS":     {ClientOptions{}, locked, KindUnauthorised, ""},
		"another authority":           {fleet(right, stranger.ca), secured, KindTLS, "fleet.client.ca_file"},
		"the system's authorities":    {ClientOptions{TLS: true}, secured, KindTLS, "fleet.client.ca_file"},
		"plain to TLS":                {fleet(right, ""), secured, KindTLS, "set fleet.client.ca_file"},
		"TLS to plain":                {fleet(right, g.ca), plain, KindTLS, "does not speak TLS"},
		"wants a client certificate":  {ClientOptions{CAFile: mutual.ca}, mutually, KindTLS, "certificate required"},
		"refused":                     {ClientOptions{}, refusing, KindRefused, "connection refused"},
		"refused with TLS":            {fleet(right, g.ca), refusing, KindRefused, ""},
		"no answer":                   {ClientOptions{Timeout: short}, mute, KindTimeout, ""},
		"no handshake":                {ClientOptions{TLS: true, Timeout: short}, mute, KindTimeout, ""},
		"half an answer":              {ClientOptions{Timeout: short}, dribble, KindTimeout, ""},
		"forbidden":                   {ClientOptions{}, reply("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), KindUnauthorised, ""},
		"not found":                   {ClientOptions{}, reply("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), KindOther, ""},
		"bad request":                 {ClientOptions{}, reply("HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno"), KindOther, ""},
		"throttled":                   {ClientOptions{}, reply("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"), KindOther, ""},
		"not HTTP":                    {ClientOptions{}, reply("-ERR unknown command\r\n"), KindOther, ""},
		"closed at once":              {ClientOptions{}, reply(""), KindOther, ""},
		"a page":                      {ClientOptions{}, reply("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"), KindOther, ""},
		"nobody's answer":             {ClientOptions{}, reply("HTTP/1.1 200 OK\r\nContent-Type: application/proto\r\nContent-Length: 0\r\n\r\n"), KindOther, "names no worker"},
		"elsewhere, with our secrets": {fleet(right, ""), reply("HTTP/1.1 302 Found\r\nLocation: http://" + plain + "/\r\nContent-Length: 0\r\n\r\n"), KindOther, ""},
		"no such host":                {ClientOptions{}, "worker.invalid:8001", KindOther, ""},
		"no port":                     {ClientOptions{}, "worker", KindOther, "host:port"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := mustClient(t, c.opts).Ping(t.Context(), c.address)
			if c.want == "" {
				if err != nil || !isFrom(p, idle.WorkerID, idle.Nonce) {
					t.Errorf("ping: %+v, %v; want worker %s", p, err, idle.WorkerID)
				}
				return
			}
			var f *Failure
			if !errors.As(err, &f) || f.Kind != c.want || f.Address != c.address {
				t.Fatalf("%+v, %v: want kind %s", p, err, c.want)
			}
			if !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v: does not say %q", err, c.text)
			}
			if strings.Contains(err.Error(), "guess") || strings.Contains(err.Error(), "secret") {
				t.Errorf("it tells a secret: %v", err)
			}
		})
	}
}

func TestTheDefaultTimeoutIsThreeSeconds(t *testing.T) {
	c, err := NewClient(ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mute := listener(t, func(net.Conn) {})
	if c.timeout != 3*time.Second {
		t.Errorf("the default timeout is %s, want 3 s", c.timeout)
	}
	if _, err := c.Ping(t.Context(), mute); kindOf(err) != KindTimeout {
		t.Errorf("a ping without an answer: %v, want kind %s", err, KindTimeout)
	}
}

func TestCancelled(t *testing.T) {
	mute := listener(t, func(net.Conn) {})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := mustClient(t, ClientOptions{}).Ping(ctx, mute); kindOf(err) != KindOther || !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled ping: %v, want kind %s and %v", err, KindOther, context.Canceled)
	}
}

// Passwords and authorities that are replaced in their files come into force without a new client.
func TestFilesAreReadAgain(t *testing.T) {
	g := guard(t, true, true, "")
	address, _ := serve(t, "", g.webConfig, answering(idle))
	dir := t.TempDir()
	stale, err := os.ReadFile(guard(t, true, false, "").ca)
	if err != nil {
		t.Fatal(err)
	}
	ca, password := write(t, dir, "ca.pem", string(stale)), write(t, dir, "password", "old")
	c := mustClient(t, ClientOptions{CAFile: ca, Username: "fleet", PasswordFile: password})
	forget := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.read = time.Time{}
	}
	if _, err := c.Ping(t.Context(), address); kindOf(err) != KindTLS {
		t.Fatalf("stale authority: %v", err)
	}
	fresh, err := os.ReadFile(g.ca)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "ca.pem", string(fresh))
	forget()
	if _, err := c.Ping(t.Context(), address); kindOf(err) != KindTLS {
		t.Fatalf("the failure that makes it look: %v", err)
	}
	if _, err := c.Ping(t.Context(), address); kindOf(err) != KindUnauthorised {
		t.Fatalf("stale password: %v", err)
	}
	if err := os.Remove(password); err != nil {
		t.Fatal(err)
	}
	forget()
	if _, err := c.Ping(t.Context(), address); kindOf(err) != KindUnauthorised || !strings.Contains(err.Error(), "password_file") {
		t.Errorf("a file that is gone: %v", err)
	}
	write(t, dir, "password", "secret")
	forget()
	if _, err := c.Ping(t.Context(), address); kindOf(err) != KindUnauthorised {
		t.Fatalf("the failure that makes it look: %v", err)
	}
	mustPing(t, c, address)
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		opts ClientOptions
		want string
	}{
		"no authority":   {ClientOptions{CAFile: filepath.Join(dir, "none")}, "fleet.client.ca_file"},
		"no PEM":         {ClientOptions{CAFile: write(t, dir, "text", "text")}, "no certificate in PEM"},
		"no password":    {ClientOptions{Username: "u", PasswordFile: filepath.Join(dir, "none")}, "fleet.client.password_file"},
		"empty password": {ClientOptions{Username: "u", PasswordFile: write(t, dir, "empty", "\n")}, "is empty"},
	} {
		if _, err := NewClient(c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: NewClient returned %v, want an error that names %q", name, err, c.want)
		}
	}
}

func TestOptionsFrom(t *testing.T) {
	cfg := config.Default()
	if got, err := OptionsFrom(cfg); err != nil || got != (ClientOptions{Timeout: 3 * time.Second}) {
		t.Errorf("OptionsFrom the defaults = %+v, %v; want only a timeout of 3 s", got, err)
	}
	cfg.Health.WebConfig = guard(t, true, false, "").webConfig
	cfg.Fleet.Client = config.FleetClient{CAFile: "ca", Username: "u", PasswordFile: "p"}
	cfg.Fleet.PingTimeout = time.Second
	want := ClientOptions{TLS: true, CAFile: "ca", Username: "u", PasswordFile: "p", Timeout: time.Second}
	if got, err := OptionsFrom(cfg); err != nil || got != want {
		t.Errorf("OptionsFrom = %+v, %v; want %+v", got, err, want)
	}
	cfg.Health.WebConfig = guard(t, false, true, "").webConfig
	if got, err := OptionsFrom(cfg); err != nil || got.TLS {
		t.Errorf("a password alone is no TLS: %+v, %v", got, err)
	}
	cfg.Health.WebConfig = "none"
	if _, err := OptionsFrom(cfg); err == nil {
		t.Error("no error for a file that is not there")
	}
}

// A host with several addresses is gone only when every one refuses: the standard dialer tells of the first failure
// only.
func TestRefusedByEveryAddress(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	late := context.DeadlineExceeded
	two := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	for name, c := range map[string]struct {
		address string
		ips     []netip.Addr
		answers map[string]error // by address; nil: connected
		want    error
	}{
		"literal":        {"192.0.2.1:1", nil, map[string]error{"192.0.2.1:1": refused}, refused},
		"one address":    {"w:1", two[:1], map[string]error{"w:1": refused}, refused},
		"both refuse":    {"w:1", two, map[string]error{"w:1": refused, "192.0.2.1:1": refused, "[2001:db8::1]:1": refused}, refused},
		"one is silent":  {"w:1", two, map[string]error{"w:1": refused, "192.0.2.1:1": refused, "[2001:db8::1]:1": late}, late},
		"one is back":    {"w:1", two, map[string]error{"w:1": refused, "192.0.2.1:1": refused, "[2001:db8::1]:1": nil}, nil},
		"silent at once": {"w:1", two, map[string]error{"w:1": late}, late},
	} {
		d := &dialer{
			connect: func(_ context.Context, _, addr string) (net.Conn, error) {
				err, known := c.answers[addr]
				if !known {
					t.Errorf("%s: dialled %s, which is not the host's", name, addr)
				}
				if err != nil {
					return nil, err
				}
				conn, other := net.Pipe()
				_ = other.Close()
				return conn, nil
			},
			lookup: func(context.Context, string, string) ([]netip.Addr, error) { return c.ips, nil },
		}
		conn, err := d.dial(t.Context(), "tcp", c.address)
		if !errors.Is(err, c.want) || (err == nil) != (conn != nil) {
			t.Errorf("%s: dial = %v, %v; want error %v", name, conn, err, c.want)
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
}

func TestAStateOfALaterVersion(t *testing.T) {
	p, err := pongOf(&runqyv1.PingResponse{WorkerId: "w", Nonce: "n", State: 99})
	if err != nil || p.State != status.Busy || !strings.Contains(p.Reason, "99") {
		t.Errorf("a pong with an unknown state is %+v, %v; want BUSY with the state in its reason", p, err)
	}
}

// Workers of an earlier version cut the stderr lines from their reason, but not the heading above them.
func TestAReasonOfAnEarlierVersion(t *testing.T) {
	p, err := pongOf(&runqyv1.PingResponse{
		WorkerId: "w", Nonce: "n", State: runqyv1.PingResponse_BUSY, Reason: "exit status 3; its last lines on stderr:",
	})
	if err != nil || p.Reason != "exit status 3" {
		t.Errorf("the pong's reason is %q, %v; want exit status 3", p.Reason, err)
	}
}

func TestSecretsAreNotLogged(t *testing.T) {
	password := write(t, t.TempDir(), "p", "hunter22")
	c := mustClient(t, ClientOptions{Username: "u", PasswordFile: password})
	_, err := c.Ping(t.Context(), "127.0.0.1:1")
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Error("ping", "error", err)
	if strings.Contains(log.String(), "hunter22") {
		t.Errorf("the log has the password: %s", log.String())
	}
}

// Whatever stands in the registry, a ping goes to a host and a port and carries nothing of it in another place.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"h:1", "127.0.0.1:8001", "[::1]:80", "[fe80::1%eth0]:80", "a@b:1", "h:1/x", "h/x:1", "?:1", "h:1#", ":1", "h:", ""} {
		f.Add(s)
	}
	c, err := NewClient(ClientOptions{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(c.Close)
	f.Fuzz(func(t *testing.T, address string) {
		base, err := c.base(address)
		if err != nil {
			return
		}
		u, err := url.Parse(base + "/p")
		if err != nil || u.Scheme != "http" || u.Host != address || u.User != nil || u.Path != "/p" || u.RawQuery != "" || u.Fragment != "" {
			t.Errorf("%q makes %q: %+v, %v", address, base, u, err)
		}
	})
}
