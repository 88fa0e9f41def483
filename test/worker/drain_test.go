package worker

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// SIGTERM in the middle of a task: it ends and is acknowledged, those behind it stay pending, exit code 0.
func TestDrainLetsTheTaskEnd(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	q.PythonPID(w.ID)
	task := q.Enqueue("sleep", map[string]any{"seconds": 3})
	q.AwaitHeartbeat(w.ID, "active_task="+task)
	behind := q.Enqueue("echo", 1)
	w.Signal(syscall.SIGTERM)
	q.AwaitHeartbeat(w.ID, "status=draining", "active_task="+task)
	w.AwaitAnswer("/readyz", 503, "")
	w.AwaitAnswer("/livez", 200, "")
	if code := w.WaitExit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if got := q.Result(task); got != `"slept"` {
		t.Errorf("result %s, want %s", got, `"slept"`)
	}
	q.AwaitGone(task)
	if info := q.AwaitState(behind, asynq.TaskStatePending); info.Retried != 0 {
		t.Errorf("the task behind was retried %d times, want 0", info.Retried)
	}
	if beat := q.Heartbeat(w.ID); len(beat) > 0 {
		t.Errorf("the heartbeat is %q, want it deleted", beat)
	}
}

// Past the shutdown timeout the task is pending again, whatever its MaxRetry, with its retry count unchanged.
func TestDrainGivesBack(t *testing.T) {
	t.Parallel()
	for _, maxRetry := range []int{0, 3} {
		t.Run(fmt.Sprintf("MaxRetry(%d)", maxRetry), func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			q := harness.NewQueue(t, server.Client)
			w := harness.StartWorker(t, server.URL, harness.Settings{"worker.shutdown_timeout": "1s"})
			pid := q.PythonPID(w.ID)
			file := filepath.Join(t.TempDir(), "ran")
			task := q.Enqueue("note", map[string]any{"file": file, "seconds": 600, "n": 7}, asynq.MaxRetry(maxRetry))
			q.AwaitHeartbeat(w.ID, "active_task="+task)
			harness.Eventually(t, "the handler has begun", func() error { return wantRuns(t, file, 1) })
			began := time.Now()
			w.Signal(syscall.SIGTERM)
			if code := w.WaitExit(); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
			t.Logf("ended %v after SIGTERM, shutdown timeout 1 s", time.Since(began))
			if line := w.Log.Find("python process stacks"); line == nil || !strings.Contains(fmt.Sprint(line), "in note") ||
				!strings.Contains(fmt.Sprint(line), "worker.shutdown_timeout") {
				t.Errorf("the log has the line %v, want one that says where the task was", line)
			}
			checkGivenBack(t, q, task, maxRetry)
			if harness.Alive(pid) {
				t.Errorf("the Python process %d still exists", pid)
			}

			// Another worker takes it, at its first try.
			other := harness.StartWorker(t, server.URL, harness.Settings{"worker.id": "worker-other", "worker.shutdown_timeout": "1s"})
			q.AwaitHeartbeat(other.ID, "active_task="+task)
			harness.Eventually(t, "the handler has begun again", func() error { return wantRuns(t, file, 2) })
			if lines := harness.ReadLines(t, file); lines[1] != task+" 0" {
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
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"worker.shutdown_timeout": "10m"})
	pid := q.PythonPID(w.ID)
	task := q.Enqueue("sleep", map[string]any{"seconds": 600}, asynq.MaxRetry(0))
	q.AwaitHeartbeat(w.ID, "active_task="+task)
	began := time.Now()
	w.Signal(syscall.SIGTERM)
	w.Signal(syscall.SIGTERM)
	q.AwaitHeartbeat(w.ID, "status=draining", "active_task="+task)
	harness.Eventually(t, "the worker has ended", func() error {
		if w.Ended() {
			return nil
		}
		_ = w.TrySignal(syscall.SIGTERM) // it may have ended since
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
	if harness.Alive(pid) {
		t.Errorf("the Python process %d still exists", pid)
	}
}

func wantRuns(t *testing.T, file string, n int) error {
	if lines := harness.ReadLines(t, file); len(lines) != n || lines[0] == "" {
		return fmt.Errorf("the runs are %q, want %d", lines, n)
	}
	return nil
}

func checkGivenBack(t *testing.T, q *harness.Queue, task string, maxRetry int) {
	t.Helper()
	info, err := q.Inspector.GetTaskInfo(harness.QueueName, task)
	if err != nil {
		t.Fatalf("look up task %s: %v", task, err)
	}
	if info.State != asynq.TaskStatePending || info.Retried != 0 || info.MaxRetry != maxRetry || info.LastErr != "" {
		t.Errorf("the task is %s, want pending and never retried", q.Describe(task))
	}
	ctx := t.Context()
	prefix := "asynq:{" + harness.QueueName + "}:"
	if n := q.Redis.LLen(ctx, prefix+"active").Val() + q.Redis.ZCard(ctx, prefix+"lease").Val(); n != 0 {
		t.Errorf("active and lease have %d entries, want none", n)
	}
	if since := q.Redis.HGet(ctx, prefix+"t:"+task, "pending_since").Val(); since == "" {
		t.Errorf("pending_since is not restored")
	}
}
