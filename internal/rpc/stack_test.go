package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/status"
)

// hanging is a worker whose process hangs in the task t1.
func hanging() Sources {
	src := answering(idle)
	src.Stack = func(_ context.Context, taskID string) (Stack, error) {
		switch taskID {
		case "", "t1":
			return Stack{WorkerID: idle.WorkerID, PID: 42, Where: "/app/main.py:12 in fetch", Text: "stack of " + taskID}, nil
		case "none":
			return Stack{}, ErrNoStack
		}
		return Stack{}, fmt.Errorf("%w %q", ErrNotFound, taskID)
	}
	return src
}

// serveStacks serves the worker on a port, whose visitors are trusted or not, and on a unix socket, whose visitors are.
func serveStacks(t *testing.T, src Sources, trusted bool) (address, socket string) {
	t.Helper()
	sources := health.Sources{
		Report: func() status.Report { return status.Report{} }, RPC: Handlers(src), Trusted: func(*http.Request) bool { return trusted },
	}
	socket = filepath.Join(t.TempDir(), "s")
	s, err := health.NewServer(health.ServerOptions{
		Listen: "127.0.0.1:0", Handler: health.Handler(sources), Socket: socket, SocketHandler: health.SocketHandler(sources),
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s.Addr().String(), socket
}

func TestStack(t *testing.T) {
	for _, trusted := range []bool{true, false} {
		address, socket := serveStacks(t, hanging(), trusted)
		c, err := NewClient(ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		want := Stack{WorkerID: "worker-a", PID: 42, Where: "/app/main.py:12 in fetch", Text: "stack of t1"}
		if got, err := StackAt(bounded(t), socket, "worker-a", "t1"); err != nil || got != want {
			t.Errorf("through the socket: %+v, %v; want %+v", got, err, want)
		}
		got, err := c.Stack(bounded(t), address, "worker-a", "t1")
		var failure *Failure
		switch {
		case trusted && (err != nil || got != want):
			t.Errorf("a trusted visitor gets %+v, %v; want %+v", got, err, want)
		case !trusted && (!errors.As(err, &failure) || failure.Kind != KindUnauthorised || strings.Contains(err.Error(), "main.py")):
			t.Errorf("a stranger gets %+v, %v; want that he may not see it", got, err)
		}
	}
}

func TestStackFailures(t *testing.T) {
	_, socket := serveStacks(t, hanging(), false)
	for ask, want := range map[[2]string]string{
		{"worker-b", "t1"}:   "another worker answers there: this is the worker worker-a",
		{"worker-a", "t2"}:   `the Python process does not have the task "t2"`,
		{"worker-a", "none"}: "no Python process to ask",
	} {
		if _, err := StackAt(bounded(t), socket, ask[0], ask[1]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("stack of %q: %v, want %q", ask, err, want)
		}
	}
	if _, err := StackAt(bounded(t), socket, "worker-b", ""); !errors.Is(err, ErrOtherWorker) {
		t.Errorf("of another worker: %v, want ErrOtherWorker", err)
	}
	_, socket = serveStacks(t, answering(idle), true)
	if _, err := StackAt(bounded(t), socket, "", ""); err == nil || !strings.Contains(err.Error(), "runs no Python process") {
		t.Errorf("of a process that runs no Python: %v, want that it says so", err)
	}
}
