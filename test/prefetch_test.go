package test

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// Synchronous handlers run in order, so a crash is charged to the oldest task alone; those behind it run untouched.
func TestCrashChargesTheOldest(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, settings{"worker.concurrency": 3})
	pid := q.pythonPID(w.ID)
	file := filepath.Join(t.TempDir(), "ran")
	oldest := q.enqueue("note", map[string]any{"file": file, "seconds": 600}, asynq.MaxRetry(0))
	q.beats(w.ID, "active_task="+oldest)
	eventually(t, "the handler has begun", func() error { return wantRuns(t, file, 1) })
	behind := []string{
		q.enqueue("note", map[string]any{"file": file, "n": 1}, asynq.MaxRetry(0)),
		q.enqueue("note", map[string]any{"file": file, "n": 2}, asynq.MaxRetry(0)),
	}
	q.inState(behind[1], asynq.TaskStateActive)
	kill(t, pid, syscall.SIGKILL)
	if info := q.inState(oldest, asynq.TaskStateArchived); !strings.Contains(info.LastErr, "SIGKILL") {
		t.Errorf("the running task: %s", q.describe(oldest))
	}
	for _, id := range behind {
		q.inState(id, asynq.TaskStatePending)
		checkUntouched(t, q, id)
	}
	q.beats(w.ID, "status=degraded", "processed=1", "failed=1")
	if out := w.command("restart", w.ID); out.Code != 0 {
		t.Fatalf("restart: %+v", out)
	}
	if got := q.result(behind[0]) + q.result(behind[1]); got != "12" {
		t.Errorf("results %s", got)
	}
	// Those behind are given back one by one, so their order may change; each ran once, as if for the first time.
	lines := readLines(t, file)
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
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, settings{"worker.concurrency": 3, "worker.shutdown_timeout": "500ms"})
	q.pythonPID(w.ID)
	var ids []string
	for range 4 {
		ids = append(ids, q.enqueue("sleep", map[string]any{"seconds": 600}, asynq.MaxRetry(0)))
	}
	q.inState(ids[2], asynq.TaskStateActive)
	w.Stop()
	for _, id := range ids {
		q.inState(id, asynq.TaskStatePending)
		checkUntouched(t, q, id)
	}
}

func checkUntouched(t *testing.T, q *queueUser, id string) {
	t.Helper()
	info, err := q.inspector.GetTaskInfo(queueName, id)
	if err != nil {
		t.Fatal(err)
	}
	if info.Retried != 0 || info.LastErr != "" {
		t.Errorf("task %s is not untouched: %s", id, q.describe(id))
	}
}

// Asynchronous tasks run side by side, and all of them are in the heartbeat.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, settings{"python.command": []string{"python3", taskFile(t, "async.py")}, "worker.concurrency": 10})
	pid := q.pythonPID(w.ID)
	var ids []string
	for range 10 {
		ids = append(ids, q.enqueue("wait", map[string]any{"seconds": 600, "file": "/dev/null"}, asynq.MaxRetry(1)))
	}
	q.beats(w.ID, "active_task="+ids[0], "state=BUSY")
	eventually(t, "all tasks are in the heartbeat", func() error {
		list := q.beat(w.ID)["active_tasks"]
		for _, id := range ids {
			if !strings.Contains(list, id) {
				return fatalUntil(w, "active_tasks is %s", list)
			}
		}
		return nil
	})
	w.metric("runqy_worker_active_tasks", "10")
	kill(t, pid, syscall.SIGKILL)
	for _, id := range ids { // all of them were running
		if info := q.inState(id, asynq.TaskStateRetry); !strings.Contains(info.LastErr, "SIGKILL") {
			t.Errorf("%s", q.describe(id))
		}
	}
	w.metric("runqy_worker_active_tasks", "0")
	w.Stop()
}
