package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/client"
	"github.com/runqy/runqy-worker/internal/redistest"
)

// The client against real workers with real Python processes: it enqueues, waits and assigns, and gives nothing to a
// worker whose process was killed.
func TestRealWorkers(t *testing.T) {
	server := redistest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*timeout)
	defer cancel()
	run := func(id string) *testWorker {
		w, err := startWorker(server.URL, id)
		if err != nil {
			t.Fatalf("start %s: %v", id, err)
		}
		t.Cleanup(func() {
			if err := w.stop(); err != nil {
				t.Errorf("stop %s: %v", id, err)
			}
		})
		return w
	}
	run("first")
	c, err := client.New(server.URL, client.Options{})
	if err != nil {
		t.Fatalf("make the client: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close the client: %v", err)
		}
	})
	first := await(ctx, t, c, "first", isFree)
	if first.Version != "1.0.0" || first.Concurrency != 1 || !first.Alive || !first.Healthy || first.Status != client.StatusRunning ||
		!first.Serves("inference_default") || first.PythonPID == 0 || first.Reason != "" || first.Cause != "" {
		t.Errorf("the free worker is %+v", first)
	}

	greet := client.Task{Queue: "inference_default", Type: "greet", Payload: json.RawMessage(`{"name": "Ada"}`)}
	result := func(what string, task client.TaskInfo, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got, err := c.Wait(ctx, task.Queue, task.ID, client.WaitOptions{}); err != nil || string(got) != `"Hello, Ada"` {
			t.Errorf("%s: result %s, error %v", what, got, err)
		}
	}
	task, err := c.Enqueue(ctx, greet)
	result("enqueue", task, err)
	d := c.NewDispatcher(client.DispatcherOptions{Interval: 100 * time.Millisecond})
	task, err = d.Assign(ctx, "first", greet)
	result("assign", task, err)

	if err := syscall.Kill(first.PythonPID, syscall.SIGKILL); err != nil {
		t.Fatalf("kill the Python process %d: %v", first.PythonPID, err)
	}
	w := await(ctx, t, c, "first", func(w client.Worker) bool {
		return w.Status == client.StatusDegraded && w.Crashes == 1 // the heartbeat, which counts, follows within 100 ms
	})
	if w.State != client.Busy || w.Healthy || w.TakesTasks() || w.Reason == "" || w.HealthReason == "" {
		t.Errorf("the degraded worker is %+v", w)
	}
	var unavailable *client.UnavailableError
	greet.ID = "refused"
	if _, err := d.Assign(ctx, "first", greet); !errors.As(err, &unavailable) || unavailable.Worker.Status != client.StatusDegraded {
		t.Errorf("assign to the degraded worker: %v, want an UnavailableError", err)
	}
	if n := server.Client.Exists(ctx, "asynq:{inference_default}:t:refused").Val(); n != 0 {
		t.Error("the refused task was enqueued")
	}
	greet.ID = ""

	// Beside a worker that is free it is never offered, and never chosen.
	second := run("second")
	await(ctx, t, c, "second", isFree)
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- d.Run(running) }() // ends with stop
	for range 3 {
		select {
		case w := <-d.Free():
			if w.ID != "second" {
				t.Errorf("worker %s is offered", w.ID)
			}
		case <-ctx.Done():
			t.Fatal("no worker is offered")
		}
	}
	task, chosen, err := d.AssignAny(ctx, greet)
	result("assign to any", task, err)
	if chosen != "second" {
		t.Errorf("assigned to %q, want second", chosen)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("the dispatcher's Run: %v", err)
	}

	if err := second.stop(); err != nil {
		t.Errorf("stop second: %v", err)
	}
	if _, err := d.Assign(ctx, "second", greet); !errors.Is(err, client.ErrNoWorker) {
		t.Errorf("assign to a worker that has stopped: %v, want ErrNoWorker", err)
	}
}

func await(ctx context.Context, t *testing.T, c *client.Client, id string, as func(client.Worker) bool) client.Worker {
	t.Helper()
	w, err := until(ctx, c, id, as)
	if err != nil {
		t.Fatalf("wait for worker %s: %v", id, err)
	}
	return w
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	for url, want := range map[string]string{"http://h": "redis URL", "redis://:s3cret@h:x": "redis URL"} {
		c, err := client.New(url, client.Options{})
		if err == nil {
			_ = c.Close()
			t.Errorf("New(%q) gives no error", url)
		} else if got := err.Error(); len(got) < len(want) || got[:len(want)] != want {
			t.Errorf("New(%q): error %q, want one that begins with %q", url, got, want)
		}
	}
	if c, err := client.New("redis://127.0.0.1:1", client.Options{CAFile: t.TempDir() + "/missing.pem"}); err == nil {
		_ = c.Close()
		t.Error("a CA file that does not exist: no error")
	}
}

// A client that cannot reach Redis tells so; it does not hang.
func TestRedisIsAway(t *testing.T) {
	c, err := client.New("redis://127.0.0.1:1?max_retries=-1", client.Options{})
	if err != nil {
		t.Fatalf("make the client: %v", err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if _, err := c.Workers(ctx); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("workers: error %v, want connection refused", err)
	}
	if _, err := c.Enqueue(ctx, client.Task{Queue: "q", Type: "x", Payload: json.RawMessage("1")}); err == nil {
		t.Error("enqueue: no error")
	}
	if _, err := c.NewDispatcher(client.DispatcherOptions{}).Assign(ctx, "w", client.Task{Queue: "q", Type: "x"}); err == nil {
		t.Error("assign: no error")
	}
}
