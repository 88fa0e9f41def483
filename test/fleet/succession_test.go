package fleet

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/test/harness"
)

// A worker that comes with the id of a dead one has its tasks back in the queue before it takes any.
func TestSuccessorRecoversItsPredecessorsTasks(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	// There is no checker that could do it, and no heartbeat is due for long.
	alone := f.Async(harness.Settings{"worker.concurrency": 4, "fleet.enabled": false, "heartbeat.interval": "5s", "heartbeat.ttl": "15s"})
	first := f.StartWorker("same-id", alone)
	f.AwaitRunning("same-id")
	tasks := []string{f.Hold(asynq.MaxRetry(0)), f.Hold(), f.Hold(), f.Hold()}
	for _, id := range tasks {
		f.AwaitStart(id, "same-id")
	}
	f.AwaitHeld(len(tasks))
	waiting := f.Enqueue("who", f.Payload())

	harness.KillWorkers(t, first)
	f.OpenGate()
	began := time.Now()
	second := f.StartWorker("same-id", alone)
	var claimed time.Time
	harness.Eventually(t, "the successor has taken over", func() error {
		if second.Log.Find("worker started") == nil {
			return errors.New("not yet")
		}
		claimed = time.Now()
		return nil
	})
	took := harness.Eventually(t, "the tasks are in the queue again", func() error {
		for _, id := range tasks {
			if f.Recoveries(id) != 1 {
				return fmt.Errorf("%s: %s", id, f.Describe(id))
			}
		}
		return nil
	})
	t.Logf("taken over %v after the start, recovered %v later (5 s promised)", claimed.Sub(began).Round(time.Millisecond), took.Round(time.Millisecond))
	if took > 20*time.Second {
		t.Errorf("it took %v, want 20s at most", took)
	}
	f.Result(waiting)
	for i, id := range tasks {
		info := f.AwaitState(id, asynq.TaskStateCompleted)
		if f.Recoveries(id) != 1 || f.Crashes(id) != 0 || info.Retried != 0 || len(f.Starts()[id]) != 2 {
			t.Errorf("task %d: %d recoveries, %d crashes, retried %d, runs %v; want 1, 0, 0 and two runs", i, f.Recoveries(id), f.Crashes(id), info.Retried, f.Starts()[id])
		}
	}
	second.AwaitMetric(`runqy_tasks_recovered_total{queue="`+harness.QueueName+`",reason="successor"}`, "4")
	f.AwaitEmpty()
	second.Stop()
}

// The leader dies while it recovers the tasks of a dead worker. The next leader finishes.
func TestLeaderDiesDuringRecovery(t *testing.T) {
	t.Parallel()
	const tasks = 3000
	f := harness.NewFleet(t)
	first := f.StartChecker("first", nil)
	f.AwaitLeader("first")
	second := f.StartChecker("second", nil)
	loaded := f.StartWorker("loaded", f.Async(harness.Settings{"worker.concurrency": tasks, "fleet.enabled": false, "results.redis_cli_views": false}))
	f.AwaitRunning("loaded")
	ids := enqueueMany(t, f, tasks)
	f.AwaitHeld(tasks)
	harness.Eventually(t, "one of them runs", func() error {
		if len(f.Runs("start")) == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	active := func() int64 { return f.Redis.LLen(t.Context(), "asynq:{"+harness.QueueName+"}:active").Val() }

	died := harness.KillWorkers(t, loaded)
	// Eventually looks too seldom: the whole recovery may be over within a second.
	for active() == tasks {
		if time.Since(died) > harness.Timeout {
			t.Fatalf("no task is recovered %v after the death, want the first", harness.Timeout)
		}
		time.Sleep(time.Millisecond)
	}
	harness.Kill(t, first.PID(), syscall.SIGKILL)
	killed := time.Now()
	first.WaitExit()
	left := active()
	t.Logf("the recovery began %v after the death; %d of %d tasks were left when the checker died", killed.Sub(died).Round(time.Millisecond), left, tasks)
	if left == 0 {
		t.Error("the checker was killed too late for this test to show anything")
	}
	took := f.AwaitLeader("second")
	t.Logf("the next checker is the leader after %v (15 s promised)", took.Round(time.Millisecond))
	if took > 30*time.Second {
		t.Errorf("there was another leader after %v, want 30s at most", took)
	}
	harness.Eventually(t, "the rest is recovered", func() error {
		if n := active(); n > 0 {
			return fmt.Errorf("%d tasks are left", n)
		}
		return nil
	})
	within := time.Since(killed)
	t.Logf("all tasks are recovered %v after the first checker's death", within.Round(time.Millisecond))
	harness.Eventually(t, "the dead worker has left the registry", func() error {
		if f.Registered("loaded") {
			return errors.New("not yet")
		}
		return nil
	})
	checkPendingOnce(t, f, ids, 1)
	// The last command of the dead one may have been carried out after the count.
	n := harness.Samples(t, second.Addr())[`runqy_tasks_recovered_total{queue="`+harness.QueueName+`",reason="dead"}`]
	// And on a machine so slow that leases have lapsed meanwhile, asynq's recoverer takes its part.
	const lease = 25 * time.Second
	if n > float64(left) || n < 1 || within < lease && n < float64(left-1) {
		t.Errorf("the second checker counts %v recovered tasks, want %d", n, left)
	}
	second.Stop()
}

// The worker that is the leader dies with a task of its own: another one becomes the leader and recovers that task.
func TestLeaderDiesWithATask(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	all := map[string]*harness.Worker{}
	for _, id := range []string{"first", "second", "third"} {
		all[id] = f.StartWorker(id, harness.Settings{"heartbeat.interval": "5s", "heartbeat.ttl": "15s", "fleet.interval": "5s"})
	}
	f.AwaitRunning("first", "second", "third")
	leader := f.Leader()
	tasks := []string{f.Hold(), f.Hold(asynq.MaxRetry(0)), f.Hold()}
	owner := f.AwaitHeld(len(tasks))
	harness.Eventually(t, "all run", func() error {
		if n := len(f.Starts()); n < len(tasks) {
			return fmt.Errorf("%d run", n)
		}
		return nil
	})
	killed := harness.KillWorkers(t, all[leader])
	f.OpenGate()
	took := harness.Eventually(t, "another worker is the leader", func() error {
		if now := f.Leader(); now == leader || now == "" {
			return fmt.Errorf("it is %q", now)
		}
		return nil
	})
	for _, id := range tasks {
		recoveries, last := 0, owner[id]
		if owner[id] == leader {
			f.AwaitState(id, asynq.TaskStateCompleted)
			runs := f.Starts()[id]
			recoveries, last = 1, runs[len(runs)-1].Worker
			t.Logf("the leader changed from %s to %s after %v (15 s promised), its task ran again after %v (20 s promised)",
				leader, f.Leader(), took.Round(time.Millisecond), runs[len(runs)-1].At.Sub(killed).Round(time.Millisecond))
		}
		if got := f.Result(id); got != `"`+last+`"` || last == leader {
			t.Errorf("task %s of %s was done by %s, want %s", id, owner[id], got, last)
		}
		if f.Recoveries(id) != recoveries || len(f.Starts()[id]) != 1+recoveries {
			t.Errorf("task %s: %d recoveries and the runs %v, want %d and %d", id, f.Recoveries(id), f.Starts()[id], recoveries, 1+recoveries)
		}
	}
	if took > 30*time.Second {
		t.Errorf("there was another leader after %v, want 30s at most", took)
	}
	f.AwaitEmpty()
}

// Two checkers that are both the leader, since the lease is deleted all the time, recover the tasks of several dead
// workers: each task goes back once.
func TestTwoLeadersRecoverEachTaskOnce(t *testing.T) {
	t.Parallel()
	const each, dead = 1200, 3
	f := harness.NewFleet(t)
	// Rounds so close that the second begins before the first is through.
	often := harness.Settings{"fleet.interval": "500ms"}
	one, two := f.StartChecker("one", often), f.StartChecker("two", often)
	var loaded []*harness.Worker
	for i := range dead {
		id := fmt.Sprintf("loaded-%d", i)
		loaded = append(loaded, f.StartWorker(id, f.Async(harness.Settings{"worker.concurrency": each, "fleet.enabled": false})))
	}
	for _, w := range loaded {
		f.AwaitRunning(w.ID)
	}
	ids := enqueueMany(t, f, each*dead)
	f.AwaitHeld(each * dead)

	done := make(chan struct{})
	var deleting sync.WaitGroup
	defer deleting.Wait()
	defer close(done)
	deleting.Go(func() {
		for {
			select {
			case <-done:
				return
			default: // without a pause: the one that finds the other's lease gives up
				_ = f.Redis.Del(t.Context(), harness.LeaderKey).Err()
			}
		}
	})
	addresses := []string{one.Addr(), two.Addr()}
	both := func() error {
		for _, a := range addresses {
			if now := harness.Samples(t, a); now["runqy_fleet_checker"] != 1 {
				return fmt.Errorf("%v", harness.SelectSamples(now, "fleet"))
			}
		}
		return nil
	}
	harness.Eventually(t, "both are the leader", both)
	harness.KillWorkers(t, loaded...)
	f.AwaitHeld(0)
	if err := both(); err != nil {
		t.Logf("one of them has found the other's lease: %v", err)
	}
	checkPendingOnce(t, f, ids, 1)
	recovered := [2]float64{}
	harness.Eventually(t, "they have counted", func() error {
		for i, a := range addresses {
			recovered[i] = harness.SumSamples(harness.Samples(t, a), "runqy_tasks_recovered_total")
		}
		if recovered[0]+recovered[1] != each*dead {
			return fmt.Errorf("%v", recovered)
		}
		return nil
	})
	t.Logf("of %d tasks one checker recovered %v and the other %v", each*dead, recovered[0], recovered[1])
	f.OpenGate()
	last := f.StartWorker("last", harness.Settings{"worker.concurrency": 50, "fleet.enabled": false})
	f.AwaitEmptyWithin(2 * harness.Timeout)
	for _, id := range ids {
		if got := f.Redis.Get(t.Context(), "asynq:result:"+id).Val(); got != `"last"` {
			t.Fatalf("the result of %s is %q, want that of the worker last; %s", id, got, f.Describe(id))
		}
	}
	if starts := f.Starts(); len(starts) != each*dead {
		t.Errorf("%d tasks have run, want %d", len(starts), each*dead)
	} else {
		for id, runs := range starts {
			if n := len(runs); n > 2 || n == 2 && !strings.HasPrefix(runs[0].Worker, "loaded") {
				t.Errorf("task %s has the runs %v, want one, or two if the first was on a dead worker", id, runs)
			}
		}
	}
	last.Stop()
}

// enqueueMany enqueues n tasks that run until the gate is opened, and returns their ids.
func enqueueMany(t *testing.T, f *harness.Fleet, n int) []string {
	t.Helper()
	const producers = 4
	ids := make([]string, n)
	var sending sync.WaitGroup
	defer sending.Wait()
	for p := range producers {
		sending.Go(func() {
			for i := p; i < n; i += producers {
				ids[i] = fmt.Sprintf("task-%d", i)
				task := asynq.NewTask("hold", []byte(f.PayloadText()))
				if _, err := f.Client.EnqueueContext(t.Context(), task, asynq.Queue(harness.QueueName), asynq.TaskID(ids[i]), asynq.MaxRetry(i%2)); err != nil {
					t.Errorf("enqueue %s: %v", ids[i], err)
					return
				}
			}
		})
	}
	return ids
}

// checkPendingOnce checks that each of the tasks is pending, once, and has lost its worker so often.
func checkPendingOnce(t *testing.T, f *harness.Fleet, ids []string, recoveries int) {
	t.Helper()
	ctx := t.Context()
	prefix := "asynq:{" + harness.QueueName + "}:"
	pending, err := f.Redis.LRange(ctx, prefix+"pending", 0, -1).Result()
	if err != nil {
		t.Fatalf("list the pending tasks: %v", err)
	}
	times := map[string]int{}
	for _, id := range pending {
		times[id]++
	}
	wrong := 0
	for _, id := range ids {
		task := f.Redis.HMGet(ctx, prefix+"t:"+id, "state", "recoveries", "owner").Val()
		if times[id] != 1 || fmt.Sprint(task) != fmt.Sprintf("[pending %d <nil>]", recoveries) {
			if wrong++; wrong < 5 {
				t.Errorf("task %s is %d times in pending, want once: %v, want pending after %d recoveries without an owner", id, times[id], task, recoveries)
			}
		}
	}
	if wrong > 0 || len(pending) != len(ids) {
		t.Errorf("%d of %d tasks are not as they should be, want none; %d are pending", wrong, len(ids), len(pending))
	}
	if n := f.Redis.ZCard(ctx, prefix+"lease").Val(); n != 0 {
		t.Errorf("%d leases are left, want none", n)
	}
}
