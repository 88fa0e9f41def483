package health

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// startServer runs s until the test ends, and returns what stops it earlier.
func startServer(t *testing.T, s *Server) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rq") // short: t.TempDir can exceed a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func mustServer(t *testing.T, opts ServerOptions) *Server {
	t.Helper()
	opts.Logger = quiet()
	if opts.Handler == nil {
		opts.Handler = Handler(sources(healthy()))
	}
	if opts.SocketHandler == nil {
		opts.SocketHandler = SocketHandler(sources(healthy()))
	}
	s, err := NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func httpGet(t *testing.T, c *http.Client, url string, edit func(*http.Request)) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(req)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func newClient(t *testing.T, tr *http.Transport) *http.Client {
	tr.DisableKeepAlives = true
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func TestServerOnAFreePort(t *testing.T) {
	s := mustServer(t, ServerOptions{Listen: "127.0.0.1:0"})
	if port := s.Addr().(*net.TCPAddr).Port; port == 0 {
		t.Fatal("the server has no port, want one")
	}
	stop := startServer(t, s)
	code, body := httpGet(t, newClient(t, &http.Transport{}), "http://"+s.Addr().String()+"/health", nil)
	if code != 200 || body != `{"status":"HEALTHY"}` {
		t.Errorf("the server answers %d %s, want what its handler says", code, body)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if c, err := net.DialTimeout("tcp", s.Addr().String(), time.Second); err == nil {
		c.Close()
		t.Error("the server still listens after Run has returned")
	}
}

func TestServerErrorsAtOnce(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	bad := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(bad, []byte("colour: blue\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		opts ServerOptions
		want string
	}{
		"port taken":       {ServerOptions{Listen: taken.Addr().String()}, "health.listen"},
		"bad address":      {ServerOptions{Listen: "nonsense"}, "health.listen"},
		"bad web config":   {ServerOptions{Listen: "127.0.0.1:0", WebConfig: bad}, "health.web_config"},
		"no web config":    {ServerOptions{Listen: "127.0.0.1:0", WebConfig: bad + "x"}, "health.web_config"},
		"long socket":      {ServerOptions{Listen: "127.0.0.1:0", Socket: "/tmp/" + strings.Repeat("x", 100)}, "health.socket"},
		"socket in a file": {ServerOptions{Socket: bad + "/s"}, "health.socket"},
	} {
		c.opts.Logger = quiet()
		if s, err := NewServer(c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
}

func TestServerClosedWithoutARun(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	s := mustServer(t, ServerOptions{Listen: "127.0.0.1:0", Socket: path})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	// A Run that is cancelled before it has begun cleans up as well.
	s = mustServer(t, ServerOptions{Listen: "127.0.0.1:0", Socket: path})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestServerLetsRequestsFinishButEndsStreams(t *testing.T) {
	started, finish := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done() // the stream is told to end
		<-finish
		_, _ = io.WriteString(w, "done")
	})
	s := mustServer(t, ServerOptions{Listen: "127.0.0.1:0", Handler: h})
	stop := startServer(t, s)
	body := make(chan string, 1)
	client := newClient(t, &http.Transport{})
	go func() {
		resp, err := client.Get("http://" + s.Addr().String())
		if err != nil {
			body <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		body <- string(b)
	}()
	<-started
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	close(finish)
	if got := <-body; got != "done" {
		t.Errorf("the request in flight got %q, want done", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestWebConfigGuardsThePortButNotTheSocket(t *testing.T) {
	dir := socketDir(t)
	pool := writeCertificate(t, dir)
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "web.yml")
	content := "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\nbasic_auth_users: {probe: '" + string(hash) + "'}\n"
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	s := mustServer(t, ServerOptions{Listen: "127.0.0.1:0", WebConfig: config, Socket: path})
	startServer(t, s)
	client := newClient(t, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}})
	base := "https://" + s.Addr().String()
	for _, p := range []string{"/", "/health", "/livez", "/readyz", "/metrics", "/health/v2/queues", "/nothing"} {
		if code, _ := httpGet(t, client, base+p, nil); code != http.StatusUnauthorized {
			t.Errorf("%s without credentials: %d", p, code)
		}
	}
	if code, body := httpGet(t, client, base+"/health", func(r *http.Request) { r.SetBasicAuth("probe", "secret") }); code != 200 {
		t.Errorf("with credentials: %d %s", code, body)
	}
	if res, err := Check(t.Context(), path, ProbeHealth); err != nil || !res.OK {
		t.Errorf("over the socket: %+v, %v", res, err)
	}
}

// writeCertificate writes cert.pem and key.pem for 127.0.0.1 into dir.
func writeCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	for name, b := range map[string][]byte{"cert.pem": certPEM, "key.pem": keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return pool
}

func TestSocketIsPrivate(t *testing.T) {
	path := filepath.Join(socketDir(t), "run", "s")
	s := mustServer(t, ServerOptions{Socket: path})
	if s.Addr() != nil {
		t.Errorf("an address without a listener: %v", s.Addr())
	}
	stop := startServer(t, s)
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("socket %v, %v", info.Mode(), err)
	}
	if info, err = os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory %v, %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}

	if _, err := NewServer(ServerOptions{Socket: path, Logger: quiet()}); err == nil || !strings.Contains(err.Error(), "another live worker") {
		t.Errorf("a second server: %v", err)
	}
	if res, err := Check(t.Context(), path, ProbeHealth); err != nil || !res.OK {
		t.Errorf("the second server broke the first: %+v, %v", res, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestStaleSocketIsReplacedAndAFileIsNot(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close() // as after a SIGKILL
	s := mustServer(t, ServerOptions{Socket: path})
	stop := startServer(t, s)
	if res, err := Check(t.Context(), path, ProbeReady); err != nil || !res.OK {
		t.Errorf("over the replaced socket: result %+v, error %v; want a worker that is ready", res, err)
	}

	// A successor's socket survives the end of its predecessor.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("somebody else's file: %q, %v", b, err)
	}
	if _, err := NewServer(ServerOptions{Socket: path, Logger: quiet()}); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("over a file: %v", err)
	}
}

func TestAnAddressInUseSaysWhatToDo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = NewServer(ServerOptions{Listen: l.Addr().String(), Handler: http.NotFoundHandler()})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), `":0" for a free port (health.listen in the file, or RUNQY_HEALTH_LISTEN)`) {
		t.Errorf("error %v, want one that says what to do", err)
	}
}
