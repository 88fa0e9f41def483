package client

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
)

func TestWaitTellsEachEnd(t *testing.T) {
	client := redistest.Start(t).Client
	c := newTestClient(t, client)
	server := asynq.NewServerFromRedisClient(client, asynq.Config{
		Concurrency: 2, Queues: map[string]int{"q": 1}, LogLevel: asynq.FatalLevel, TaskCheckInterval: 10 * time.Millisecond,
		DelayedTaskCheckInterval: 10 * time.Millisecond,
		RetryDelayFunc:           func(int, error, *asynq.Task) time.Duration { return 10 * time.Millisecond },
	})
	mux := asynq.NewServeMux()
	mux.HandleFunc("ok", func(ctx context.Context, task *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		return client.Set(ctx, resultKey(id), `{"new":true}`, time.Minute).Err()
	})
	mux.HandleFunc("fail", func(context.Context, *asynq.Task) error { return errors.New("out of ink") })
	mux.HandleFunc("silent", func(context.Context, *asynq.Task) error { return nil })
	mux.HandleFunc("retained", func(_ context.Context, task *asynq.Task) error {
		_, err := task.ResultWriter().Write([]byte(`"kept"`))
		return err
	})
	if err := server.Start(mux); err != nil {
		t.Fatalf("start the asynq server: %v", err)
	}
	defer server.Shutdown()

	run := func(task Task, onRetry func(Retry)) (string, error) {
		t.Helper()
		task.Queue, task.Payload = "q", json.RawMessage("{}")
		task.DiscardOldResult = true
		info, err := c.Enqueue(t.Context(), task)
		if err != nil {
			t.Fatalf("enqueue a task of type %s: %v", task.Type, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		result, err := c.Wait(ctx, "q", info.ID, WaitOptions{OnRetry: onRetry})
		return string(result), err
	}

	if err := client.Set(t.Context(), resultKey("again"), `{"old":true}`, 0).Err(); err != nil {
		t.Fatalf("write an older result: %v", err)
	}
	if got, err := run(Task{Type: "ok", ID: "again"}, nil); err != nil || got != `{"new":true}` {
		t.Errorf("ok: result %s, error %v", got, err)
	}
	if got, err := run(Task{Type: "retained", Retention: time.Minute}, nil); err != nil || got != `"kept"` {
		t.Errorf("retained: result %s, error %v", got, err)
	}
	if _, err := run(Task{Type: "silent"}, nil); !errors.Is(err, ErrNoResult) {
		t.Errorf("silent: error %v, want ErrNoResult", err)
	}
	var failed *FailedError
	if _, err := run(Task{Type: "fail", MaxRetry: new(0)}, nil); !errors.As(err, &failed) || failed.Reason != "out of ink" {
		t.Errorf("fail: error %v, want a FailedError with its reason", err)
	}
	if _, err := run(Task{Type: "fail", MaxRetry: new(1)}, nil); !errors.As(err, &failed) {
		t.Errorf("fail after a retry: error %v, want a FailedError", err)
	}
}

func TestWaitTellsRetriesAndStops(t *testing.T) {
	client := embedded(t)
	c := newTestClient(t, client)
	server := asynq.NewServerFromRedisClient(client, asynq.Config{
		Concurrency: 1, Queues: map[string]int{"q": 1}, LogLevel: asynq.FatalLevel, TaskCheckInterval: 10 * time.Millisecond,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
	})
	if err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return errors.New("jam") })); err != nil {
		t.Fatalf("start the asynq server: %v", err)
	}
	defer server.Shutdown()
	info, err := c.Enqueue(t.Context(), Task{Queue: "q", Type: "x", Payload: json.RawMessage("1")})
	if err != nil {
		t.Fatalf("enqueue: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var retries []Retry
	_, err = c.Wait(ctx, "q", info.ID, WaitOptions{OnRetry: func(r Retry) { retries = append(retries, r); cancel() }})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "it stays in the queue") {
		t.Errorf("error %v, want one that wraps context.Canceled and tells that the task stays", err)
	}
	if len(retries) != 1 || retries[0].Reason != "jam" || retries[0].Retried != 1 || retries[0].MaxRetry != 25 {
		t.Errorf("retries %+v, want one of 25 with its reason", retries)
	}
}

func TestWaitTellsOnceThatNoWorkerTakesTheTask(t *testing.T) {
	client := embedded(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := newTestClient(t, client)
	info, err := c.Enqueue(ctx, Task{Queue: "q", Type: "t", Payload: json.RawMessage("1")})
	if err != nil {
		t.Fatalf("enqueue: %v", err)
	}
	calls := 0
	if _, err := c.Wait(ctx, "q", info.ID, WaitOptions{OnPending: func() { calls++; cancel() }}); !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("OnPending was called %d times, want once; error %v", calls, err)
	}
}

func TestWaitShowsProgress(t *testing.T) {
	client := embedded(t)
	ctx := t.Context()
	set := func(key string, fields ...any) {
		if err := client.HSet(ctx, key, fields...).Err(); err != nil {
			t.Errorf("write %s: %v", key, err)
		}
	}
	task := func(state string) { set(taskKey("q", "a"), "state", state) }
	view := func(queue, state, progress, message string) {
		set(viewKey("a"), "queue", queue, "state", state, "progress", progress, "progress_message", message)
	}
	task("active")
	// Each call of OnProgress leads to the next step.
	steps := []struct {
		set  func()
		want Progress // what OnProgress is called with then
	}{
		{func() { view("q", "active", "0.4", "epoch 4") }, Progress{0.4, "epoch 4"}},
		{func() { view("q", "active", "0.4", "epoch 5") }, Progress{0.4, "epoch 5"}},
		{func() { view("q", "active", "7", "") }, Progress{1, ""}},
		{func() { view("q", "active", "nonsense", "words") }, Progress{-1, "words"}},
		{func() { task("scheduled") }, Progress{-1, ""}},
		{func() { view("q", "active", "0.5", "second attempt"); task("active") }, Progress{0.5, "second attempt"}},
		{func() { view("other", "active", "0.9", "") }, Progress{-1, ""}},
		{func() { view("q", "active", "0.8", "") }, Progress{0.8, ""}},
		{func() { view("q", "retry", "0.8", "") }, Progress{-1, ""}},
	}
	calls := 0
	steps[0].set()
	result, err := newTestClient(t, client).Wait(ctx, "q", "a", WaitOptions{OnProgress: func(p Progress) {
		if calls == len(steps) || p != steps[calls].want {
			t.Errorf("progress %+v at step %d, which is not what was expected", p, calls)
			client.Set(ctx, resultKey("a"), "0", 0)
			return
		}
		if calls++; calls < len(steps) {
			steps[calls].set()
			return
		}
		client.Set(ctx, resultKey("a"), "1", 0)
	}})
	if err != nil || string(result) != "1" || calls != len(steps) {
		t.Errorf("result %s, error %v, OnProgress was called %d times, want %d", result, err, calls, len(steps))
	}
}
