package fleet

import (
	"fmt"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/test/harness"
)

// checkStillRuns checks that a task has run once, on one worker, whose Python process is the same.
func checkStillRuns(t *testing.T, f *harness.Fleet, task, worker string, python int) {
	t.Helper()
	if owner := f.Owners()[task]; owner != worker || len(f.Starts()[task]) != 1 {
		t.Errorf("the task's owner is %q, its runs are %v; want %s and one run", owner, f.Starts()[task], worker)
	}
	if now := f.PythonPID(worker); now != python {
		t.Errorf("the process is %d, want %d still", now, python)
	}
}

// checkCompletedOnce lets the tasks end, and checks that this one has run once and is charged with nothing.
func checkCompletedOnce(t *testing.T, f *harness.Fleet, task, worker string) {
	t.Helper()
	f.OpenGate()
	info := f.AwaitState(task, asynq.TaskStateCompleted)
	if string(info.Result) != `"`+worker+`"` || info.Retried != 0 || len(f.Starts()[task]) != 1 {
		t.Errorf("the result is %s, %d retries, runs %v; want one run on %s", info.Result, info.Retried, f.Starts()[task], worker)
	}
	if n := f.Recoveries(task); f.Crashes(task) != 0 || n != 0 {
		t.Errorf("%d crashes and %d recoveries, want none", f.Crashes(task), n)
	}
}

// A lease that has ended, or is gone, while its owner beats is none of the others' business: neither the fleet's
// sweeper nor asynq's recoverer of a worker that starts takes the task, and the owner writes its lease again.
func TestLapsedLeaseOfALiveOwner(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	owner := f.StartWorker("owner", nil)
	f.AwaitRunning("owner")
	python := f.PythonPID("owner")
	task := f.Hold(asynq.MaxRetry(0))
	f.AwaitStart(task, "owner")
	lease := "asynq:{" + harness.QueueName + "}:lease"
	lapse := func() error {
		past := float64(time.Now().Add(-5 * time.Minute).Unix())
		if err := f.Redis.ZAddXX(t.Context(), lease, redis.Z{Score: past, Member: task}).Err(); err != nil {
			return err
		}
		if by := f.Owners()[task]; by != "owner" {
			return harness.Fatal("the task's owner is %q, want owner; %s", by, f.Describe(task))
		}
		return nil
	}
	other := f.StartWorker("other", nil)
	harness.EventuallyWithin(t, 2*harness.Timeout, "another worker runs", func() error {
		if err := lapse(); err != nil {
			return err
		}
		if status := f.Heartbeat("other")["status"]; status != "running" {
			return harness.NotYet(other, "its status is %q", status)
		}
		return nil
	})
	harness.Consistently(t, 4*time.Second, lapse) // some sweeps
	f.Redis.ZRem(t.Context(), lease, task)
	harness.EventuallyWithin(t, harness.Timeout/2, "the owner writes its lease", func() error {
		score, err := f.Redis.ZScore(t.Context(), lease, task).Result()
		if err != nil || score < float64(time.Now().Unix()) {
			return fmt.Errorf("the lease is %v (%w)", score, err)
		}
		return nil
	})
	checkStillRuns(t, f, task, "owner", python)
	checkCompletedOnce(t, f, task, "owner")
	f.AwaitEmpty()
	owner.Stop()
	other.Stop()
}

// Redis is away for longer than a lease lasts. The task on a healthy worker goes on and is completed, once.
func TestLongOutageBeyondTheLease(t *testing.T) {
	harness.Long(t)
	t.Parallel()
	f := harness.NewFleet(t)
	w := f.StartWorker("owner", harness.Settings{"heartbeat.ttl": "90s"})
	f.AwaitRunning("owner")
	python := f.PythonPID("owner")
	task := f.Hold(asynq.MaxRetry(0))
	f.AwaitStart(task, "owner")
	f.Server.Freeze()
	time.Sleep(40 * time.Second) // the outage; a lease lasts for 30 s
	f.Server.Thaw()
	w.AwaitAnswer("/health", 200, harness.HealthyBody)
	harness.Consistently(t, 10*time.Second, func() error {
		if n := len(f.Starts()[task]); n != 1 {
			return fmt.Errorf("the task has begun %d times", n)
		}
		return nil
	})
	checkStillRuns(t, f, task, "owner", python)
	checkCompletedOnce(t, f, task, "owner")
	f.AwaitEmpty()
	w.Stop()
}
