package worker

import (
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// The view of a task lives as long as the task, however short the life of results is, and for that long afterwards.
func TestViewOutlivesItsTask(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"results.ttl": "2s"})
	q.PythonPID(w.ID)
	running := q.Enqueue("sleep", map[string]any{"seconds": 6})
	q.AwaitHeartbeat(w.ID, "active_task="+running)
	waiting := q.Enqueue("sleep", map[string]any{"seconds": 0})
	state := func(id, want string) error {
		if got := q.Redis.HGet(t.Context(), "asynq:t:"+id, "state").Val(); got != want {
			return harness.NotYet(w, "the view of task %s says %q, want %q", id, got, want)
		}
		return nil
	}
	harness.Eventually(t, "the views are there", func() error {
		if err := state(waiting, "pending"); err != nil {
			return err
		}
		return state(running, "active")
	})
	harness.Consistently(t, 4*time.Second, func() error { // twice as long as a result lives
		if err := state(waiting, "pending"); err != nil {
			return err
		}
		return state(running, "active")
	})
	harness.Eventually(t, "the running task has ended", func() error { return state(running, "completed") })
	harness.Eventually(t, "the views are gone", func() error { return state(running, "") })
	harness.Eventually(t, "the views are gone", func() error { return state(waiting, "") })
	w.Stop()
}
