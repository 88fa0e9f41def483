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

// taskProcesses waits until the task "children" has written its processes to a file, the Python process first.
func taskProcesses(t *testing.T, file string) []int {
	t.Helper()
	var pids []int
	harness.Eventually(t, "the task tells its processes", func() error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return err
			}
			pids = append(pids, pid)
		}
		return nil
	})
	for _, pid := range pids {
		if !harness.Alive(pid) {
			t.Errorf("process %d of the task is gone too early", pid)
		}
	}
	if len(pids) != 4 {
		t.Fatalf("the task's processes are %v, want 4", pids)
	}
	t.Cleanup(func() {
		for _, pid := range pids {
			if harness.Alive(pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	return pids
}

func allGone(t *testing.T, pids []int) time.Duration {
	t.Helper()
	return harness.EventuallyWithin(t, 10*time.Second, "the task's processes are gone", func() error {
		for i, pid := range pids {
			if harness.Alive(pid) {
				return fmt.Errorf("process %d of the task (%d of %d) lives", pid, i+1, len(pids))
			}
		}
		return nil
	})
}

// kill -9 of the worker in the middle of a task that has started processes of its own: nothing is left of them, the
// heartbeat expires, and a successor with the same id is let in at once.
func TestKilledWorkerLeavesNoProcess(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	// A long time to live, so that a successor that is let in at once did not wait for the key to expire.
	w := harness.StartWorker(t, server.URL, harness.Settings{"heartbeat.ttl": "90s"})
	q.PythonPID(w.ID)
	file := filepath.Join(w.Dir, "pids")
	task := q.Enqueue("children", map[string]any{"file": file, "seconds": 600})
	pids := taskProcesses(t, file)
	harness.Kill(t, w.PID(), syscall.SIGKILL)
	t.Logf("all %d processes of the task gone %v after kill -9 of the worker", len(pids), allGone(t, pids))
	w.WaitExit()
	if beat := q.Heartbeat(w.ID); beat["pid"] != strconv.Itoa(w.PID()) {
		t.Errorf("the dead worker's heartbeat is %q, want its pid, %d", beat, w.PID())
	}

	if err := os.Remove(file); err != nil {
		t.Fatalf("remove the list of processes: %v", err)
	}
	successor := harness.StartWorker(t, server.URL, nil)
	took := q.AwaitHeartbeat(w.ID, "pid="+strconv.Itoa(successor.PID()), "healthy=true", "status=running")
	t.Logf("the successor works after %v", took)
	if ttl := server.Client.PTTL(t.Context(), "asynq:workers:"+w.ID).Val(); ttl > 3*time.Second {
		t.Errorf("the heartbeat still has the predecessor's time to live, %v, want 3s at most", ttl)
	}
	// It recovers what its predecessor was working on, before anything else.
	q.AwaitHeartbeat(w.ID, "active_task="+task)
	if info := q.AwaitState(task, asynq.TaskStateActive); info.Retried != 0 {
		t.Errorf("the recovered task is %s, want it never retried", q.Describe(task))
	}
	pids = taskProcesses(t, file)

	// And without a successor the key expires by itself.
	harness.Kill(t, successor.PID(), syscall.SIGKILL)
	allGone(t, pids)
	t.Logf("heartbeat with a ttl of 3 s gone %v after kill -9", harness.Eventually(t, "the heartbeat expires", func() error {
		if n := server.Client.Exists(t.Context(), "asynq:workers:"+w.ID).Val(); n != 0 {
			return fmt.Errorf("%q", q.Heartbeat(w.ID))
		}
		return nil
	}))
	if _, err := q.Inspector.GetTaskInfo(harness.QueueName, task); err != nil {
		t.Errorf("the task is lost: %v", err)
	}
}

// SIGTERM of the worker ends a task's processes too, those in sessions of their own included.
func TestStoppedWorkerLeavesNoProcess(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"worker.shutdown_timeout": "500ms"})
	q.PythonPID(w.ID)
	file := filepath.Join(w.Dir, "pids")
	q.Enqueue("children", map[string]any{"file": file, "seconds": 600})
	pids := taskProcesses(t, file)
	w.Stop()
	for i, pid := range pids {
		if harness.Alive(pid) {
			t.Errorf("process %d of the task (%d of %d) lives after the worker has ended", pid, i+1, len(pids))
		}
	}
}

// A second live worker with the same id is refused, and the first one goes on undisturbed.
func TestSecondWorkerWithTheSameID(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	q.PythonPID(w.ID)
	task := q.Enqueue("sleep", map[string]any{"seconds": 2})
	q.AwaitHeartbeat(w.ID, "active_task="+task)
	before := q.Heartbeat(w.ID)

	second := harness.StartWorker(t, server.URL, nil)
	if code := second.WaitExit(); code != 1 {
		t.Errorf("the second one ended with %d, want 1", code)
	}
	log := second.Log.String()
	for _, part := range []string{"worker-abc123", "in use by a live worker", "pid " + strconv.Itoa(w.PID()), "worker.id"} {
		if !strings.Contains(log, part) {
			t.Errorf("the log of the second worker, want %q in it:\n%s", part, log)
		}
	}
	after := q.Heartbeat(w.ID)
	for _, name := range []string{"nonce", "pid", "started", "python_pid"} {
		if before[name] == "" || before[name] != after[name] {
			t.Errorf("the first worker's %s was %q and is %q, want it unchanged", name, before[name], after[name])
		}
	}
	if got := q.Result(task); got != `"slept"` {
		t.Errorf("result %s, want %s", got, `"slept"`)
	}
	q.Result(q.Enqueue("echo", 1))
	q.AwaitHeartbeat(w.ID, "healthy=true", "failed=0")
	w.Stop()
}
