package test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// A worker that comes with the id of a dead one has its tasks back in the queue before it takes any.
func TestSuccessorRecoversItsPredecessorsTasks(t *testing.T) {
	t.Parallel()
	f := newFleetTest(t)
	// Nobody else is there who could do it, and no beat is expected for long.
	alone := settings{"worker.concurrency": 4, "fleet.enabled": false, "heartbeat.interval": "5s", "heartbeat.ttl": "15s"}
	first := f.worker("heir", alone)
	f.joined("heir")
	tasks := []string{f.hold(asynq.MaxRetry(0)), f.hold(), f.hold(), f.hold()}
	f.held(len(tasks))
	f.startedOn(tasks[0], "heir")
	waiting := f.enqueue("who", f.payload())

	dies(t, first)
	f.open()
	began := time.Now()
	second := f.worker("heir", alone)
	var claimed time.Time
	eventually(t, "the successor has taken over", func() error {
		if second.Log.find("worker started") == nil {
			return errors.New("not yet")
		}
		claimed = time.Now()
		return nil
	})
	took := eventually(t, "the tasks are in the queue again", func() error {
		for _, id := range tasks {
			if f.crashes(id) != 1 {
				return fmt.Errorf("%s: %s", id, f.describe(id))
			}
		}
		return nil
	})
	t.Logf("taken over %v after the start, recovered %v later (5 s promised)", claimed.Sub(began).Round(time.Millisecond), took.Round(time.Millisecond))
	if took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	f.result(waiting)
	for i, id := range tasks {
		info := f.inState(id, asynqCompleted)
		if f.crashes(id) != 1 || info.Retried != 0 {
			t.Errorf("task %d: %d crashes, retried %d", i, f.crashes(id), info.Retried)
		}
	}
	if runs := f.starts()[tasks[0]]; len(runs) != 2 {
		t.Errorf("the one that ran has run so: %v", runs)
	}
	second.metric(`runqy_tasks_recovered_total{queue="`+queueName+`",reason="successor"}`, "4")
	f.nothingLeft()
	second.Stop()
}

// The checker dies while it recovers the tasks of a dead worker. The next one takes the role and finishes.
func TestCheckerDiesInTheMiddleOfARecovery(t *testing.T) {
	t.Parallel()
	const tasks = 3000
	f := newFleetTest(t)
	first := f.checker("first", nil)
	f.leads("first")
	second := f.checker("second", nil)
	// The tasks wait in the pipe of a child that is busy with the first of them.
	loaded := f.worker("loaded", settings{"worker.concurrency": tasks, "fleet.enabled": false, "results.redis_cli_views": false})
	f.joined("loaded")
	ids := f.many(tasks)
	f.held(tasks)
	eventually(t, "one of them runs", func() error {
		if len(f.runs("start")) == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	active := func() int64 { return f.redis.LLen(t.Context(), "asynq:{"+queueName+"}:active").Val() }

	died := dies(t, loaded)
	eventually(t, "the first tasks are recovered", func() error {
		if active() == tasks {
			return errors.New("not yet")
		}
		return nil
	})
	kill(t, first.PID(), syscall.SIGKILL)
	killed := time.Now()
	first.WaitExit()
	left := active()
	t.Logf("the recovery began %v after the death; %d of %d tasks were left when the checker died", killed.Sub(died).Round(time.Millisecond), left, tasks)
	if left == 0 {
		t.Error("the checker was killed too late for this test to show anything")
	}
	took := f.leads("second")
	t.Logf("the next checker has the role after %v (15 s promised)", took.Round(time.Millisecond))
	if took > 30*time.Second {
		t.Errorf("the role was taken over after %v", took)
	}
	eventually(t, "the rest is recovered", func() error {
		if n := active(); n > 0 {
			return fmt.Errorf("%d tasks are left", n)
		}
		return nil
	})
	within := time.Since(killed)
	t.Logf("all tasks are recovered %v after the first checker's death", within.Round(time.Millisecond))
	eventually(t, "the dead worker has left the registry", func() error {
		if f.listedInRedis("loaded") {
			return errors.New("not yet")
		}
		return nil
	})
	f.exactly(ids, 1)
	// The last command of the dead one may have been carried out after the count.
	n := samples(t, second.Addr())[`runqy_tasks_recovered_total{queue="`+queueName+`",reason="dead"}`]
	// And on a machine so slow that leases have lapsed meanwhile, asynq's recoverer takes its part.
	const lease = 25 * time.Second
	if n > float64(left) || n < 1 || within < lease && n < float64(left-1) {
		t.Errorf("the second checker counts %v recovered tasks, want %d", n, left)
	}
	second.Stop()
}

// The worker that is the checker dies with a task of its own: another one takes the role and sees to that task.
func TestCheckerDiesWithATaskOfItsOwn(t *testing.T) {
	t.Parallel()
	f := newFleetTest(t)
	all := map[string]*workerProcess{}
	for _, id := range []string{"first", "second", "third"} {
		all[id] = f.worker(id, settings{"heartbeat.interval": "5s", "heartbeat.ttl": "15s", "fleet.interval": "5s"})
	}
	f.joined("first", "second", "third")
	holder := f.holder()
	tasks := []string{f.hold(), f.hold(asynq.MaxRetry(0)), f.hold()}
	owner := f.held(len(tasks))
	eventually(t, "all run", func() error {
		if n := len(f.starts()); n < len(tasks) {
			return fmt.Errorf("%d run", n)
		}
		return nil
	})
	killed := dies(t, all[holder])
	f.open()
	took := eventually(t, "another worker is the checker", func() error {
		if now := f.holder(); now == holder || now == "" {
			return fmt.Errorf("it is %q", now)
		}
		return nil
	})
	for _, id := range tasks {
		crashes, last := 0, owner[id]
		if owner[id] == holder {
			f.inState(id, asynqCompleted)
			runs := f.starts()[id]
			crashes, last = 1, runs[len(runs)-1].Worker
			t.Logf("the role went from %s to %s after %v (15 s promised), its task ran again after %v (20 s promised)",
				holder, f.holder(), took.Round(time.Millisecond), runs[len(runs)-1].At.Sub(killed).Round(time.Millisecond))
		}
		if got := f.result(id); got != `"`+last+`"` || last == holder {
			t.Errorf("task %s of %s was done by %s", id, owner[id], got)
		}
		if f.crashes(id) != crashes || len(f.starts()[id]) != 1+crashes {
			t.Errorf("task %s: %d crashes, and has run so: %v", id, f.crashes(id), f.starts()[id])
		}
	}
	if took > 30*time.Second {
		t.Errorf("the role was taken over after %v", took)
	}
	f.nothingLeft()
}

// Two checkers that both take themselves for the only one, since their lease is deleted all the time, recover the tasks
// of several dead workers: each task goes back once.
func TestTwoCheckersAtOnceDoNoHarm(t *testing.T) {
	t.Parallel()
	const each, dead = 1200, 3
	f := newFleetTest(t)
	// Rounds so close that the second begins before the first is through.
	often := settings{"fleet.interval": "500ms"}
	one, two := f.checker("one", often), f.checker("two", often)
	var loaded []*workerProcess
	for i := range dead {
		id := fmt.Sprintf("loaded-%d", i)
		loaded = append(loaded, f.worker(id, settings{"worker.concurrency": each, "fleet.enabled": false}))
	}
	for _, w := range loaded {
		f.joined(w.ID)
	}
	ids := f.many(each * dead)
	f.held(each * dead)

	done := make(chan struct{})
	var deleting sync.WaitGroup
	defer deleting.Wait()
	defer close(done)
	deleting.Go(func() {
		for {
			select {
			case <-done:
				return
			default: // without a pause: whoever finds the other's lease gives up
				_ = f.redis.Del(t.Context(), roleKey).Err()
			}
		}
	})
	addresses := []string{one.Addr(), two.Addr()}
	both := func() error {
		for _, a := range addresses {
			if now := samples(t, a); now["runqy_fleet_checker"] != 1 {
				return fmt.Errorf("%v", about(now, "fleet"))
			}
		}
		return nil
	}
	eventually(t, "both are the checker", both)
	dies(t, loaded...)
	f.held(0)
	if err := both(); err != nil {
		t.Logf("one of them has found the other's lease after all: %v", err)
	}
	f.exactly(ids, 1)
	recovered := [2]float64{}
	eventually(t, "they have counted", func() error {
		for i, a := range addresses {
			recovered[i] = sumOf(samples(t, a), "runqy_tasks_recovered_total")
		}
		if recovered[0]+recovered[1] != each*dead {
			return fmt.Errorf("%v", recovered)
		}
		return nil
	})
	t.Logf("of %d tasks one checker recovered %v and the other %v", each*dead, recovered[0], recovered[1])
	f.open()
	last := f.worker("last", settings{"worker.concurrency": 50, "fleet.enabled": false})
	f.nothingLeftFor(2 * patience)
	for _, id := range ids {
		if got := f.redis.Get(t.Context(), "asynq:result:"+id).Val(); got != `"last"` {
			t.Fatalf("the result of %s is %q; %s", id, got, f.describe(id))
		}
	}
	if starts := f.starts(); len(starts) != each*dead {
		t.Errorf("%d tasks have run", len(starts))
	} else {
		for id, runs := range starts {
			if n := len(runs); n > 2 || n == 2 && !strings.HasPrefix(runs[0].Worker, "loaded") {
				t.Errorf("task %s has run so: %v", id, runs)
			}
		}
	}
	last.Stop()
}

// many enqueues tasks that run until the gate is opened.
func (f *fleetTest) many(n int) []string {
	f.t.Helper()
	ids := make([]string, n)
	var sending sync.WaitGroup
	defer sending.Wait()
	for p := range producers {
		sending.Go(func() {
			for i := p; i < n; i += producers {
				ids[i] = fmt.Sprintf("task-%d", i)
				task := asynq.NewTask("hold", []byte(f.payloadText()))
				if _, err := f.client.EnqueueContext(f.t.Context(), task, asynq.Queue(queueName), asynq.TaskID(ids[i]), asynq.MaxRetry(i%2)); err != nil {
					f.t.Errorf("enqueue %s: %v", ids[i], err)
					return
				}
			}
		})
	}
	return ids
}

// exactly checks that each of the tasks is pending, once, and has lost its worker so often.
func (f *fleetTest) exactly(ids []string, crashes int) {
	f.t.Helper()
	ctx := f.t.Context()
	prefix := "asynq:{" + queueName + "}:"
	pending, err := f.redis.LRange(ctx, prefix+"pending", 0, -1).Result()
	if err != nil {
		f.t.Fatal(err)
	}
	times := map[string]int{}
	for _, id := range pending {
		times[id]++
	}
	wrong := 0
	for _, id := range ids {
		task := f.redis.HMGet(ctx, prefix+"t:"+id, "state", "crashes", "owner").Val()
		if times[id] != 1 || fmt.Sprint(task) != fmt.Sprintf("[pending %d <nil>]", crashes) {
			if wrong++; wrong < 5 {
				f.t.Errorf("task %s is %d times in pending: %v", id, times[id], task)
			}
		}
	}
	if wrong > 0 || len(pending) != len(ids) {
		f.t.Errorf("%d of %d tasks are not as they should be, %d are pending", wrong, len(ids), len(pending))
	}
	if n := f.redis.ZCard(ctx, prefix+"lease").Val(); n != 0 {
		f.t.Errorf("%d leases are left", n)
	}
}
