package queue

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// asynqDeadline restates computeDeadline of the pinned asynq's processor.go, line by line.
func asynqDeadline(timeout, deadline int64, now time.Time) time.Time {
	if timeout == 0 && deadline == 0 {
		return now.Add(30 * time.Minute)
	}
	if timeout != 0 && deadline != 0 {
		deadlineUnix := math.Min(float64(now.Unix()+timeout), float64(deadline))
		return time.Unix(int64(deadlineUnix), 0)
	}
	if timeout != 0 {
		return now.Add(time.Duration(timeout) * time.Second)
	}
	return time.Unix(deadline, 0)
}

func FuzzEffectiveDeadline(f *testing.F) {
	const now = 1_700_000_000
	for _, timeout := range []int64{0, 1, -1, 1800, 1e10, math.MaxInt64, math.MinInt64} {
		for _, deadline := range []int64{0, 1, -1, now, now + 1, math.MaxInt64, math.MinInt64} {
			f.Add(timeout, deadline, int64(now), int64(999_999_999))
		}
	}
	f.Fuzz(func(t *testing.T, timeout, deadline, seconds, nanos int64) {
		now := time.Unix(seconds, nanos)
		if got, want := effectiveDeadline(timeout, deadline, now), asynqDeadline(timeout, deadline, now); !got.Equal(want) {
			t.Errorf("timeout %d, deadline %d, now %v: %v, asynq's %v", timeout, deadline, now, got, want)
		}
	})
}

// A real server of asynq's sees the same deadlines, and fails a task that is overdue before its handler is called.
func TestDeadlinesAreThoseOfAsynq(t *testing.T) {
	b := newCycleBench(t, redistest.Start(t).Client)
	now := time.Now()
	cases := [][]asynq.Option{
		{},
		{asynq.Timeout(time.Minute)},
		{asynq.Deadline(now.Add(time.Hour))},
		{asynq.Timeout(time.Minute), asynq.Deadline(now.Add(time.Hour))},
		{asynq.Timeout(time.Hour), asynq.Deadline(now.Add(time.Minute))},
		{asynq.Timeout(-time.Minute)},
		{asynq.Timeout(500 * time.Millisecond)}, // stored as 0: none
		{asynq.Deadline(now.Add(-time.Minute))},
		{asynq.Timeout(time.Minute), asynq.Deadline(now.Add(-time.Minute))},
		{asynq.Timeout(-time.Minute), asynq.Deadline(now.Add(time.Minute))},
	}
	ours := make(map[string]*message)
	for i, opts := range cases {
		id := fmt.Sprint(i)
		if _, err := b.asynq.Enqueue(asynq.NewTask("echo", nil), append(opts, asynq.Queue("q"), asynq.TaskID(id))...); err != nil {
			t.Fatal(err)
		}
		m, err := decodeMessage([]byte(b.redis.HGet(t.Context(), taskKey("q", id), "msg").Val()))
		if err != nil {
			t.Fatal(err)
		}
		ours[id] = m
	}
	var mu sync.Mutex
	theirs := make(map[string]time.Time)
	failures := make(map[string]string)
	runAsynq(t, b, func(ctx context.Context, task *asynq.Task) error {
		mu.Lock()
		defer mu.Unlock()
		theirs[task.ResultWriter().TaskID()], _ = ctx.Deadline()
		return nil
	}, func(ctx context.Context, err error) {
		mu.Lock()
		defer mu.Unlock()
		id, _ := asynq.GetTaskID(ctx)
		failures[id] = err.Error()
	}, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(theirs)+len(failures) == len(cases)
	})
	for id, m := range ours {
		deadline := effectiveDeadline(m.TimeoutSeconds, m.DeadlineUnix, now)
		if deadline.Before(now) {
			if _, called := theirs[id]; called || failures[id] != "context deadline exceeded" {
				t.Errorf("case %s is overdue, asynq called its handler: %v, its error: %q", id, called, failures[id])
			}
			continue
		}
		if d := theirs[id].Sub(deadline); d < -2*time.Second || d > time.Minute {
			t.Errorf("case %s: asynq's deadline is %v, ours %v", id, theirs[id], deadline)
		}
	}
}

// runAsynq runs a server of asynq's on the queue until the test has seen enough and nothing is active.
func runAsynq(t *testing.T, b *cycleBench, handler asynq.HandlerFunc, onError func(context.Context, error), enough func() bool) {
	t.Helper()
	server := asynq.NewServerFromRedisClient(b.redis, asynq.Config{
		Concurrency: 1, Queues: map[string]int{"q": 1}, LogLevel: asynq.FatalLevel, TaskCheckInterval: 5 * time.Millisecond,
		DelayedTaskCheckInterval: time.Hour,
		RetryDelayFunc:           func(int, error, *asynq.Task) time.Duration { return time.Minute },
		ErrorHandler: asynq.ErrorHandlerFunc(func(ctx context.Context, _ *asynq.Task, err error) {
			if onError != nil {
				onError(ctx, err)
			}
		}),
	})
	if err := server.Start(handler); err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	until := time.Now().Add(30 * time.Second)
	for !enough() || len(b.list(activeKey("q"))) > 0 {
		if time.Now().After(until) {
			t.Fatalf("asynq has not ended its tasks; active %v, pending %v", b.list(activeKey("q")), b.list(pendingKey("q")))
		}
		time.Sleep(5 * time.Millisecond)
	}
}
