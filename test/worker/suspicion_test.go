package worker

import (
	"fmt"
	"path/filepath"
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

// suspect enqueues a task that was there too often when the process died: it runs alone.
func suspect(t *testing.T, q *harness.Queue, taskType string, payload any) string {
	t.Helper()
	id := q.Enqueue(taskType, payload, asynq.MaxRetry(0), asynq.ProcessIn(time.Hour))
	if err := q.Redis.HSet(t.Context(), "asynq:{"+harness.QueueName+"}:t:"+id, "suspicions", 3).Err(); err != nil {
		t.Fatalf("set the suspicions of task %s: %v", id, err)
	}
	q.RunTogether(harness.Scheduled{Queue: harness.QueueName, ID: id})
	return id
}

// awaitsFiles are tasks that wait for a file: "await" then answers with the pid, fails, or says that the process is broken. Its
// check takes as long as the file "hangs" is in its folder.
const awaitsFiles = `
import asyncio, os, sys
from runqy import Broken, health, run, task

running = []

@health
async def check():
    sys.stderr.write("overlap\n" if running else "check\n")
    while os.path.exists("hangs"):
        await asyncio.sleep(0.005)

@task("await")
async def wait(payload):
    running.append(1)
    try:
        while not os.path.exists(payload["file"]):
            await asyncio.sleep(0.005)
        if payload.get("then") == "break":
            raise Broken("CUDA error")
        if payload.get("then") == "fail":
            raise ValueError("boom")
        return os.getpid()
    finally:
        running.pop()

run()
`

// startsAwaiting is a worker with these tasks, and says what a file of its folder is called.
func startsAwaiting(t *testing.T, url string, set harness.Settings) (w *harness.Worker, file func(string) string) {
	t.Helper()
	dir := t.TempDir()
	file = func(name string) string { return filepath.Join(dir, name) }
	harness.WriteFile(t, file("main.py"), awaitsFiles)
	set["python.command"], set["python.dir"], set["worker.concurrency"] = []string{"python3", "main.py"}, dir, 8
	return harness.StartWorker(t, url, set), file
}

// A suspect and the checks of its process take turns, whichever of them comes first: none runs beside the other, and both do.
func TestSuspectBesideChecks(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w, file := startsAwaiting(t, server.URL, harness.Settings{"python.check_interval": "100ms", "python.check_timeout": "1m"})
	q.PythonPID(w.ID)
	checks := func() int { return strings.Count(w.Log.String(), `"msg":"check"`) }
	long := q.Enqueue("await", map[string]any{"file": "ends"}, asynq.MaxRetry(0))
	fails := q.Enqueue("await", map[string]any{"file": "fails", "then": "fail"}, asynq.MaxRetry(5))
	q.AwaitState(long, asynq.TaskStateActive)
	q.AwaitState(fails, asynq.TaskStateActive)
	alone := suspect(t, q, "await", map[string]any{"file": "goes"})
	q.AwaitState(alone, asynq.TaskStateActive) // it waits
	harness.WriteFile(t, file("hangs"), "")
	harness.WriteFile(t, file("fails"), "") // after which a check is due
	q.AwaitState(fails, asynq.TaskStateRetry)
	before := checks()
	harness.WriteFile(t, file("ends"), "")
	q.Result(long)
	runs := func() bool { return w.Log.Find("task runs alone") != nil }
	harness.Eventually(t, "the check or the suspect has begun", func() error {
		if !runs() && checks() == before {
			return harness.NotYet(w, "neither")
		}
		return nil
	})
	if checks() > before { // it hangs
		harness.Consistently(t, time.Second, func() error {
			if runs() {
				return harness.NotYet(w, "the suspect runs during a check")
			}
			return nil
		})
	}
	remove(t, file("hangs"))
	harness.Eventually(t, "the suspect runs", func() error {
		if line := w.Log.Find("task runs alone"); line == nil || !strings.Contains(fmt.Sprint(line), alone) {
			return harness.NotYet(w, "the log has the line %v", line)
		}
		return nil
	})
	harness.WriteFile(t, file("goes"), "")
	q.Result(alone)
	harness.Eventually(t, "checks go on", func() error {
		if n := checks(); n <= before {
			return harness.NotYet(w, "%d checks", n)
		}
		return nil
	})
	if strings.Contains(w.Log.String(), "overlap") {
		t.Error("a check was sent while a task ran")
	}
	q.AwaitHeartbeat(w.ID, "healthy=true", "crashes=0")
	w.Stop()
}

// A suspect that waits to run alone in a process that then breaks goes back, uncharged, and runs alone in the next one.
func TestSuspectBesideABrokenProcess(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w, file := startsAwaiting(t, server.URL, harness.Settings{})
	first := q.PythonPID(w.ID)
	long := q.Enqueue("await", map[string]any{"file": "ends"}, asynq.MaxRetry(0))
	broken := q.Enqueue("await", map[string]any{"file": "breaks", "then": "break"}, asynq.MaxRetry(5))
	q.AwaitState(long, asynq.TaskStateActive)
	q.AwaitState(broken, asynq.TaskStateActive)
	alone := suspect(t, q, "await", map[string]any{"file": "ends"})
	q.AwaitState(alone, asynq.TaskStateActive) // it waits
	harness.WriteFile(t, file("breaks"), "")
	q.AwaitState(broken, asynq.TaskStateRetry)
	q.AwaitState(alone, asynq.TaskStatePending)
	if view := q.Redis.HMGet(t.Context(), "asynq:{"+harness.QueueName+"}:t:"+alone, "suspicions", "crashes").Val(); view[0] != "3" || view[1] != nil {
		t.Errorf("the suspicions and crashes of the suspect are %v, want 3 and none", view)
	}
	if line := w.Log.Find("task runs alone"); line != nil {
		t.Errorf("it runs in the broken process: %v", line)
	}
	harness.WriteFile(t, file("ends"), "")
	if got := q.Result(long); got != strconv.Itoa(first) {
		t.Errorf("the task that ran on answers %s, want the process %d", got, first)
	}
	if got := q.Result(alone); got == strconv.Itoa(first) || got == "" {
		t.Errorf("the suspect ran in process %s, which was broken", got)
	}
	if line := w.Log.Find("task runs alone"); line == nil || !strings.Contains(fmt.Sprint(line), alone) {
		t.Errorf("the log has the line %v, want one of the suspect", line)
	}
	q.AwaitHeartbeat(w.ID, "healthy=true", "crashes=1", "restarts=1")
	w.Stop()
}
