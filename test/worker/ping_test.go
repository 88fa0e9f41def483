package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/test/harness"
)

// pings waits until check accepts the worker's answer to a ping, and returns it.
func pings(t *testing.T, w *harness.Worker, what string, c *rpc.Client, check func(rpc.Pong) error) rpc.Pong {
	t.Helper()
	var pong rpc.Pong
	address := w.Addr()
	harness.Eventually(t, what, func() error {
		p, err := c.Ping(t.Context(), address)
		if err != nil {
			return err
		}
		pong = p
		if err := check(p); err != nil {
			return fmt.Errorf("%w: %+v", err, p)
		}
		return nil
	})
	return pong
}

// The answer to a ping follows the worker through its states and agrees with its heartbeat.
func TestPing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	client, err := rpc.NewClient(rpc.ClientOptions{})
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	t.Cleanup(client.Close)
	pid := q.PythonPID(w.ID)

	free := pings(t, w, "it is free", client, func(p rpc.Pong) error {
		if p.State != status.Free || p.Reason != "" || p.Load != 0 || len(p.ActiveTasks) > 0 || p.Concurrency != 1 || !p.Healthy {
			return errors.New("not free")
		}
		return nil
	})
	if beat := q.Heartbeat(w.ID); free.WorkerID != w.ID || free.Nonce != beat["nonce"] || !slices.Equal(free.Queues, []string{harness.QueueName}) {
		t.Errorf("the ping is answered with %+v, want what the heartbeat says: %q", free, beat)
	}

	task := q.Enqueue("sleep", map[string]any{"seconds": 3})
	pings(t, w, "it is busy with the task", client, func(p rpc.Pong) error {
		if p.State != status.Busy || !strings.Contains(p.Reason, "1 of 1") || !slices.Equal(p.ActiveTasks, []string{task}) || p.Load != 1 {
			return errors.New("not busy")
		}
		return nil
	})
	q.AwaitGone(task)

	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill the Python process: %v", err)
	}
	pings(t, w, "it is degraded", client, func(p rpc.Pong) error {
		if p.State != status.Busy || p.Status != "degraded" || p.Healthy || !strings.Contains(p.Reason, "signal") {
			return errors.New("not degraded")
		}
		return nil
	})
	out := harness.Execute(t, harness.Environ(), "curl", "--silent", "--show-error", "--json", `{"service":"runqy.v1.WorkerService"}`,
		"http://"+w.Addr()+"/grpc.health.v1.Health/Check")
	var check map[string]string
	if err := json.Unmarshal([]byte(out.Out), &check); err != nil || !strings.HasSuffix(check["status"], "NOT_SERVING") {
		t.Errorf("the gRPC health check answers %+v, %v, want NOT_SERVING", out, err)
	}
	w.Stop()
	var failure *rpc.Failure
	if _, err := client.Ping(t.Context(), w.Addr()); !errors.As(err, &failure) || failure.Kind != rpc.KindRefused {
		t.Errorf("a ping after the end: %v, want a refused connection", err)
	}
}
