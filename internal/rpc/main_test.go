package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"

	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/internal/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// idle is what a free worker answers.
var idle = Pong{
	WorkerID: "worker-a", Nonce: "0123456789abcdef", State: status.Free,
	Queues: []string{"gpu", "cpu"}, Concurrency: 4, Status: "running", Healthy: true, Version: "1.2.3",
}

func answering(p Pong) Sources {
	return Sources{
		Ping: func() Pong { return p },
		Report: func() status.Report {
			return status.Report{Health: status.Health{Healthy: p.Healthy, Status: p.Status}, Mark: p.Report}
		},
	}
}

// serve is the worker's real HTTP server on a free port, or at listen, until the test ends or stop is called.
func serve(t *testing.T, listen, webConfig string, src Sources) (address string, stop func()) {
	t.Helper()
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	h := health.Handler(health.Sources{Report: func() status.Report { return status.Report{} }, RPC: Handlers(src)})
	s, err := health.NewServer(health.ServerOptions{
		Listen: listen, WebConfig: webConfig, Handler: h, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return s.Addr().String(), stop
}

func mustClient(t *testing.T, opts ClientOptions) *Client {
	t.Helper()
	if opts.Timeout == 0 {
		opts.Timeout = 30 * time.Second // where no timeout is expected, a slow machine must not make one
	}
	c, err := NewClient(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func mustPing(t *testing.T, c *Client, address string) Pong {
	t.Helper()
	p, err := c.Ping(t.Context(), address)
	if err != nil {
		t.Fatalf("ping %s: %v", address, err)
	}
	return p
}

// kindOf returns the kind of a Failure anywhere in err's chain, and KindOther for any other error.
func kindOf(err error) Kind {
	var f *Failure
	if errors.As(err, &f) {
		return f.Kind
	}
	return KindOther
}

// isFrom reports whether it was this process of this worker that answered.
func isFrom(p Pong, workerID, nonce string) bool { return p.WorkerID == workerID && p.Nonce == nonce }

// guarded writes a web config with TLS, or basic authentication, or both.
type guarded struct {
	ca, webConfig string
}

func guard(t *testing.T, withTLS, withAuth bool, more string) guarded {
	t.Helper()
	dir := t.TempDir()
	ca, _, _ := redistest.Certificates(t, dir)
	text := more
	if withTLS {
		text += "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
	}
	if withAuth {
		hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("basic_auth_users: {fleet: '%s'}\n", hash)
	}
	return guarded{ca: ca, webConfig: write(t, dir, "web.yml", text)}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// listener accepts connections and gives each to handle, until the test ends.
func listener(t *testing.T, handle func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
	)
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() { handle(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, conn := range conns {
			_ = conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}
