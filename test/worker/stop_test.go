package worker

import (
	"fmt"
	"os"
	"os/exec"
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

// A worker ends when it is told to, whatever state it is in.
func TestStopFromAnyState(t *testing.T) {
	t.Parallel()
	slow := filepath.Join(t.TempDir(), "slow.py")
	harness.WriteFile(t, slow, "import time\ntime.sleep(600)\n")
	crashing := harness.Settings{
		"python.command": []string{"false"}, "python.on_crash": "restart",
		"python.restart": map[string]any{"initial_delay": "5m", "max_delay": "5m"},
	}
	for name, test := range map[string]struct {
		set    harness.Settings
		status string
	}{
		"starting":   {harness.Settings{"python.command": []string{"python3", slow}, "python.stop_timeout": "1s"}, "starting"},
		"backoff":    {crashing, "restarting"},
		"degraded":   {harness.Settings{"python.command": []string{"false"}}, "degraded"},
		"never idle": {harness.Settings{"python.command": []string{"sh", "-c", "trap '' TERM; echo '{\"status\":\"ready\"}'; sleep 600"}, "python.stop_timeout": "1s"}, "running"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			q := harness.NewQueue(t, server.Client)
			w := harness.StartWorker(t, server.URL, test.set)
			q.AwaitHeartbeat(w.ID, "status="+test.status)
			began := time.Now()
			w.Stop()
			took := time.Since(began)
			t.Logf("ended after %v", took)
			if limit := 3 * time.Second; took > limit+10*time.Second { // no task runs; the machine may be busy
				t.Errorf("it took %v to end, want no more than the stop timeout and 2 s, %v", took, limit)
			}
			if beat := q.Heartbeat(w.ID); len(beat) > 0 {
				t.Errorf("the heartbeat is %q, want it deleted", beat)
			}
		})
	}
}

// SIGTERM while Redis is frozen or gone, and also while nobody reads the log: the worker ends within bounds, and the task
// is not lost to its successor.
func TestStopWithoutRedis(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"frozen", "frozen, log unread", "gone"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
			q := harness.NewQueue(t, server.Client)
			w := harness.NewWorker(t, server.URL, harness.Settings{"worker.shutdown_timeout": "1s", "python.stop_timeout": "1s"})
			if how == "frozen, log unread" {
				_, w.Output = fullPipe(t)
			}
			w.Start("run", "-c", w.Config)
			q.PythonPID(w.ID)
			task := q.Enqueue("sleep", map[string]any{"seconds": 600}, asynq.MaxRetry(0))
			q.AwaitHeartbeat(w.ID, "active_task="+task)
			if how == "gone" {
				server.Kill()
			} else {
				server.Freeze()
			}
			began := time.Now()
			w.Signal(syscall.SIGTERM)
			if code := w.WaitExit(); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
			took := time.Since(began)
			t.Logf("ended after %v", took)
			if limit := 4 * time.Second; took > limit+10*time.Second { // the machine may be busy
				t.Errorf("it took %v to end, want no more than the two timeouts and 2 s, %v", took, limit)
			}
			if how == "gone" {
				server.Restart()
			} else {
				server.Thaw()
			}
			if _, err := q.Inspector.GetTaskInfo(harness.QueueName, task); err != nil {
				t.Errorf("the task: %v", err)
			}
		})
	}
}

// What people do to a Redis that a worker is connected to.
func TestRedisIsEmptied(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	q.PythonPID(w.ID)
	q.Result(q.Enqueue("echo", 1))
	for _, command := range [][]string{
		{"DEL", "asynq:workers:worker-abc123"}, {"SCRIPT", "FLUSH"}, {"CLIENT", "KILL", "TYPE", "normal"},
		{"CLIENT", "KILL", "TYPE", "pubsub"}, {"FLUSHALL"},
	} {
		redisCLI(t, server, command...)
		q.AwaitHeartbeat(w.ID, "status=running", "healthy=true")
		if got := q.Result(q.Enqueue("echo", command)); !strings.Contains(got, command[0]) {
			t.Errorf("after %v: result %s, want %q in it", command, got, command[0])
		}
		harness.Eventually(t, "it is registered", func() error {
			return server.Client.ZScore(t.Context(), "runqy:workers", w.ID).Err()
		})
	}
	harness.Eventually(t, "the restart command finds it", func() error {
		if out := w.Command("restart", w.ID); out.Code != 0 {
			return harness.NotYet(w, "%+v", out)
		}
		return nil
	})
	// Flushed in the middle of a task: its result has nowhere to go, and the next task is none the worse.
	lost := q.Enqueue("sleep", map[string]any{"seconds": 2})
	q.AwaitHeartbeat(w.ID, "active_task="+lost)
	redisCLI(t, server, "FLUSHALL")
	q.Result(q.Enqueue("echo", 2))
	q.AwaitHeartbeat(w.ID, "active_task=")
	if n := server.Client.Exists(t.Context(), "asynq:result:"+lost, "asynq:{"+harness.QueueName+"}:t:"+lost).Val(); n != 0 {
		t.Errorf("the lost task left %d keys, want none", n)
	}
	w.Stop()
}

// The guardian may be killed too: another takes its place, and nothing outlives the worker.
func TestKilledGuardian(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here")
	}
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	q.PythonPID(w.ID)
	file := filepath.Join(w.Dir, "pids")
	q.Enqueue("children", map[string]any{"file": file, "seconds": 600})
	pids := taskProcesses(t, file)
	first := guardianOf(t, w)
	harness.Kill(t, first, syscall.SIGKILL)
	var second int
	harness.Eventually(t, "there is another guardian", func() error {
		if second = guardianOf(t, w); second == first {
			return fmt.Errorf("still %d", first)
		}
		return nil
	})
	harness.Eventually(t, "the guardian ignores signals", func() error { return ignores(second, syscall.SIGTERM) })
	// The signals of a terminal or a service manager reach everyone; the guardian stays.
	harness.Kill(t, second, syscall.SIGTERM)
	harness.Kill(t, second, syscall.SIGINT)
	harness.Kill(t, second, syscall.SIGHUP)
	harness.Kill(t, w.PID(), syscall.SIGKILL)
	allGone(t, pids)
	harness.EventuallyWithin(t, 10*time.Second, "the guardian is gone too", func() error {
		if harness.Alive(second) {
			return fmt.Errorf("%d lives", second)
		}
		return nil
	})
}

// guardianOf waits until the worker has a guardian and returns its process id.
func guardianOf(t *testing.T, w *harness.Worker) int {
	t.Helper()
	var found int
	harness.Eventually(t, "the worker has a guardian", func() error {
		out, err := exec.Command("sh", "-c", "grep -l guardian /proc/[0-9]*/cmdline 2>/dev/null").Output()
		if err != nil && len(out) == 0 {
			return err
		}
		for path := range strings.FieldsSeq(string(out)) {
			stat, err := os.ReadFile(filepath.Join(filepath.Dir(path), "stat"))
			if err != nil {
				continue
			}
			_, rest, _ := strings.Cut(string(stat), ") ")
			fields := strings.Fields(rest)
			if len(fields) > 1 && fields[0] != "Z" && fields[1] == strconv.Itoa(w.PID()) {
				found, err = strconv.Atoi(filepath.Base(filepath.Dir(path)))
				return err
			}
		}
		return fmt.Errorf("none of %q", out)
	})
	return found
}

// ignores tells, with nil, that a process ignores a signal.
func ignores(pid int, s syscall.Signal) error {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if mask, ok := strings.CutPrefix(line, "SigIgn:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			if err != nil {
				return err
			}
			if bits&(1<<(s-1)) != 0 {
				return nil
			}
		}
	}
	return fmt.Errorf("%d does not ignore %v", pid, s)
}
