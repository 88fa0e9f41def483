package test

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
)

// pings waits until the worker answers a ping so that check is content.
func (w *workerProcess) pings(what string, c *rpc.Client, check func(rpc.Pong) error) rpc.Pong {
	w.t.Helper()
	var pong rpc.Pong
	address := w.Addr()
	eventually(w.t, what, func() error {
		p, err := c.Ping(w.t.Context(), address)
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
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, nil)
	client, err := rpc.NewClient(rpc.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	pid := q.pythonPID(w.ID)

	free := w.pings("it is free", client, func(p rpc.Pong) error {
		if p.State != status.Free || p.Reason != "" || p.Load != 0 || len(p.ActiveTasks) > 0 || p.Concurrency != 1 || !p.Healthy {
			return errors.New("not free")
		}
		return nil
	})
	if beat := q.beat(w.ID); free.WorkerID != w.ID || free.Nonce != beat["nonce"] || !slices.Equal(free.Queues, []string{queueName}) {
		t.Errorf("the ping says %+v, the heartbeat %q", free, beat)
	}

	task := q.enqueue("sleep", map[string]any{"seconds": 3})
	w.pings("it is busy with the task", client, func(p rpc.Pong) error {
		if p.State != status.Busy || !strings.Contains(p.Reason, "1 of 1") || !slices.Equal(p.ActiveTasks, []string{task}) || p.Load != 1 {
			return errors.New("not busy")
		}
		return nil
	})
	q.gone(task)

	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.pings("it is degraded", client, func(p rpc.Pong) error {
		if p.State != status.Busy || p.Status != "degraded" || p.Healthy || !strings.Contains(p.Reason, "signal") {
			return errors.New("not degraded")
		}
		return nil
	})
	out := execute(t, environ(), "curl", "--silent", "--show-error", "--json", `{"service":"runqy.v1.WorkerService"}`,
		"http://"+w.Addr()+"/grpc.health.v1.Health/Check")
	var check map[string]string
	if err := json.Unmarshal([]byte(out.Out), &check); err != nil || !strings.HasSuffix(check["status"], "NOT_SERVING") {
		t.Errorf("health check: %+v, %v", out, err)
	}
	w.Stop()
	var failure *rpc.Failure
	if _, err := client.Ping(t.Context(), w.Addr()); !errors.As(err, &failure) || failure.Kind != rpc.KindRefused {
		t.Errorf("after it has ended: %v", err)
	}
}
