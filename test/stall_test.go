package test

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// kill -STOP of the Python process turns the worker unhealthy, kill -CONT healthy again. The task is not lost.
func TestStoppedPython(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, settings{"health.event_loop_block_threshold": "1s"})
	pid := q.pythonPID(w.ID)
	task := q.enqueue("sleep", map[string]any{"seconds": 3})
	q.beats(w.ID, "active_task="+task)

	began := time.Now()
	kill(t, pid, syscall.SIGSTOP)
	q.beats(w.ID, "healthy=false", "status=running")
	t.Logf("unhealthy %v after kill -STOP, threshold 1 s", time.Since(began))
	w.answers("/health", 503, unhealthyBody)
	w.answers("/livez", 200, "")
	w.answers("/readyz", 503, "")
	w.metric("runqy_worker_healthy", "0")
	waiting := q.enqueue("echo", 1)

	kill(t, pid, syscall.SIGCONT)
	q.beats(w.ID, "healthy=true", "reason=")
	w.answers("/health", 200, healthyBody)
	if got := q.result(task); got != `"slept"` {
		t.Errorf("result %s", got)
	}
	q.result(waiting)
	q.beats(w.ID, "crashes=0", "restarts=0", "failed=0")
	w.Stop()
}

// Stalled for stall_timeout is a crash, and what a stopped process held is retried.
func TestStalledForTooLong(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, settings{
		"health.event_loop_block_threshold": "500ms", "python.stall_timeout": "1s", "python.on_crash": "restart",
		"python.restart": map[string]any{"initial_delay": "50ms"},
	})
	pid := q.pythonPID(w.ID)
	kill(t, pid, syscall.SIGSTOP)
	q.beats(w.ID, "crashes=1", "restarts=1", "healthy=true")
	w.metric(`runqy_worker_crashes_total{cause="stalled"}`, "1")
	if alive(pid) {
		t.Errorf("the stopped process %d still exists", pid)
	}
	q.result(q.enqueue("echo", 1))
	w.Stop()
}

// An asynchronous handler that blocks the event loop turns the worker unhealthy, and back.
func TestBlockedEventLoop(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, settings{
		"python.command": []string{"python3", taskFile(t, "async.py")}, "worker.concurrency": 4,
		"health.event_loop_block_threshold": "1s",
	})
	q.pythonPID(w.ID)
	task := q.enqueue("block", map[string]any{"seconds": 8})
	q.beats(w.ID, "healthy=false", "active_task="+task)
	w.metric("runqy_worker_healthy", "0")
	within(t, patience, "the lag is told", func() error {
		lag := q.beat(w.ID)["event_loop_lag_seconds"]
		if lag < "1" || lag == "" {
			return fmt.Errorf("it is %q", lag)
		}
		return nil
	})
	q.beats(w.ID, "healthy=true")
	if got := q.result(task); got != `"blocked"` {
		t.Errorf("result %s", got)
	}
	w.answers("/health", 200, healthyBody)
	q.beats(w.ID, "crashes=0", "failed=0")
	w.Stop()
}

// A synchronous handler that computes is busy, not stalled: in pure Python or in C that never releases the interpreter.
func TestComputingIsHealthy(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, settings{"health.event_loop_block_threshold": "1s"})
	q.pythonPID(w.ID)
	var unhealthy atomic.Int64
	for _, kind := range []string{"spin", "hold_gil"} {
		task := q.enqueue(kind, map[string]any{"seconds": 5})
		var looks int
		eventually(t, "the task "+kind+" ends", func() error {
			if code, _ := get(t, "http://"+w.Addr()+"/health"); code != 200 {
				unhealthy.Add(1)
			}
			if hash := q.beat(w.ID); hash["healthy"] != "true" {
				return fatal("%s: the heartbeat is %q", kind, hash)
			}
			looks++
			return server.Client.Get(t.Context(), "asynq:result:"+task).Err()
		})
		if looks < 10 {
			t.Errorf("%s: only %d looks", kind, looks)
		}
	}
	if n := unhealthy.Load(); n > 0 {
		t.Errorf("/health was not 200 %d times", n)
	}
	if line := w.Log.find("stalled"); line != nil {
		t.Errorf("the worker says %v", line)
	}
	w.Stop()
}
