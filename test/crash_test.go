package test

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
)

func kill(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatalf("kill %v %d: %v", s, pid, err)
	}
}

const healthyBody, unhealthyBody = `{"status":"HEALTHY"}`, `{"status":"UNHEALTHY"}`

// kill -9 of the Python process: the truth everywhere, nothing is taken, and the operator brings it back.
func TestKilledPythonDegrades(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, nil)
	first := q.pythonPID(w.ID)
	w.answers("/health", 200, healthyBody)
	w.answers("/readyz", 200, "")
	w.metric("runqy_worker_healthy", "1")

	victim := q.enqueue("sleep", map[string]any{"seconds": 600})
	q.beats(w.ID, "active_task="+victim)
	began := time.Now()
	kill(t, first, syscall.SIGKILL)

	took := within(t, 5*time.Second, "healthy is false in Redis", func() error {
		if got := q.beat(w.ID)["healthy"]; got != "false" {
			return fmt.Errorf("healthy is %q", got)
		}
		return nil
	})
	w.answers("/health", 503, unhealthyBody)
	w.metric("runqy_worker_healthy", "0")
	info := q.inState(victim, asynq.TaskStateRetry)
	t.Logf("after kill -9: healthy=false in Redis after %v; with /health, /metrics and the retry set after %v", took, time.Since(began))
	if !strings.Contains(info.LastErr, "SIGKILL") || info.Retried != 1 {
		t.Errorf("the task that was running: retried %d, error %q; want the evidence", info.Retried, info.LastErr)
	}
	q.beats(w.ID, "status=degraded", "python_pid=", "crashes=1", "active_task=", "state=BUSY", "failed=1")
	q.reason(w.ID, "SIGKILL")
	w.answers("/livez", 200, "")
	w.answers("/readyz", 503, "")
	w.metric(`runqy_worker_crashes_total{cause="signal"}`, "1")
	if code, body := get(t, "http://"+w.Addr()+"/health?verbose=1"); code != 503 || !strings.Contains(body, "SIGKILL") || !strings.Contains(body, "development") {
		t.Errorf("/health?verbose=1 answers %d %s", code, body)
	}

	// The view tells as well.
	eventually(t, "the view of the crashed task", func() error {
		view := server.Client.HGetAll(t.Context(), "asynq:t:"+victim).Val()
		if view["state"] != "retry" || view["crashes"] != "1" || view["retried"] != "1" || !strings.Contains(view["error"], "SIGKILL") {
			return fmt.Errorf("%q", view)
		}
		return nil
	})

	// What is enqueued from now on stays pending, over several beats.
	var waiting []string
	for n := range 3 {
		waiting = append(waiting, q.enqueue("echo", n))
	}
	stays(t, 3*time.Second, func() error {
		if n := server.Client.LLen(t.Context(), "asynq:{"+queueName+"}:pending").Val(); n != 3 {
			return fmt.Errorf("%d tasks are pending, want 3", n)
		}
		return nil
	})
	w.metric(`runqy_queue_pending_tasks{queue="`+queueName+`"}`, "3")

	out := w.command("restart", w.ID)
	if out.Code != 0 || !strings.Contains(out.Out, w.ID) {
		t.Fatalf("restart: %+v", out)
	}
	for n, id := range waiting {
		if got := q.result(id); got != strconv.Itoa(n) {
			t.Errorf("result of the waiting task %d is %s", n, got)
		}
	}
	q.beats(w.ID, "healthy=true", "status=running", "restarts=1", "crashes=1", "reason=")
	w.answers("/health", 200, healthyBody)
	w.answers("/readyz", 200, "")
	w.metric("runqy_worker_healthy", "1")
	w.metric(`runqy_worker_restarts_total{cause="manual"}`, "1")

	// SIGHUP is the same, from degraded and from running.
	second := q.pythonPID(w.ID)
	kill(t, second, syscall.SIGKILL)
	q.beats(w.ID, "status=degraded")
	w.Signal(syscall.SIGHUP)
	q.beats(w.ID, "status=running", "healthy=true", "restarts=2")
	third := q.pythonPID(w.ID)
	w.Signal(syscall.SIGHUP)
	q.beats(w.ID, "status=running", "healthy=true", "restarts=3")
	if now := q.pythonPID(w.ID); now == third || now == second {
		t.Errorf("the process is still %d after SIGHUP", now)
	}
	q.result(q.enqueue("echo", "end"))
	w.Stop()
}

// stays checks that something holds for a while.
func stays(t *testing.T, d time.Duration, check func() error) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * pollTick) {
		if err := check(); err != nil {
			t.Fatalf("it does not stay so for %v: %v", d, err)
		}
	}
}

// The restart command says so when there is nobody to restart.
func TestRestartOfNobody(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, nil)
	q.pythonPID(w.ID)
	refused := func(id string) {
		t.Helper()
		if out := w.command("restart", id); out.Code != 1 || !strings.Contains(out.ErrOut, id) || !strings.Contains(out.ErrOut, "no such worker") {
			t.Errorf("restart %s: %+v", id, out)
		}
	}
	refused("worker-unknown")
	if out := w.command("restart"); out.Code != 2 {
		t.Errorf("restart of nothing named: %+v", out)
	}
	if out := w.command("restart", "--degraded"); out.Code != 0 || !strings.Contains(out.Out, "No worker to restart") {
		t.Errorf("restart --degraded with none: %+v", out)
	}
	kill(t, q.pythonPID(w.ID), syscall.SIGKILL)
	q.beats(w.ID, "status=degraded")
	if out := w.command("restart", "--degraded"); out.Code != 0 {
		t.Errorf("restart --degraded: %+v", out)
	}
	q.beats(w.ID, "status=running", "healthy=true")
	w.Stop()
	refused(w.ID)
	// A worker that is there but frozen does not make the command wait for ever.
	again := startWorker(t, server.URL, nil)
	q.pythonPID(again.ID)
	again.Signal(syscall.SIGSTOP)
	out := again.command("restart", again.ID, "--timeout", "1s")
	again.Signal(syscall.SIGCONT)
	if out.Code != 1 || out.ErrOut == "" {
		t.Errorf("restart of a frozen worker: %+v", out)
	}
	again.Stop()
}

// on_crash: restart brings the process back by itself, and a poison task is archived.
func TestRestartPolicyAndPoisonTask(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, settings{
		"python.on_crash": "restart", "python.restart": map[string]any{"initial_delay": "50ms"}, "python.max_task_crashes": 2,
	})
	q.pythonPID(w.ID)
	poison := q.enqueue("die", nil, asynq.MaxRetry(10), asynq.TaskID("poison"))
	info := q.inState(poison, asynq.TaskStateRetry)
	if !strings.Contains(info.LastErr, "SIGKILL") || !strings.Contains(info.LastErr, "last words") {
		t.Errorf("error %q, want the signal and the last lines of stderr", info.LastErr)
	}
	q.result(q.enqueue("echo", 1))
	// asynq's own backoff is long; a user presses "run now".
	if err := q.inspector.RunTask(queueName, poison); err != nil {
		t.Fatal(err)
	}
	info = q.inState(poison, asynq.TaskStateArchived)
	if !strings.Contains(info.LastErr, "2 times") || !strings.Contains(info.LastErr, "max_task_crashes") {
		t.Errorf("error %q, want why it was archived", info.LastErr)
	}
	q.result(q.enqueue("echo", 2))
	q.beats(w.ID, "crashes=2", "restarts=2", "healthy=true")
	w.metric(`runqy_worker_restarts_total{cause="crash"}`, "2")
	w.metric(`runqy_worker_crashes_total{cause="signal"}`, "2")
	w.Stop()
}

// on_crash: exit ends the worker with 70, its task goes to retry, and no heartbeat is left behind.
func TestExitPolicy(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, settings{"python.on_crash": "exit"})
	pid := q.pythonPID(w.ID)
	victim := q.enqueue("sleep", map[string]any{"seconds": 600})
	q.beats(w.ID, "active_task="+victim)
	kill(t, pid, syscall.SIGKILL)
	if code := w.WaitExit(); code != 70 {
		t.Errorf("exit code %d, want 70", code)
	}
	if beat := q.beat(w.ID); len(beat) != 0 {
		t.Errorf("the heartbeat is still there: %q", beat)
	}
	if info := q.inState(victim, asynq.TaskStateRetry); !strings.Contains(info.LastErr, "SIGKILL") {
		t.Errorf("error %q", info.LastErr)
	}
}

// A process that never becomes ready is told with its own words, and the worker waits, degraded.
func TestProcessThatCannotStart(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	for name, test := range map[string]struct {
		command []string
		reason  string
	}{
		"import error": {[]string{"python3", "-c", "import no_such_module_here"}, "no_such_module_here"},
		"no program":   {[]string{"no-such-program-here"}, "no-such-program-here"},
		"no file":      {[]string{"python3", filepath.Join(t.TempDir(), "none.py")}, "none.py"},
	} {
		id := "worker-" + strings.ReplaceAll(name, " ", "-")
		w := startWorker(t, server.URL, settings{"python.command": test.command, "worker.id": id})
		q.beats(w.ID, "status=degraded", "healthy=false")
		q.reason(w.ID, test.reason)
		if out := w.command("restart", w.ID); out.Code != 1 || !strings.Contains(out.ErrOut, test.reason) {
			t.Errorf("%s: restart of what cannot start: %+v", name, out)
		}
		w.Stop()
	}
}
