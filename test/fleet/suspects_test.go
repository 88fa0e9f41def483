package fleet

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/test/harness"
)

// startSpans starts a worker with asynchronous handlers, for tasks of type span.
func startSpans(t *testing.T, f *harness.Fleet, id string) *harness.Worker {
	t.Helper()
	w := f.StartWorker(id, f.Async(harness.Settings{"worker.concurrency": 8, "python.max_task_crashes": 3}))
	f.AwaitRunning(id)
	return w
}

// span enqueues a task that runs for so many seconds.
func span(f *harness.Fleet, seconds float64, opts ...asynq.Option) string {
	return f.Enqueue("span", map[string]any{"file": f.RunsFile, "seconds": seconds}, append([]asynq.Option{asynq.Retention(time.Hour)}, opts...)...)
}

// suspect enqueues a task that was there as often as may be when the process died.
func suspect(t *testing.T, f *harness.Fleet, seconds float64) string {
	t.Helper()
	id := span(f, seconds, asynq.MaxRetry(0), asynq.ProcessIn(time.Hour))
	if err := f.Redis.HSet(t.Context(), "asynq:{"+harness.QueueName+"}:t:"+id, "suspicions", 3).Err(); err != nil {
		t.Fatalf("set the suspicions of task %s: %v", id, err)
	}
	f.RunTogether(harness.Scheduled{Queue: harness.QueueName, ID: id})
	return id
}

// A suspect runs alone: it begins when the others have ended, and they go on when it has.
func TestSuspectRunsAlone(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	w := startSpans(t, f, "one")
	var others []string
	for range 3 {
		others = append(others, span(f, 2, asynq.MaxRetry(0)))
	}
	harness.Eventually(t, "the first tasks run", func() error {
		if n := len(f.Runs("start")); n != 3 {
			return harness.NotYet(w, "%d do", n)
		}
		return nil
	})
	alone := suspect(t, f, 1)
	for range 3 {
		others = append(others, span(f, 0.1, asynq.MaxRetry(0)))
	}
	for _, id := range append(others, alone) {
		f.Result(id)
		f.AwaitState(id, asynq.TaskStateCompleted)
	}
	ends := map[string]time.Time{}
	for _, run := range f.Runs("end") {
		ends[run.Task] = run.At
	}
	begin := f.Starts()[alone][0].At
	for _, id := range others {
		if runs := f.Starts()[id]; len(runs) != 1 || runs[0].At.Before(ends[alone]) && ends[id].After(begin) {
			t.Errorf("task %s ran from %v to %v; want it once, and not beside the suspect, from %v to %v", id, runs, ends[id], begin, ends[alone])
		}
	}
	if n := len(f.Starts()[alone]); n != 1 {
		t.Errorf("the suspect has begun %d times, want once", n)
	}
	w.Stop()
}

// A suspect does not hold a worker up for longer than a minute: it waits apart, nothing is charged, and others run.
func TestLongSuspectIsPostponed(t *testing.T) {
	harness.Long(t)
	t.Parallel()
	f := harness.NewFleet(t)
	w := startSpans(t, f, "one")
	long := span(f, 90, asynq.MaxRetry(0))
	f.AwaitStart(long, "one")
	alone := suspect(t, f, 0.1)
	harness.EventuallyWithin(t, 2*harness.Timeout, "the suspect is scheduled", func() error {
		if f.Redis.Exists(t.Context(), "asynq:result:"+alone).Val() > 0 {
			return harness.Fatal("it has run beside the long task")
		}
		state := f.Redis.HGet(t.Context(), "asynq:{"+harness.QueueName+"}:t:"+alone, "state").Val()
		if state != "scheduled" {
			return harness.NotYet(w, "it is %s", state)
		}
		return nil
	})
	info := f.AwaitState(alone, asynq.TaskStateScheduled)
	if wait := time.Until(info.NextProcessAt); info.Retried != 0 || wait < 30*time.Second || wait > 61*time.Second {
		t.Errorf("the suspect is %s, due in %v; want no retry, and a minute", f.Describe(alone), wait)
	}
	if n := f.Redis.HGet(t.Context(), "asynq:{"+harness.QueueName+"}:t:"+alone, "postponed").Val(); n != "1" {
		t.Errorf("it was postponed %q times, want once", n)
	}
	f.Result(span(f, 0.1))
	if n := f.Redis.Exists(t.Context(), "asynq:result:"+long).Val(); n != 0 {
		t.Error("the other task ran after the long one, want it beside")
	}
	f.ResultWithin(3*harness.Timeout, long)
	f.ResultWithin(3*harness.Timeout, alone)
	f.AwaitEmpty()
	w.Stop()
}

// One file with both kinds of handlers: of what is in the process when it dies, what had begun is suspected, and what
// waited behind a synchronous handler goes back untouched.
func TestSuspectsOfBothKinds(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	w := f.StartWorker("mixed", harness.Settings{
		"worker.concurrency": 4, "python.command": []string{"python3", harness.TaskFile(t, "mixed.py")},
	})
	python := f.PythonPID("mixed")
	begun := []string{
		f.Enqueue("fetch", map[string]any{"seconds": 600}, asynq.MaxRetry(3)),
		f.Enqueue("note", map[string]any{"file": f.RunsFile, "seconds": 600}, asynq.MaxRetry(3)),
	}
	harness.Eventually(t, "the handlers run", func() error {
		if lines := harness.ReadLines(t, f.RunsFile); lines[0] == "" {
			return harness.NotYet(w, "no line")
		}
		if active := f.Redis.LLen(t.Context(), "asynq:{"+harness.QueueName+"}:active").Val(); active != 2 {
			return harness.NotYet(w, "%d tasks are active", active)
		}
		return nil
	})
	waiting := f.Enqueue("note", map[string]any{"file": f.RunsFile}, asynq.MaxRetry(0))
	enqueued := time.Now()
	harness.Eventually(t, "the third is in the process, or was", func() error {
		if owner := f.Owners()[waiting]; owner != "mixed" && time.Since(enqueued) < 3*time.Second {
			return harness.NotYet(w, "its owner is %q", owner)
		}
		return nil
	})
	harness.Kill(t, python, syscall.SIGKILL)
	f.AwaitHeartbeat("mixed", "status=degraded")
	if info := f.AwaitState(waiting, asynq.TaskStatePending); info.Retried != 0 || info.LastErr != "" {
		t.Errorf("what waited is %s, want it untouched", f.Describe(waiting))
	}
	for _, id := range begun {
		harness.EventuallyWithin(t, harness.Timeout/4, "task "+id+" is suspected", func() error {
			counts, err := f.Redis.HMGet(t.Context(), "asynq:{"+harness.QueueName+"}:t:"+id, "crashes", "suspicions").Result()
			if err != nil || counts[0] != nil && counts[0] != "0" || counts[1] != "1" {
				return fmt.Errorf("crashes and suspicions are %v (%w), want none and 1", counts, err)
			}
			return nil
		})
	}
	w.Stop()
}
