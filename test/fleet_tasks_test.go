package test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// Tasks that wait for one worker go back to all when that worker dies or degrades, and run elsewhere.
func TestTasksForOneWorkerGoBack(t *testing.T) {
	t.Parallel()
	const each = 5
	f := newFleetTest(t)
	checker := f.checker("checker", nil)
	noRole := settings{"fleet.enabled": false}
	dying, sick := f.worker("dying", noRole), f.worker("sick", noRole)
	f.joined("dying", "sick")
	waiting := map[string][]string{}
	for _, id := range []string{"dying", "sick"} {
		// The first keeps the worker busy; a busy worker may have more.
		for n := range each {
			task := fmt.Sprintf("%s-%d", id, n)
			out := checker.command("enqueue", queueName, "hold", f.payloadText(), "--worker", id, "--id", task, "--retention", "1h")
			if out.Code != 0 || !strings.Contains(out.Out, id) {
				t.Fatalf("enqueue --worker %s: %+v", id, out)
			}
			if n == 0 {
				f.startedOn(task, id)
			}
			waiting[id] = append(waiting[id], task)
		}
	}
	other := f.worker("other", noRole)
	f.joined("other")
	prefix := "runqy:{" + queueName + "}:direct:"
	stays(t, 3*time.Second, func() error {
		for id := range waiting {
			if n := f.redis.LLen(t.Context(), prefix+id).Val(); n != each-1 {
				return fmt.Errorf("%d tasks wait for %s", n, id)
			}
		}
		return nil
	})

	python := f.pythonPID("sick")
	dies(t, dying)
	kill(t, python, syscall.SIGKILL)
	f.beats("sick", "status=degraded")
	f.open()
	// What ran there failed, as any task that takes the process down. Its next try is not waited for.
	f.inState(waiting["sick"][0], asynq.TaskStateRetry)
	if err := f.inspector.RunTask(queueName, waiting["sick"][0]); err != nil {
		t.Error(err)
	}
	if out := checker.command("enqueue", queueName, "who", f.payloadText(), "--worker", "sick"); out.Code != 1 || !strings.Contains(out.ErrOut, "degraded") {
		t.Errorf("a task for a degraded worker: %+v", out)
	}
	for id, tasks := range waiting {
		for n, task := range tasks {
			crashes := 0
			if n == 0 {
				crashes = 1
			}
			if got := f.result(task); got != `"other"` {
				t.Errorf("task %s for %s was done by %s", task, id, got)
			}
			f.inState(task, asynqCompleted)
			if got := f.crashes(task); got != crashes || len(f.starts()[task]) != 1+crashes {
				t.Errorf("task %s for %s: %d crashes, and has run so: %v", task, id, got, f.starts()[task])
			}
		}
		if n := f.redis.Exists(t.Context(), prefix+id).Val(); n != 0 {
			t.Errorf("the list of %s is still there", id)
		}
	}
	f.nothingLeft()
	if out := sick.command("restart", "sick"); out.Code != 0 {
		t.Errorf("restart: %+v", out)
	}
	checker.isListed("sick", "FREE", "")
	other.Stop()
}

// Tasks for any free worker, while workers die one after the other: never one for a dead worker, and none lost.
func TestAnyFreeNeverPicksTheDead(t *testing.T) {
	t.Parallel()
	const workers, tasks = 5, 24
	f := newFleetTest(t)
	checker := f.checker("checker", nil)
	all := map[string]*workerProcess{}
	var living []string
	for i := range workers {
		id := fmt.Sprintf("any-%d", i)
		all[id] = f.worker(id, settings{"fleet.enabled": false, "worker.concurrency": 2})
		living = append(living, id)
	}
	f.joined(living...)
	f.open()
	var ids, gone []string
	chosen := map[string]int{}
	for n := range tasks {
		for range 3 { // work for everybody beside
			ids = append(ids, f.enqueue("hold", f.payload()))
		}
		if n%8 == 4 {
			dies(t, all[living[0]])
			gone, living = append(gone, living[0]), living[1:]
		}
		task := fmt.Sprintf("any-task-%d", n)
		out := checker.command("enqueue", queueName, "who", f.payloadText(), "--any-free", "--id", task)
		if out.Code != 0 {
			t.Fatalf("enqueue --any-free: %+v", out)
		}
		ids = append(ids, task)
		words := strings.Fields(out.Out)
		worker := words[len(words)-1]
		if !slices.Contains(living, worker) {
			t.Errorf("with %v dead, a task was given to %s: %s", gone, worker, out.Out)
		}
		chosen[worker]++
	}
	t.Logf("chosen: %v, dead in the end: %v", chosen, gone)
	for _, id := range ids {
		f.result(id)
	}
	f.nothingLeft()
	for task, runs := range f.starts() {
		if len(runs) > 2 || len(runs) == 2 && !slices.Contains(gone, runs[0].Worker) {
			t.Errorf("task %s has run so: %v", task, runs)
		}
	}
}

// The checker on its own, after the last worker has gone: the queues are still told of, and it ends as it should.
func TestCheckerAlone(t *testing.T) {
	t.Parallel()
	f := newFleetTest(t)
	checker := f.checker("checker", settings{"worker.queues": []string{"other_queue"}})
	f.leads("checker")
	clean := f.worker("clean", settings{"fleet.enabled": false})
	f.joined("clean")
	eventually(t, "the worker is counted", func() error {
		if now := samples(t, checker.Addr()); now[`runqy_fleet_workers{state="FREE"}`] != 1 {
			return fmt.Errorf("%v", about(now, "fleet"))
		}
		return nil
	})
	clean.Stop()
	victim := f.worker("victim", settings{"fleet.enabled": false})
	f.joined("victim")
	running := f.hold()
	f.startedOn(running, "victim")
	for range 6 {
		f.enqueue("who", f.payload())
	}
	dies(t, victim)
	// The dead worker's task is pending again, with nobody there to take it.
	eventually(t, "the queue is told of", func() error {
		now := samples(t, checker.Addr())
		workers := now[`runqy_fleet_workers{state="FREE"}`] + now[`runqy_fleet_workers{state="BUSY"}`] + now[`runqy_fleet_workers{state="DEAD"}`]
		pending := now[`runqy_queue_pending_tasks{queue="`+queueName+`"}`]
		if other, there := now[`runqy_queue_pending_tasks{queue="other_queue"}`]; pending != 7 || workers != 0 || !there || other != 0 {
			return fmt.Errorf("%v, %v", about(now, "fleet"), about(now, "pending"))
		}
		return nil
	})
	now := samples(t, checker.Addr())
	for sample, want := range map[string]float64{
		"runqy_fleet_checker": 1, `runqy_tasks_recovered_total{queue="` + queueName + `",reason="dead"}`: 1,
		`runqy_queue_tasks{queue="` + queueName + `",state="active"}`: 0,
	} {
		if now[sample] != want {
			t.Errorf("%s is %v, want %v", sample, now[sample], want)
		}
	}
	// The worker that stopped cleanly is not among the dead.
	if n := sumOf(now, "runqy_fleet_dead_total"); n != 1 {
		t.Errorf("%v workers are counted as dead: %v", n, about(now, "dead"))
	}
	checker.answers("/health", 200, healthyBody)
	checker.answers("/readyz", 200, "")
	if out := checker.command("healthcheck"); out.Code != 0 || !strings.Contains(out.Out, `"broker":"healthy"`) {
		t.Errorf("healthcheck: %+v", out)
	}
	if code, body := get(t, "http://"+checker.Addr()+"/health/v2/queues"); code != 200 || !strings.Contains(body, queueName) {
		t.Errorf("/health/v2/queues: %d %s", code, body)
	}
	checker.Stop()
	if f.redis.Exists(t.Context(), roleKey).Val() != 0 {
		t.Error("the role was not released")
	}
	// Redis is gone and comes back.
	again := f.checker("again", nil)
	f.leads("again")
	f.server.Kill()
	again.answers("/health", 503, unhealthyBody)
	f.server.Restart()
	again.answers("/health", 200, healthyBody)
	f.leads("again")
	again.Stop()
}
