package test

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// SIGTERM in the middle of a task: it ends and is acknowledged, those behind it stay pending, exit code 0.
func TestDrainLetsTheTaskEnd(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, nil)
	q.pythonPID(w.ID)
	task := q.enqueue("sleep", map[string]any{"seconds": 3})
	q.beats(w.ID, "active_task="+task)
	behind := q.enqueue("echo", 1)
	w.Signal(syscall.SIGTERM)
	q.beats(w.ID, "status=draining", "active_task="+task)
	w.answers("/readyz", 503, "")
	w.answers("/livez", 200, "")
	if code := w.WaitExit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if got := q.result(task); got != `"slept"` {
		t.Errorf("result %s", got)
	}
	q.gone(task)
	if info := q.inState(behind, asynq.TaskStatePending); info.Retried != 0 {
		t.Errorf("the task behind was retried %d times", info.Retried)
	}
	if beat := q.beat(w.ID); len(beat) > 0 {
		t.Errorf("the heartbeat is still there: %q", beat)
	}
}

// Past the shutdown timeout the task is pending again, whatever its MaxRetry, with its retry count unchanged.
func TestDrainGivesBack(t *testing.T) {
	t.Parallel()
	for _, maxRetry := range []int{0, 3} {
		t.Run(fmt.Sprintf("MaxRetry(%d)", maxRetry), func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			q := newQueueUser(t, server.Client)
			w := startWorker(t, server.URL, settings{"worker.shutdown_timeout": "1s"})
			pid := q.pythonPID(w.ID)
			file := filepath.Join(t.TempDir(), "ran")
			task := q.enqueue("note", map[string]any{"file": file, "seconds": 600, "n": 7}, asynq.MaxRetry(maxRetry))
			q.beats(w.ID, "active_task="+task)
			eventually(t, "the handler has begun", func() error { return wantRuns(t, file, 1) })
			began := time.Now()
			w.Signal(syscall.SIGTERM)
			if code := w.WaitExit(); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
			t.Logf("ended %v after SIGTERM, shutdown timeout 1 s", time.Since(began))
			checkGivenBack(t, q, task, maxRetry)
			if alive(pid) {
				t.Errorf("the Python process %d still exists", pid)
			}

			// Another worker takes it, at its first try.
			other := startWorker(t, server.URL, settings{"worker.id": "worker-other", "worker.shutdown_timeout": "1s"})
			q.beats(other.ID, "active_task="+task)
			eventually(t, "the handler has begun again", func() error { return wantRuns(t, file, 2) })
			if lines := readLines(t, file); lines[1] != task+" 0" {
				t.Errorf("the second run saw %q, want retry count 0", lines[1])
			}
			// A second signal does not wait.
			other.Stop()
			checkGivenBack(t, q, task, maxRetry)
		})
	}
}

// A second SIGTERM ends the drain at once; the task is given back all the same. One that comes with the first, as
// timeout(1) sends it to a process and to its group, is no second one.
func TestSecondSignalEndsTheDrain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, settings{"worker.shutdown_timeout": "10m"})
	pid := q.pythonPID(w.ID)
	task := q.enqueue("sleep", map[string]any{"seconds": 600}, asynq.MaxRetry(0))
	q.beats(w.ID, "active_task="+task)
	began := time.Now()
	w.Signal(syscall.SIGTERM)
	w.Signal(syscall.SIGTERM)
	q.beats(w.ID, "status=draining", "active_task="+task)
	eventually(t, "the worker has ended", func() error {
		select {
		case <-w.done:
			return nil
		default:
		}
		_ = w.cmd.Process.Signal(syscall.SIGTERM) // it may have ended since
		return errors.New("it still drains")
	})
	if code := w.WaitExit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	took := time.Since(began)
	if took < 500*time.Millisecond {
		t.Errorf("the drain ended after %v: two signals at once counted as two", took)
	}
	t.Logf("ended %v after the first SIGTERM", took)
	checkGivenBack(t, q, task, 0)
	if alive(pid) {
		t.Errorf("the Python process %d still exists", pid)
	}
}

func wantRuns(t *testing.T, file string, n int) error {
	if lines := readLines(t, file); len(lines) != n || lines[0] == "" {
		return fmt.Errorf("the runs are %q, want %d", lines, n)
	}
	return nil
}

func checkGivenBack(t *testing.T, q *queueUser, task string, maxRetry int) {
	t.Helper()
	info, err := q.inspector.GetTaskInfo(queueName, task)
	if err != nil {
		t.Fatal(err)
	}
	if info.State != asynq.TaskStatePending || info.Retried != 0 || info.MaxRetry != maxRetry || info.LastErr != "" {
		t.Errorf("the task is %s, want pending and never retried", q.describe(task))
	}
	ctx := t.Context()
	prefix := "asynq:{" + queueName + "}:"
	if n := q.redis.LLen(ctx, prefix+"active").Val() + q.redis.ZCard(ctx, prefix+"lease").Val(); n != 0 {
		t.Errorf("%d entries are left in active and lease", n)
	}
	if since := q.redis.HGet(ctx, prefix+"t:"+task, "pending_since").Val(); since == "" {
		t.Errorf("pending_since is not restored")
	}
}
