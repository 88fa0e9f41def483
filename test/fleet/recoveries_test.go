package fleet

import (
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/test/harness"
)

// startAndKill starts a worker, waits until a task has begun for the nth time, and kills the worker with SIGKILL.
func startAndKill(t *testing.T, f *harness.Fleet, w *harness.Worker, task string, nth int) {
	t.Helper()
	w.Start("run", "-c", w.Config)
	harness.EventuallyWithin(t, 2*harness.Timeout, "the task runs", func() error {
		if n := len(f.Starts()[task]); n != nth {
			return harness.NotYet(w, "it has begun %d times, want %d; %s", n, nth, f.Describe(task))
		}
		return nil
	})
	harness.KillWorkers(t, w)
}

// A worker that is preempted again and again says nothing about its tasks: neither the one that ran nor those that
// waited behind it are archived, and none is charged with a crash.
func TestPreemptedTasksAreNotArchived(t *testing.T) {
	t.Parallel()
	const kills = 3
	f := harness.NewFleet(t)
	w := f.NewWorker("preempted", harness.Settings{"worker.concurrency": 4, "python.max_task_crashes": kills})
	long := f.Hold(asynq.MaxRetry(25), asynq.Timeout(time.Hour))
	var behind []string
	for range 3 {
		behind = append(behind, f.Hold(asynq.MaxRetry(0), asynq.Timeout(time.Hour)))
	}
	begun := func() (n int) {
		for _, runs := range f.Starts() {
			n += len(runs)
		}
		return n
	}
	for n := range kills {
		w.Start("run", "-c", w.Config)
		harness.EventuallyWithin(t, 2*harness.Timeout, "a task runs", func() error {
			if now := begun(); now != n+1 {
				return harness.NotYet(w, "%d runs have begun, want %d", now, n+1)
			}
			return nil
		})
		harness.KillWorkers(t, w)
	}
	w.Start("run", "-c", w.Config)
	f.OpenGate()
	for _, id := range append(behind, long) {
		harness.Eventually(t, "task "+id+" is completed", func() error {
			info, err := f.Inspector.GetTaskInfo(harness.QueueName, id)
			if err == nil && info.State == asynq.TaskStateArchived {
				return harness.Fatal("%s", f.Describe(id))
			}
			return f.Redis.Get(t.Context(), "asynq:result:"+id).Err()
		})
		if info := f.AwaitState(id, asynq.TaskStateCompleted); info.Retried != 0 || f.Crashes(id) != 0 {
			t.Errorf("task %s: %s, %d crashes; want no retry and no crash", id, f.Describe(id), f.Crashes(id))
		}
	}
	w.Stop()
}

// Recoveries are counted apart from crashes, and have a limit of their own.
func TestMaxRecoveries(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	set := harness.Settings{"worker.max_recoveries": 2, "python.max_task_crashes": 1}
	w := f.NewWorker("preempted", set)
	task := f.Hold(asynq.MaxRetry(25))
	startAndKill(t, f, w, task, 1)
	startAndKill(t, f, w, task, 2)
	if n := f.Recoveries(task); n != 1 || f.Crashes(task) != 0 {
		t.Errorf("after one recovery %d are counted, and %d crashes; want 1 and 0", n, f.Crashes(task))
	}
	w.Start("run", "-c", w.Config)
	if info := f.AwaitState(task, asynq.TaskStateArchived); !strings.Contains(info.LastErr, "max_recoveries") || !strings.Contains(info.LastErr, "preempted") {
		t.Errorf("the error is %q, want the limit and the worker's id in it", info.LastErr)
	}
	if n := f.Recoveries(task); n != 2 || f.Crashes(task) != 0 || len(f.Starts()[task]) != 2 {
		t.Errorf("%d recoveries, %d crashes, runs %v; want 2, 0 and two runs", n, f.Crashes(task), f.Starts()[task])
	}
	w.Stop()
}
