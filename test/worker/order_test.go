package worker

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// Retry(delay=0) is due at once: 0 is a value, not the absence of one.
func TestRetryAtOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	q.PythonPID(w.ID)
	task := q.Enqueue("later", map[string]any{"delay": 0}, asynq.MaxRetry(3), asynq.Retention(time.Hour))
	// asynq's own delay is 15 s at least; a due task is forwarded within a second.
	if got := q.ResultWithin(10*time.Second, task); got != `"now"` {
		t.Errorf("result %s, want %s", got, `"now"`)
	}
	if info := q.AwaitState(task, asynq.TaskStateCompleted); info.Retried != 1 {
		t.Errorf("the task is %s, want one retry", q.Describe(task))
	}
	w.Stop()
}

// Strict priority holds from the first task on after a wait that is longer than any single one: for a process that
// loads its model.
func TestStrictPriorityAfterLoading(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	file := filepath.Join(t.TempDir(), "ran")
	var want []string
	for _, queue := range []string{"high", "low"} {
		for range 5 {
			want = append(want, q.Enqueue("note", map[string]any{"file": file}, asynq.Queue(queue))+" 0")
		}
	}
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"worker.queues": map[string]int{"high": 10, "low": 1}, "worker.strict_priority": true,
		"python.command": []string{"sh", "-c", `sleep 7; exec python3 "$0"`, harness.TaskFile(t, "sync.py")},
	})
	harness.Eventually(t, "all tasks have run", func() error { return wantRuns(t, file, len(want)) })
	if got := harness.ReadLines(t, file); !slices.Equal(got, want) {
		t.Errorf("the order was\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	w.Stop()
}

// An idle worker with one slot that finds a task in each of two queues at once runs that of the higher one first, and
// the other one is not lost in its hands.
func TestStrictPriorityAfterIdling(t *testing.T) {
	t.Parallel()
	const rounds = 10
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	file := filepath.Join(t.TempDir(), "ran")
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"worker.queues": map[string]int{"high": 10, "low": 1}, "worker.strict_priority": true,
	})
	q.PythonPID(w.ID)
	queues := []string{"low", "high"}
	for n := range rounds {
		awaitIdle(t, q, queues...)
		var tasks []harness.Scheduled
		for _, queue := range queues {
			id := q.Enqueue("note", map[string]any{"file": file, "seconds": 0.05}, asynq.Queue(queue), asynq.ProcessIn(time.Hour))
			tasks = append(tasks, harness.Scheduled{Queue: queue, ID: id})
		}
		q.RunTogether(tasks...)
		harness.Eventually(t, "both tasks have run", func() error { return wantRuns(t, file, 2*n+2) })
		if got := harness.ReadLines(t, file)[2*n]; got != tasks[1].ID+" 0" {
			t.Errorf("round %d: %q ran first, want %s of the higher queue", n, got, tasks[1].ID)
		}
	}
	w.Stop()
}

// awaitIdle waits until the only worker is idle: nothing of its queues is active, it waits for a task in each, and has
// asked for none since the last look.
func awaitIdle(t *testing.T, q *harness.Queue, queues ...string) {
	t.Helper()
	before := -1
	harness.Eventually(t, "the worker is idle", func() error {
		var active int64
		for _, queue := range queues {
			active += q.Redis.LLen(t.Context(), "asynq:{"+queue+"}:active").Val()
		}
		now := q.RedisFigures()
		cycles := now.Sum("evalsha", "eval", "fcall")
		same := cycles == before
		before = cycles
		if active > 0 || now.Blocked != len(queues) || !same {
			return fmt.Errorf("%d tasks are active, it waits in %d queues, and has made %d cycles", active, now.Blocked, cycles)
		}
		return nil
	})
}
