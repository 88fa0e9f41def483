package worker

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// Synchronous handlers run in order, so a crash is charged to the oldest task alone; those behind it run untouched.
func TestCrashChargesTheOldest(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"worker.concurrency": 3})
	pid := q.PythonPID(w.ID)
	file := filepath.Join(t.TempDir(), "ran")
	oldest := q.Enqueue("note", map[string]any{"file": file, "seconds": 600}, asynq.MaxRetry(0))
	q.AwaitHeartbeat(w.ID, "active_task="+oldest)
	harness.Eventually(t, "the handler has begun", func() error { return wantRuns(t, file, 1) })
	behind := []string{
		q.Enqueue("note", map[string]any{"file": file, "n": 1}, asynq.MaxRetry(0)),
		q.Enqueue("note", map[string]any{"file": file, "n": 2}, asynq.MaxRetry(0)),
	}
	awaitTaken(t, q, w, behind[0])
	harness.Kill(t, pid, syscall.SIGKILL)
	if info := q.AwaitState(oldest, asynq.TaskStateArchived); !strings.Contains(info.LastErr, "SIGKILL") {
		t.Errorf("the running task is %s, want SIGKILL in its error", q.Describe(oldest))
	}
	for _, id := range behind {
		q.AwaitState(id, asynq.TaskStatePending)
		checkUntouched(t, q, id)
	}
	q.AwaitHeartbeat(w.ID, "status=degraded", "processed=1", "failed=1")
	if out := w.Command("restart", w.ID); out.Code != 0 {
		t.Fatalf("restart: %+v, want exit code 0", out)
	}
	if got := q.Result(behind[0]) + q.Result(behind[1]); got != "12" {
		t.Errorf("results %s, want %s", got, "12")
	}
	// Those behind are given back one by one, so their order may change; each ran once, as if for the first time.
	lines := harness.ReadLines(t, file)
	want := []string{oldest + " 0", behind[0] + " 0", behind[1] + " 0"}
	slices.Sort(lines)
	if slices.Sort(want); !slices.Equal(lines, want) {
		t.Errorf("ran %q, want %q", lines, want)
	}
	w.Stop()
}

// What waits behind a task that outlives the shutdown timeout is given back like it.
func TestDrainGivesBackAll(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"worker.concurrency": 3, "worker.shutdown_timeout": "500ms"})
	q.PythonPID(w.ID)
	var ids []string
	for range 4 {
		ids = append(ids, q.Enqueue("sleep", map[string]any{"seconds": 600}, asynq.MaxRetry(0)))
	}
	awaitTaken(t, q, w, ids[1])
	w.Stop()
	for _, id := range ids {
		q.AwaitState(id, asynq.TaskStatePending)
		checkUntouched(t, q, id)
	}
}

// awaitTaken waits until the worker has taken a task that cannot begin, or may have taken it and given it back.
func awaitTaken(t *testing.T, q *harness.Queue, w *harness.Worker, id string) {
	t.Helper()
	const most = 3 * time.Second
	began := time.Now()
	harness.Eventually(t, "the worker takes task "+id, func() error {
		owner := q.Redis.HGet(t.Context(), "asynq:{"+harness.QueueName+"}:t:"+id, "owner").Val()
		if !strings.HasPrefix(owner, w.ID+"|") && time.Since(began) < most {
			return harness.NotYet(w, "its owner is %q", owner)
		}
		return nil
	})
}

func checkUntouched(t *testing.T, q *harness.Queue, id string) {
	t.Helper()
	info, err := q.Inspector.GetTaskInfo(harness.QueueName, id)
	if err != nil {
		t.Fatalf("look up task %s: %v", id, err)
	}
	if info.Retried != 0 || info.LastErr != "" {
		t.Errorf("task %s is %s, want no retry and no error", id, q.Describe(id))
	}
}

// Asynchronous tasks run side by side, and all of them are in the heartbeat.
func TestAsyncTasksRunConcurrently(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"python.command": []string{"python3", harness.TaskFile(t, "async.py")}, "worker.concurrency": 10})
	pid := q.PythonPID(w.ID)
	var ids []string
	for range 10 {
		ids = append(ids, q.Enqueue("wait", map[string]any{"seconds": 600, "file": "/dev/null"}, asynq.MaxRetry(1)))
	}
	q.AwaitHeartbeat(w.ID, "active_task="+ids[0], "state=BUSY")
	harness.Eventually(t, "all tasks are in the heartbeat", func() error {
		list := q.Heartbeat(w.ID)["active_tasks"]
		for _, id := range ids {
			if !strings.Contains(list, id) {
				return harness.NotYet(w, "active_tasks is %s", list)
			}
		}
		return nil
	})
	w.AwaitMetric("runqy_worker_active_tasks", "10")
	harness.Kill(t, pid, syscall.SIGKILL)
	for _, id := range ids { // all of them were running, and which one took the process down is not known
		harness.Eventually(t, "task "+id+" is suspected", func() error {
			view := q.Redis.HGetAll(t.Context(), "asynq:t:"+id).Val()
			if view["suspicions"] != "1" || !strings.Contains(view["error"], "SIGKILL") || view["worker"] != "" {
				return harness.NotYet(w, "its view is %v", view)
			}
			return nil
		})
		if info, err := q.Inspector.GetTaskInfo(harness.QueueName, id); err != nil || info.Retried != 0 || info.LastErr != "" {
			t.Errorf("task %s is %s (%v), want it uncharged", id, q.Describe(id), err)
		}
	}
	w.AwaitMetric("runqy_worker_active_tasks", "0")
	w.Stop()
}
