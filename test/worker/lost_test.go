package worker

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// Ids whose task is gone, evicted or deleted, leave the queue's lists and are counted: those that waited and those that
// ran.
func TestLostTasksAreCounted(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	q.PythonPID(w.ID)
	prefix := "asynq:{" + harness.QueueName + "}:"
	file := filepath.Join(t.TempDir(), "ran")
	running := q.Enqueue("note", map[string]any{"file": file, "seconds": 2})
	harness.Eventually(t, "the handler has begun", func() error { return wantRuns(t, file, 1) })
	if err := q.Redis.LPush(t.Context(), prefix+"pending", "ghost-1", "ghost-2").Err(); err != nil {
		t.Fatalf("push ids without a task: %v", err)
	}
	if err := q.Redis.Del(t.Context(), prefix+"t:"+running).Err(); err != nil {
		t.Fatalf("delete a task: %v", err)
	}
	next := q.Enqueue("echo", "next")
	if got := q.Result(next); got != `"next"` {
		t.Errorf("the next task has the result %s, want %s", got, `"next"`)
	}
	q.AwaitEmpty()
	harness.Eventually(t, "nothing is active", func() error { return wantSlotsFree(t, q) })
	const sample = `runqy_tasks_lost_total{queue="` + harness.QueueName + `"}`
	harness.EventuallyWithin(t, harness.Timeout/4, "the lost tasks are counted", func() error {
		if n, known := harness.Samples(t, w.Addr())[sample]; n != 3 {
			return fmt.Errorf("%s is %v, known: %v; want 3", sample, n, known)
		}
		return nil
	})
	w.Stop()
}
