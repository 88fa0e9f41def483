package worker

import (
	"fmt"
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

// kill -9 of the Python process: every view shows it, no task is taken, and a restart ends it.
func TestKilledPythonDegrades(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	first := q.PythonPID(w.ID)
	w.AwaitAnswer("/health", 200, harness.HealthyBody)
	w.AwaitAnswer("/readyz", 200, "")
	w.AwaitMetric("runqy_worker_healthy", "1")

	victim := q.Enqueue("sleep", map[string]any{"seconds": 600})
	q.AwaitHeartbeat(w.ID, "active_task="+victim)
	began := time.Now()
	harness.Kill(t, first, syscall.SIGKILL)

	took := harness.EventuallyWithin(t, 5*time.Second, "healthy is false in Redis", func() error {
		if got := q.Heartbeat(w.ID)["healthy"]; got != "false" {
			return fmt.Errorf("healthy is %q", got)
		}
		return nil
	})
	w.AwaitAnswer("/health", 503, harness.UnhealthyBody)
	w.AwaitMetric("runqy_worker_healthy", "0")
	info := q.AwaitState(victim, asynq.TaskStateRetry)
	t.Logf("after kill -9: healthy=false in Redis after %v; with /health, /metrics and the retry set after %v", took, time.Since(began))
	if !strings.Contains(info.LastErr, "SIGKILL") || info.Retried != 1 {
		t.Errorf("the task that was running: retried %d, error %q; want the evidence", info.Retried, info.LastErr)
	}
	q.AwaitHeartbeat(w.ID, "status=degraded", "python_pid=", "crashes=1", "active_task=", "state=BUSY", "failed=1")
	q.AwaitReason(w.ID, "SIGKILL")
	w.AwaitAnswer("/livez", 200, "")
	w.AwaitAnswer("/readyz", 503, "")
	w.AwaitMetric(`runqy_worker_crashes_total{cause="signal"}`, "1")
	if code, body := harness.Get(t, "http://"+w.Addr()+"/health?verbose=1"); code != 503 || !strings.Contains(body, "SIGKILL") || !strings.Contains(body, "development") {
		t.Errorf("/health?verbose=1 answers %d %s, want 503, SIGKILL and the environment", code, body)
	}

	// The view tells as well.
	harness.Eventually(t, "the view of the crashed task", func() error {
		view := server.Client.HGetAll(t.Context(), "asynq:t:"+victim).Val()
		if view["state"] != "retry" || view["crashes"] != "1" || view["retried"] != "1" || !strings.Contains(view["error"], "SIGKILL") {
			return fmt.Errorf("%q", view)
		}
		return nil
	})

	if err := q.Inspector.DeleteTask(harness.QueueName, victim); err != nil { // its retry would keep the only slot
		t.Fatalf("delete the task that was running: %v", err)
	}

	// What is enqueued from now on stays pending, over several heartbeats.
	var waiting []string
	for n := range 3 {
		waiting = append(waiting, q.Enqueue("echo", n))
	}
	harness.Consistently(t, 3*time.Second, func() error {
		if n := server.Client.LLen(t.Context(), "asynq:{"+harness.QueueName+"}:pending").Val(); n != 3 {
			return fmt.Errorf("%d tasks are pending, want 3", n)
		}
		return nil
	})
	w.AwaitMetric(`runqy_queue_pending_tasks{queue="`+harness.QueueName+`"}`, "3")

	out := w.Command("restart", w.ID)
	if out.Code != 0 || !strings.Contains(out.Out, w.ID) {
		t.Fatalf("restart: %+v, want exit code 0", out)
	}
	for n, id := range waiting {
		if got := q.Result(id); got != strconv.Itoa(n) {
			t.Errorf("the result of the waiting task %d is %s, want %d", n, got, n)
		}
	}
	q.AwaitHeartbeat(w.ID, "healthy=true", "status=running", "restarts=1", "crashes=1", "reason=")
	w.AwaitAnswer("/health", 200, harness.HealthyBody)
	w.AwaitAnswer("/readyz", 200, "")
	w.AwaitMetric("runqy_worker_healthy", "1")
	w.AwaitMetric(`runqy_worker_restarts_total{cause="manual"}`, "1")

	// SIGHUP is the same, from degraded and from running.
	second := q.PythonPID(w.ID)
	harness.Kill(t, second, syscall.SIGKILL)
	q.AwaitHeartbeat(w.ID, "status=degraded")
	w.Signal(syscall.SIGHUP)
	q.AwaitHeartbeat(w.ID, "status=running", "healthy=true", "restarts=2")
	third := q.PythonPID(w.ID)
	w.Signal(syscall.SIGHUP)
	q.AwaitHeartbeat(w.ID, "status=running", "healthy=true", "restarts=3")
	if now := q.PythonPID(w.ID); now == third || now == second {
		t.Errorf("the process after SIGHUP is %d, want another than %d and %d", now, second, third)
	}
	q.Result(q.Enqueue("echo", "end"))
	w.Stop()
}

// The restart command fails with a reason when there is no worker to restart.
func TestRestartOfUnknownWorker(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	q.PythonPID(w.ID)
	refused := func(id string) {
		t.Helper()
		if out := w.Command("restart", id); out.Code != 1 || !strings.Contains(out.ErrOut, id) || !strings.Contains(out.ErrOut, "no such worker") {
			t.Errorf("restart %s: %+v, want exit code 1 and \"no such worker\" on stderr", id, out)
		}
	}
	refused("worker-unknown")
	if out := w.Command("restart"); out.Code != 2 {
		t.Errorf("restart of nothing named: %+v, want exit code 2", out)
	}
	if out := w.Command("restart", "--degraded"); out.Code != 0 || !strings.Contains(out.Out, "No worker to restart") {
		t.Errorf("restart --degraded with none: %+v, want exit code 0 and \"No worker to restart\" on stdout", out)
	}
	harness.Kill(t, q.PythonPID(w.ID), syscall.SIGKILL)
	q.AwaitHeartbeat(w.ID, "status=degraded")
	if out := w.Command("restart", "--degraded"); out.Code != 0 {
		t.Errorf("restart --degraded: %+v, want exit code 0", out)
	}
	q.AwaitHeartbeat(w.ID, "status=running", "healthy=true")
	w.Stop()
	refused(w.ID)
	// A worker that is there but frozen does not make the command wait for ever.
	again := harness.StartWorker(t, server.URL, nil)
	q.PythonPID(again.ID)
	again.Signal(syscall.SIGSTOP)
	out := again.Command("restart", again.ID, "--timeout", "1s")
	again.Signal(syscall.SIGCONT)
	if out.Code != 1 || out.ErrOut == "" {
		t.Errorf("restart of a frozen worker: %+v, want exit code 1", out)
	}
	again.Stop()
}

// on_crash: restart brings the process back by itself, and a poison task is archived.
func TestRestartPolicyAndPoisonTask(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"python.on_crash": "restart", "python.restart": map[string]any{"initial_delay": "50ms"}, "python.max_task_crashes": 2,
	})
	q.PythonPID(w.ID)
	poison := q.Enqueue("die", nil, asynq.MaxRetry(10), asynq.TaskID("poison"))
	info := q.AwaitState(poison, asynq.TaskStateRetry)
	if !strings.Contains(info.LastErr, "SIGKILL") || !strings.Contains(info.LastErr, "last words") {
		t.Errorf("error %q, want the signal and the last lines of stderr", info.LastErr)
	}
	q.Result(q.Enqueue("echo", 1))
	// asynq's own backoff is long; a user presses "run now".
	if err := q.Inspector.RunTask(harness.QueueName, poison); err != nil {
		t.Fatalf("run the poison task again: %v", err)
	}
	info = q.AwaitState(poison, asynq.TaskStateArchived)
	if !strings.Contains(info.LastErr, "2 times") || !strings.Contains(info.LastErr, "max_task_crashes") {
		t.Errorf("error %q, want why it was archived", info.LastErr)
	}
	q.Result(q.Enqueue("echo", 2))
	q.AwaitHeartbeat(w.ID, "crashes=2", "restarts=2", "healthy=true")
	w.AwaitMetric(`runqy_worker_restarts_total{cause="crash"}`, "2")
	w.AwaitMetric(`runqy_worker_crashes_total{cause="signal"}`, "2")
	w.Stop()
}

// on_crash: exit ends the worker with 70, its task goes to retry, and no heartbeat is left behind.
func TestExitPolicy(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"python.on_crash": "exit"})
	pid := q.PythonPID(w.ID)
	victim := q.Enqueue("sleep", map[string]any{"seconds": 600})
	q.AwaitHeartbeat(w.ID, "active_task="+victim)
	harness.Kill(t, pid, syscall.SIGKILL)
	if code := w.WaitExit(); code != 70 {
		t.Errorf("exit code %d, want 70", code)
	}
	if beat := q.Heartbeat(w.ID); len(beat) != 0 {
		t.Errorf("the heartbeat is %q, want it deleted", beat)
	}
	if info := q.AwaitState(victim, asynq.TaskStateRetry); !strings.Contains(info.LastErr, "SIGKILL") {
		t.Errorf("the task's error is %q, want SIGKILL in it", info.LastErr)
	}
}

// A process that never becomes ready is reported with its own message, and the worker waits, degraded.
func TestProcessThatCannotStart(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	for name, test := range map[string]struct {
		command []string
		reason  string
	}{
		"import error": {[]string{"python3", "-c", "import no_such_module_here"}, "no_such_module_here"},
		"no program":   {[]string{"no-such-program-here"}, "no-such-program-here"},
		"no file":      {[]string{"python3", filepath.Join(t.TempDir(), "none.py")}, "none.py"},
	} {
		id := "worker-" + strings.ReplaceAll(name, " ", "-")
		w := harness.StartWorker(t, server.URL, harness.Settings{"python.command": test.command, "worker.id": id})
		q.AwaitHeartbeat(w.ID, "status=degraded", "healthy=false")
		q.AwaitReason(w.ID, test.reason)
		if out := w.Command("restart", w.ID); out.Code != 1 || !strings.Contains(out.ErrOut, test.reason) {
			t.Errorf("%s: restart of what cannot start: %+v, want exit code 1", name, out)
		}
		w.Stop()
	}
}
