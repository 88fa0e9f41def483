package worker

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// kill -STOP of the Python process turns the worker unhealthy, kill -CONT healthy again. The task is not lost.
func TestStoppedPython(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"health.event_loop_block_threshold": "1s"})
	pid := q.PythonPID(w.ID)
	task := q.Enqueue("sleep", map[string]any{"seconds": 3})
	q.AwaitHeartbeat(w.ID, "active_task="+task)

	began := time.Now()
	harness.Kill(t, pid, syscall.SIGSTOP)
	q.AwaitHeartbeat(w.ID, "healthy=false", "status=running")
	t.Logf("unhealthy %v after kill -STOP, threshold 1 s", time.Since(began))
	w.AwaitAnswer("/health", 503, harness.UnhealthyBody)
	w.AwaitAnswer("/livez", 200, "")
	w.AwaitAnswer("/readyz", 503, "")
	w.AwaitMetric("runqy_worker_healthy", "0")
	waiting := q.Enqueue("echo", 1)

	harness.Kill(t, pid, syscall.SIGCONT)
	q.AwaitHeartbeat(w.ID, "healthy=true", "reason=")
	w.AwaitAnswer("/health", 200, harness.HealthyBody)
	if got := q.Result(task); got != `"slept"` {
		t.Errorf("result %s, want %s", got, `"slept"`)
	}
	q.Result(waiting)
	q.AwaitHeartbeat(w.ID, "crashes=0", "restarts=0", "failed=0")
	w.Stop()
}

// Stalled for stall_timeout is a crash, and what a stopped process held is retried.
func TestStalledForTooLong(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"health.event_loop_block_threshold": "500ms", "python.stall_timeout": "1s", "python.on_crash": "restart",
		"python.restart": map[string]any{"initial_delay": "50ms"},
	})
	pid := q.PythonPID(w.ID)
	harness.Kill(t, pid, syscall.SIGSTOP)
	q.AwaitHeartbeat(w.ID, "crashes=1", "restarts=1", "healthy=true")
	w.AwaitMetric(`runqy_worker_crashes_total{cause="stalled"}`, "1")
	if harness.Alive(pid) {
		t.Errorf("the stopped process %d still exists", pid)
	}
	q.Result(q.Enqueue("echo", 1))
	w.Stop()
}

// An asynchronous handler that blocks the event loop turns the worker unhealthy, and back.
func TestBlockedEventLoop(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"python.command": []string{"python3", harness.TaskFile(t, "async.py")}, "worker.concurrency": 4,
		"health.event_loop_block_threshold": "1s",
	})
	q.PythonPID(w.ID)
	task := q.Enqueue("block", map[string]any{"seconds": 8})
	q.AwaitHeartbeat(w.ID, "healthy=false", "active_task="+task)
	w.AwaitMetric("runqy_worker_healthy", "0")
	harness.EventuallyWithin(t, harness.Timeout, "the lag is told", func() error {
		lag := q.Heartbeat(w.ID)["event_loop_lag_seconds"]
		if lag < "1" || lag == "" {
			return fmt.Errorf("it is %q", lag)
		}
		return nil
	})
	q.AwaitHeartbeat(w.ID, "healthy=true")
	if got := q.Result(task); got != `"blocked"` {
		t.Errorf("result %s, want %s", got, `"blocked"`)
	}
	w.AwaitAnswer("/health", 200, harness.HealthyBody)
	q.AwaitHeartbeat(w.ID, "crashes=0", "failed=0")
	w.Stop()
}

// A synchronous handler that computes is busy, not stalled: in pure Python or in C that never releases the interpreter.
func TestComputingIsHealthy(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"health.event_loop_block_threshold": "1s"})
	q.PythonPID(w.ID)
	var unhealthy atomic.Int64
	for _, kind := range []string{"spin", "hold_gil"} {
		task := q.Enqueue(kind, map[string]any{"seconds": 5})
		checks := 0
		// Not Eventually, which checks less often on a loaded machine, where the task may also end sooner.
		for began := time.Now(); server.Client.Exists(t.Context(), "asynq:result:"+task).Val() == 0; time.Sleep(harness.PollInterval) {
			if code, _ := harness.Get(t, "http://"+w.Addr()+"/health"); code != 200 {
				unhealthy.Add(1)
			}
			if hash := q.Heartbeat(w.ID); hash["healthy"] != "true" {
				t.Fatalf("%s: the heartbeat is %q, want it healthy", kind, hash)
			}
			if time.Since(began) > harness.Timeout {
				t.Fatalf("%s: the task runs for %v, want its result: %s", kind, harness.Timeout, q.Describe(task))
			}
			checks++
		}
		if checks < 10 {
			t.Errorf("%s: %d checks of the health, want 10 at least", kind, checks)
		}
	}
	if n := unhealthy.Load(); n > 0 {
		t.Errorf("/health was not 200 %d times, want never", n)
	}
	if line := w.Log.Find("stalled"); line != nil {
		t.Errorf("a log line about a stall: %v, want none", line)
	}
	w.Stop()
}
