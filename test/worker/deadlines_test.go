package worker

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

const overdueText = "context deadline exceeded"

// A task that is overdue when it is taken ends as asynq ends it, without a call of its handler, and frees its slot.
func TestOverdueWhenTaken(t *testing.T) {
	t.Parallel()
	past := time.Now().Add(-time.Minute)
	for name, opts := range map[string][]asynq.Option{
		"a negative timeout":                   {asynq.Timeout(time.Until(past))},
		"a deadline in the past":               {asynq.Deadline(past)},
		"a timeout and a deadline in the past": {asynq.Timeout(time.Second), asynq.Deadline(past)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			q := harness.NewQueue(t, server.Client)
			w := harness.StartWorker(t, server.URL, nil)
			q.PythonPID(w.ID)
			file := filepath.Join(t.TempDir(), "ran")
			overdue := func(maxRetry int) string {
				return q.Enqueue("note", map[string]any{"file": file}, append([]asynq.Option{asynq.MaxRetry(maxRetry)}, opts...)...)
			}
			once, again := overdue(0), overdue(3)
			next := q.Enqueue("echo", "next")
			if got := q.ResultWithin(harness.Timeout/2, next); got != `"next"` {
				t.Errorf("the next task has the result %s, want %s", got, `"next"`)
			}
			if info := q.AwaitState(once, asynq.TaskStateArchived); info.LastErr != overdueText || info.Retried != 0 {
				t.Errorf("without retries: %s, want %q", q.Describe(once), overdueText)
			}
			if info := q.AwaitState(again, asynq.TaskStateRetry); info.LastErr != overdueText || info.Retried != 1 {
				t.Errorf("with retries: %s, want one retry and %q", q.Describe(again), overdueText)
			}
			if ran := harness.ReadLines(t, file); ran[0] != "" {
				t.Errorf("the handler ran: %q, want no run", ran)
			}
			harness.Eventually(t, "nothing is active", func() error { return wantSlotsFree(t, q) })
			w.Stop()
		})
	}
}

// A deadline is a point in time, so it passes while a task waits; the task then ends without a call of its handler,
// wherever it waited.
func TestOverdueWhileWaiting(t *testing.T) {
	t.Parallel()
	for name, concurrency := range map[string]int{"in the queue": 1, "in the process": 8} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			q := harness.NewQueue(t, server.Client)
			w := harness.StartWorker(t, server.URL, harness.Settings{"worker.concurrency": concurrency})
			q.PythonPID(w.ID)
			file := filepath.Join(t.TempDir(), "ran")
			first := q.Enqueue("note", map[string]any{"file": file, "seconds": 3})
			harness.Eventually(t, "the first task runs", func() error { return wantRuns(t, file, 1) })
			overdue := q.Enqueue("note", map[string]any{"file": file},
				asynq.MaxRetry(0), asynq.Timeout(time.Second), asynq.Deadline(time.Now().Add(time.Second)))
			next := q.Enqueue("note", map[string]any{"file": file, "n": 7})
			if info := q.AwaitStateWithin(harness.Timeout/2, overdue, asynq.TaskStateArchived); !strings.Contains(info.LastErr, overdueText) {
				t.Errorf("the overdue task: %s, want %q in its error", q.Describe(overdue), overdueText)
			}
			q.Result(first)
			if got := q.Result(next); got != "7" {
				t.Errorf("the next task has the result %s, want 7", got)
			}
			if err := wantRuns(t, file, 2); err != nil || strings.Contains(harness.ReadFile(t, file), overdue) {
				t.Errorf("runs %q (%v), want two and none of the overdue task", harness.ReadLines(t, file), err)
			}
			q.AwaitHeartbeat(w.ID, "crashes=0", "restarts=0")
			w.Stop()
		})
	}
}

// With both a timeout and a deadline asynq counts in whole seconds, so just before a full one a timeout of 1 s is over
// at once. Such a task ends, and nothing is stuck.
func TestTimeoutAtTheEndOfASecond(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"worker.concurrency": 4})
	q.PythonPID(w.ID)
	var ids []string
	for range 3 {
		end := time.Now().Add(time.Second).Truncate(time.Second)
		time.Sleep(time.Until(end.Add(-20 * time.Millisecond)))
		for time.Now().Before(end) {
			ids = append(ids, q.Enqueue("echo", 1, asynq.MaxRetry(0), asynq.Timeout(time.Second), asynq.Deadline(end.Add(time.Hour))))
		}
	}
	q.AwaitEmptyWithin(harness.Timeout / 2)
	harness.Eventually(t, "nothing is active", func() error { return wantSlotsFree(t, q) })
	overdue := 0
	for _, id := range ids {
		if q.Redis.Exists(t.Context(), "asynq:result:"+id).Val() == 1 {
			continue
		}
		overdue++
		if info := q.AwaitState(id, asynq.TaskStateArchived); !strings.Contains(info.LastErr, overdueText) {
			t.Errorf("task %s: %s, want a result or %q", id, q.Describe(id), overdueText)
		}
	}
	t.Logf("%d of %d tasks were overdue", overdue, len(ids))
	q.AwaitHeartbeat(w.ID, "crashes=0", "restarts=0")
	w.Stop()
}
