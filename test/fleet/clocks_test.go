package fleet

import (
	"fmt"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// clockShifts are how far Redis' clock is ahead of everybody else's: that of a machine which is wrong is the same, seen
// from there.
func clockShifts() map[string]time.Duration {
	return map[string]time.Duration{"ahead": 10 * time.Minute, "behind": -10 * time.Minute}
}

// Clocks that are ten minutes apart change nothing: leases, ages, due times and expiries are Redis' alone.
func TestClockOfRedisIsAnother(t *testing.T) {
	t.Parallel()
	for name, shift := range clockShifts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testClocks(t, harness.NewFleetOn(t, redistest.StartShifted(t, shift)))
		})
	}
}

func testClocks(t *testing.T, f *harness.Fleet) {
	t.Helper()
	const prefix = "asynq:{" + harness.QueueName + "}:"
	checker := f.StartChecker("checker", nil) // or the leader's lease would have to end first
	f.AwaitLeader("checker")
	victim := f.StartWorker("victim", nil)
	f.AwaitRunning("victim")
	long := f.Hold(asynq.MaxRetry(0))
	f.AwaitStart(long, "victim")
	other := f.StartWorker("other", nil)
	f.AwaitRunning("other")

	checkRetryAndWait(t, f, other)
	// By another clock than Redis' the first would be deleted at once, or the second not for ten minutes.
	kept := f.Enqueue("who", f.Payload(), asynq.Retention(5*time.Minute))
	expires := f.Enqueue("who", f.Payload(), asynq.Retention(time.Second))
	f.Result(kept)
	f.Result(expires)
	if ttl := f.Redis.PTTL(t.Context(), "asynq:result:"+kept).Val(); ttl > 24*time.Hour || ttl < 24*time.Hour-harness.Timeout {
		t.Errorf("the result lives for %v, want 24h", ttl)
	}
	checkLatency(t, f, other)

	// The lease is renewed and valid, and neither the other worker's sweeps nor its asynq server take the task away.
	first := leaseOf(t, f, long)
	harness.Eventually(t, "the lease is renewed", func() error {
		if by := f.Owners()[long]; by != "victim" {
			return harness.Fatal("the task's owner is %q, want victim; %s", by, f.Describe(long))
		}
		if now := leaseOf(t, f, long); now <= first {
			return fmt.Errorf("it ends at %v, as before", now)
		}
		return nil
	})
	if left := leaseOf(t, f, long) - float64(f.Redis.Time(t.Context()).Val().Unix()); left < 1 || left > 31 {
		t.Errorf("the lease ends in %v s, want within 30", left)
	}
	f.AwaitGone(expires)
	f.AwaitState(kept, asynq.TaskStateCompleted)

	killed := harness.KillWorkers(t, victim)
	f.OpenGate()
	again := f.AwaitStart(long, "other")
	t.Logf("recovered %v after the kill", again.At.Sub(killed))
	if again.At.Sub(killed) > harness.Timeout/2 {
		t.Errorf("recovered %v after the kill, want sooner than by the end of a lease", again.At.Sub(killed))
	}
	if f.AwaitState(long, asynq.TaskStateCompleted); len(f.Starts()[long]) != 2 || f.Crashes(long) != 0 {
		t.Errorf("runs %v, %d crashes; want two runs and no crash", f.Starts()[long], f.Crashes(long))
	}
	day := f.Redis.Time(t.Context()).Val().UTC().Format(time.DateOnly)
	if n, err := f.Redis.Get(t.Context(), prefix+"processed:"+day).Int(); err != nil || n == 0 {
		t.Errorf("%d tasks are counted on %s (%v), want some", n, day, err)
	}
	other.Stop()
	checker.Stop()
}

// checkRetryAndWait checks that a task which asks for it runs again at its time, and what the metric of the wait says.
func checkRetryAndWait(t *testing.T, f *harness.Fleet, w *harness.Worker) {
	t.Helper()
	const delay = 2
	payload := f.Payload()
	payload["delay"] = delay
	retried := f.Enqueue("later", payload, asynq.MaxRetry(1), asynq.Retention(time.Hour))
	f.AwaitState(retried, asynq.TaskStateCompleted)
	runs := f.Starts()[retried]
	if len(runs) != 2 {
		t.Fatalf("its runs are %v, want two", runs)
	}
	// asynq counts in whole seconds, and looks what is due once a second.
	if gap := runs[1].At.Sub(runs[0].At); gap < (delay-1)*time.Second || gap > harness.Timeout/2 {
		t.Errorf("it has run again after %v, want %ds", gap, delay)
	}
	// What was enqueued here counts by this machine's clock; what has become due, and what our own command enqueues, by
	// Redis'.
	before := waits(t, w)
	harness.Eventually(t, "a task of our command has run on "+w.ID, func() error {
		out := w.Command("enqueue", harness.QueueName, "who", f.PayloadText(), "--wait")
		if out.Code != 0 {
			return harness.Fatal("enqueue: %+v, want exit code 0", out)
		}
		if waits(t, w)["count"] == before["count"] {
			return harness.NotYet(w, "it was %s", out.Out)
		}
		return nil
	})
	after := waits(t, w)
	if mean := (after["sum"] - before["sum"]) / (after["count"] - before["count"]); mean < 0 || mean > harness.Timeout.Seconds() {
		t.Errorf("a task has waited for %v s, want as long as it has", mean)
	}
}

// waits returns the metric of how long tasks have waited: sum and count.
func waits(t *testing.T, w *harness.Worker) map[string]float64 {
	t.Helper()
	all := harness.Samples(t, w.Addr())
	return map[string]float64{
		"sum":   harness.SumSamples(all, "runqy_task_wait_seconds_sum"),
		"count": harness.SumSamples(all, "runqy_task_wait_seconds_count"),
	}
}

// checkLatency checks the age of the oldest task that waits, of a queue that is paused for it.
func checkLatency(t *testing.T, f *harness.Fleet, w *harness.Worker) {
	t.Helper()
	if err := f.Inspector.PauseQueue(harness.QueueName); err != nil {
		t.Fatalf("pause the queue: %v", err)
	}
	began := time.Now()
	if out := w.Command("enqueue", harness.QueueName, "who", f.PayloadText(), "--id", "waits"); out.Code != 0 {
		t.Fatalf("enqueue: %+v, want exit code 0", out)
	}
	harness.Eventually(t, "the age of the oldest task is told", func() error {
		const name = `runqy_queue_latency_seconds{queue="` + harness.QueueName + `"}`
		age, known := harness.Samples(t, w.Addr())[name]
		switch {
		case age > time.Since(began).Seconds():
			return harness.Fatal("it is %v s, %v after the task was enqueued", age, time.Since(began))
		case !known || age < 0.2:
			return fmt.Errorf("it is %v s (known: %v)", age, known)
		}
		return nil
	})
	if err := f.Inspector.UnpauseQueue(harness.QueueName); err != nil {
		t.Fatalf("unpause the queue: %v", err)
	}
	f.Result("waits")
}

// leaseOf returns when the lease of a task ends, by Redis' clock.
func leaseOf(t *testing.T, f *harness.Fleet, id string) float64 {
	t.Helper()
	end, err := f.Redis.ZScore(t.Context(), "asynq:{"+harness.QueueName+"}:lease", id).Result()
	if err != nil {
		t.Fatalf("read the lease of task %s: %v", id, err)
	}
	return end
}

// Without a checker too: a lapsed lease is judged by Redis' clock.
func TestLongWorkerDiesWithoutAFleetNorAClock(t *testing.T) {
	harness.Long(t)
	t.Parallel()
	for name, shift := range clockShifts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testDiesWithoutAFleet(t, harness.NewFleetOn(t, redistest.StartShifted(t, shift)))
		})
	}
}
