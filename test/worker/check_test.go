package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// childFile is the path of a process of test/children.
func childFile(t *testing.T, name string) string {
	t.Helper()
	return harness.RepositoryFile(t, filepath.Join("test", "children", name))
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatalf("remove a file: %v", err)
	}
}

// A failing check shows everywhere with its text, and no task is taken; when it passes again, all is well.
func TestFailingCheckShows(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	path := filepath.Join(t.TempDir(), "says")
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"python.command": []string{"python3", childFile(t, "fails_check.py"), path}, "python.check_interval": "200ms",
		"python.check_failures": 1_000_000,
	})
	q.AwaitHeartbeat(w.ID, "healthy=true", "status=running")
	harness.WriteFile(t, path, "the licence has run out")
	q.AwaitHeartbeat(w.ID, "healthy=false", "status=running", "state=BUSY")
	q.AwaitReason(w.ID, "its check fails: the licence has run out")
	w.AwaitAnswer("/health", 503, harness.UnhealthyBody)
	w.AwaitAnswer("/readyz", 503, "")
	w.AwaitAnswer("/livez", 200, "")
	w.AwaitMetric("runqy_worker_healthy", "0")
	if code, body := harness.Get(t, "http://"+w.Addr()+"/health?verbose=1"); !strings.Contains(body, "licence") {
		t.Errorf("/health?verbose=1 answers %d %s, want the check's text", code, body)
	}
	id := q.Enqueue("echo", 1)
	harness.Consistently(t, time.Second, func() error {
		if got := q.Heartbeat(w.ID)["processed"]; got != "0" {
			return fmt.Errorf("%s tasks were processed, want none", got)
		}
		return nil
	})
	remove(t, path)
	if got := q.Result(id); got != "1" {
		t.Errorf("the task that waited: %s", got)
	}
	q.AwaitHeartbeat(w.ID, "healthy=true", "crashes=0", "restarts=0")
}

func TestCheckThatFailsInARowDegrades(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	path := filepath.Join(t.TempDir(), "says")
	harness.WriteFile(t, path, "hang")
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"python.command": []string{"python3", childFile(t, "fails_check.py"), path}, "python.check_interval": "200ms",
		"python.check_timeout": "2s",
	})
	q.AwaitHeartbeat(w.ID, "healthy=false", "status=degraded", "crashes=1")
	q.AwaitReason(w.ID, "has not ended after 2s")
	if line := w.Log.Find("python process stacks"); line == nil || !strings.Contains(fmt.Sprint(line), "fails_check.py") ||
		!strings.Contains(fmt.Sprint(line), " in check") {
		t.Errorf("the log has the line %v, want one that says where the check hangs", line)
	}
	w.AwaitMetric(`runqy_worker_crashes_total{cause="check"}`, "1")
	if out := w.Command("restart", w.ID); out.Code != 1 || !strings.Contains(out.ErrOut, "its check fails") {
		t.Errorf("restart into the same: %+v, want exit code 1 and the check", out)
	}
	remove(t, path)
	if out := w.Command("restart", w.ID); out.Code != 0 {
		t.Errorf("restart: %+v", out)
	}
}

// The task that breaks the process is retried, those that wait behind it go on as if nothing had happened, in another
// process.
func TestBrokenProcessIsReplaced(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	gate := filepath.Join(t.TempDir(), "go")
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"python.command": []string{"python3", childFile(t, "breaks.py"), gate}, "worker.concurrency": 8,
	})
	first := q.PythonPID(w.ID)
	broken := q.Enqueue("break", true, asynq.MaxRetry(5))
	q.AwaitHeartbeat(w.ID, "active_task="+broken)
	var behind []string
	for range 5 {
		behind = append(behind, q.Enqueue("pid", nil, asynq.MaxRetry(0))) // an attempt that counted would archive it
	}
	harness.WriteFile(t, gate, "")
	info := q.AwaitState(broken, asynq.TaskStateRetry)
	if info.Retried != 1 || !strings.HasPrefix(info.LastErr, "Broken: CUDA error") {
		t.Errorf("the task that broke it: retried %d, error %q", info.Retried, info.LastErr)
	}
	for _, id := range behind {
		if got := q.Result(id); got == strconv.Itoa(first) || got == "" {
			t.Errorf("task %s ran in process %s, which was broken", id, got)
		}
	}
	w.AwaitMetric(`runqy_worker_crashes_total{cause="broken"}`, "1")
	w.AwaitMetric(`runqy_worker_restarts_total{cause="crash"}`, "1")
	w.AwaitAnswer("/health", 200, harness.HealthyBody)
	for _, line := range strings.Split(w.Log.String(), "\n") {
		if strings.Contains(line, "began") && strings.Contains(line, strconv.Itoa(first)) {
			t.Errorf("a task began in the broken process: %s", line)
		}
	}

	// Under on_crash: degrade, the default, that is done once within the window.
	second := q.Enqueue("break", nil, asynq.MaxRetry(5))
	q.AwaitHeartbeat(w.ID, "status=degraded", "healthy=false")
	q.AwaitReason(w.ID, "CUDA error")
	q.AwaitState(second, asynq.TaskStateRetry)
}

// What on_crash says decides only what follows when a process was replaced as often as it may be: exit ends the worker.
func TestBrokenProcessesUnderExit(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"python.command": []string{"python3", childFile(t, "breaks.py"), "none"}, "python.on_crash": "exit",
		"python.restart": map[string]any{"max": 1, "initial_delay": "50ms"},
	})
	q.AwaitState(q.Enqueue("break", nil, asynq.MaxRetry(5)), asynq.TaskStateRetry)
	q.AwaitHeartbeat(w.ID, "status=running", "healthy=true", "restarts=1", "crashes=1")
	q.Enqueue("break", nil, asynq.MaxRetry(5))
	if code := w.WaitExit(); code != 70 {
		t.Errorf("exit code %d, want 70", code)
	}
}

// The main thread leaves run() while a thread that is no daemon keeps the process alive.
func TestMainThreadThatLeavesIsACrash(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	tasks := filepath.Join(t.TempDir(), "main.py")
	harness.WriteFile(t, tasks, `
import threading
from runqy import run, task

@task("leak")
def leak(payload):
    threading.Thread(target=threading.Event().wait).start()

@task
def echo(payload):
    return payload

run()
`)
	w := harness.StartWorker(t, server.URL, harness.Settings{"python.command": []string{"python3", tasks}, "python.on_crash": "restart"})
	first := q.PythonPID(w.ID)
	q.Result(q.Enqueue("leak", nil))
	harness.Kill(t, first, syscall.SIGINT)
	q.AwaitHeartbeat(w.ID, "crashes=1") // what that process was handed meanwhile would wait to be retried
	if got := q.Result(q.Enqueue("echo", 5)); got != "5" {
		t.Errorf("a task after it: %s", got)
	}
	if pid := q.PythonPID(w.ID); pid == first {
		t.Error("the process without a main thread stays")
	}
	q.AwaitHeartbeat(w.ID, "crashes=1")
	if w.Log.Find("python process crashed") == nil || !strings.Contains(w.Log.String(), "SIGINT ended run()") {
		t.Error("the log does not say why")
	}
}

func TestMaxMemoryBelowTheLoadedSizeIsTold(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"python.max_memory": "2MiB"})
	first := q.PythonPID(w.ID)
	w.AwaitMetric("runqy_worker_recycling_suspended", "1")
	if got := q.Result(q.Enqueue("echo", 5)); got != "5" {
		t.Errorf("a task: %s", got)
	}
	if pid := q.PythonPID(w.ID); pid != first {
		t.Error("the process was replaced by one that is as large")
	}
	if w.Log.Find("recycling suspended") == nil {
		t.Error("no warning in the log")
	}
	harness.Eventually(t, "the dashboard says so", func() error {
		code, body := harness.Get(t, "http://"+w.Addr()+"/")
		if code != 200 || strings.Count(body, "after loading already, more than max_memory (2 MiB)") != 2 {
			return harness.NotYet(w, "/ answers %d, want a notice and a line beside the process:\n%s", code, body)
		}
		return nil
	})
}

// A replacement that waits for a long task says so, stays healthy and ends.
func TestReplacementThatWaitsIsToldAndBounded(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	gate := filepath.Join(t.TempDir(), "go")
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"python.command": []string{"python3", childFile(t, "breaks.py"), gate, "--async"}, "worker.concurrency": 4,
		"python.max_tasks": 2, "python.replace_timeout": "4s",
	})
	first := q.PythonPID(w.ID)
	long := q.Enqueue("wait", nil, asynq.MaxRetry(0))
	q.AwaitHeartbeat(w.ID, "active_task="+long)
	q.Result(q.Enqueue("pid", nil)) // the second and last of this process
	q.AwaitReason(w.ID, "planned replacement: max_tasks; it waits for a running task, for at most 4s")
	if _, body := harness.Get(t, "http://"+w.Addr()+"/readyz"); strings.Contains(body, "NOT_READY") && !strings.Contains(body, "waits for a running task") {
		t.Errorf("/readyz answers %s, want what is waited for", body)
	}
	harness.Eventually(t, "another process", func() error {
		if pid := q.Heartbeat(w.ID)["python_pid"]; pid == "" || pid == strconv.Itoa(first) {
			return fmt.Errorf("python_pid is %q", pid)
		}
		return nil
	})
	if info := q.AwaitState(long, asynq.TaskStateArchived); !strings.Contains(info.LastErr, "did not end within 4s") {
		t.Errorf("the long task failed with %q, want the limit", info.LastErr)
	}
	q.AwaitHeartbeat(w.ID, "crashes=0")
}
