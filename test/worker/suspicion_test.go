package worker

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// Of several tasks that run when the process dies none is proven guilty. Those that were there too often run alone:
// the innocent are completed, whatever their MaxRetry, and only the one that kills the process is archived.
func TestInnocentBesidePoison(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"python.command": python(t, "async.py"), "worker.concurrency": 8, "python.on_crash": "restart", "python.max_task_crashes": 3,
		"python.restart": map[string]any{"max": 100, "initial_delay": "50ms", "max_delay": "100ms"},
	})
	q.PythonPID(w.ID)
	var innocent []string
	for range 4 {
		innocent = append(innocent, q.Enqueue("wait", map[string]any{"seconds": 1.5, "file": "/dev/null"},
			asynq.MaxRetry(0), asynq.Retention(time.Hour)))
	}
	harness.Eventually(t, "the innocent run", func() error { return wantCount(t, q, "active", int64(len(innocent))) })
	poison := q.Enqueue("die", map[string]any{"seconds": 0.2}, asynq.MaxRetry(25))
	harness.EventuallyWithin(t, 2*harness.Timeout, "each task has ended", func() error {
		// Nobody waits for asynq's delays.
		if _, err := q.Inspector.RunAllRetryTasks(harness.QueueName); err != nil {
			return err
		}
		for _, id := range innocent {
			if info, err := q.Inspector.GetTaskInfo(harness.QueueName, id); err == nil && info.State == asynq.TaskStateArchived {
				return harness.Fatal("the innocent task is %s", q.Describe(id))
			}
		}
		if err := wantCount(t, q, "completed", int64(len(innocent))); err != nil {
			return harness.NotYet(w, "%v", err)
		}
		return wantCount(t, q, "archived", 1)
	})
	info := q.AwaitState(poison, asynq.TaskStateArchived)
	if !strings.Contains(info.LastErr, "3 times") || !strings.Contains(info.LastErr, "max_task_crashes") || !strings.Contains(info.LastErr, "SIGKILL") {
		t.Errorf("the poison's error is %q, want how often it crashed the process, the limit and the signal", info.LastErr)
	}
	view := q.Redis.HGetAll(t.Context(), "asynq:t:"+poison).Val()
	suspicions, err := strconv.Atoi(view["suspicions"])
	if view["crashes"] != "3" || err != nil || suspicions == 0 || view["state"] != "archived" {
		t.Errorf("the view of the poison is %q, want suspicions first, and 3 crashes while it ran alone", view)
	}
	all := strconv.Itoa(3 + suspicions)
	w.AwaitMetric(`runqy_worker_crashes_total{cause="signal"}`, all)
	q.AwaitHeartbeat(w.ID, "crashes="+all, "healthy=true")
	w.Stop()
}

// One asynchronous task that runs alone when the process dies is the cause: it is charged as any other.
func TestPoisonAlone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"python.command": python(t, "async.py"), "worker.concurrency": 8, "python.on_crash": "restart", "python.max_task_crashes": 2,
		"python.restart": map[string]any{"max": 100, "initial_delay": "50ms", "max_delay": "100ms"},
	})
	q.PythonPID(w.ID)
	poison := q.Enqueue("die", map[string]any{"seconds": 0}, asynq.MaxRetry(25))
	harness.Eventually(t, "the poison is archived", func() error {
		if _, err := q.Inspector.RunAllRetryTasks(harness.QueueName); err != nil {
			return err
		}
		return wantCount(t, q, "archived", 1)
	})
	if view := q.Redis.HGetAll(t.Context(), "asynq:t:"+poison).Val(); view["crashes"] != "2" || view["suspicions"] != "" && view["suspicions"] != "0" {
		t.Errorf("the view of the poison is %q, want 2 crashes and no suspicion", view)
	}
	w.Stop()
}
