package test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// Fifty workers in the middle of their work, of which ten are killed at once. All ten are reported dead, each of their
// tasks runs again elsewhere, nothing is lost, and nobody is given anything to the dead.
func TestTenOfFiftyWorkersDie(t *testing.T) {
	t.Parallel()
	const workers, victims, tasks = 50, 10, 130
	f := newFleetTest(t)
	began := time.Now()
	all := make(map[string]*workerProcess, workers)
	slots := 0
	for i := range workers {
		id := fmt.Sprintf("fleet-%02d", i)
		// The beats and the rounds are as the defaults: the time until the tasks run again is measured.
		all[id] = f.worker(id, settings{
			"worker.concurrency": 1 + i%2, "heartbeat.interval": "5s", "heartbeat.ttl": "15s", "fleet.interval": "5s",
		})
		slots += 1 + i%2
	}
	f.joined(slices.Sorted(maps.Keys(all))...)
	t.Logf("%d workers run after %v", workers, time.Since(began).Round(time.Millisecond))

	var ids []string
	for i := range tasks {
		retries := asynq.MaxRetry(25)
		if i%2 == 0 {
			retries = asynq.MaxRetry(0)
		}
		ids = append(ids, f.hold(retries))
	}
	owner := f.held(slots)
	eventually(t, "each worker runs one task", func() error {
		if n := len(f.runs("start")); n < workers {
			return fmt.Errorf("%d run", n)
		}
		return nil
	})
	holder := f.holder()
	var dead []string
	for id := range maps.Keys(all) {
		if id != holder && len(dead) < victims {
			dead = append(dead, id)
		}
	}
	slices.Sort(dead)
	theirs := map[string]bool{} // what the victims hold, running or waiting in the child's pipe
	for id, worker := range owner {
		if slices.Contains(dead, worker) {
			theirs[id] = true
		}
	}
	before := f.starts()

	killed := dies(t, procs(all, dead)...)
	f.open()

	// The command asks for itself, so it knows at once; the checker within a round.
	rows := all[holder].workers()
	for _, id := range dead {
		if row, there := rows[id]; there && row.State != "DEAD" {
			t.Errorf("%s is listed as %+v", id, row)
		}
	}
	t.Logf("listed %v after the kill", time.Since(killed).Round(time.Millisecond))
	if out := all[holder].command("enqueue", queueName, "who", f.payloadText(), "--worker", dead[0]); out.Code != 1 || !strings.Contains(out.ErrOut, "DEAD") {
		t.Errorf("a task for a dead worker: %+v", out)
	}
	out := all[holder].command("enqueue", queueName, "who", f.payloadText(), "--any-free")
	if out.Code != 0 || slices.ContainsFunc(dead, func(id string) bool { return strings.Contains(out.Out, id) }) {
		t.Errorf("a task for any free worker: %+v", out)
	}
	most := 0.0
	within(t, patience, "the checker counts the dead", func() error {
		checker := all[f.holder()]
		if checker == nil {
			return errors.New("nobody is the checker")
		}
		now := samples(t, checker.Addr())
		most = max(most, now[`runqy_fleet_workers{state="DEAD"}`])
		counted := sumOf(now, "runqy_fleet_dead_total")
		// The first may have been removed before the last one is judged.
		if buried := workers - f.redis.ZCard(t.Context(), "runqy:workers").Val(); counted < victims || most < victims && buried == 0 {
			return fmt.Errorf("%v are, at most %v at a time, %d removed", counted, most, buried)
		}
		return nil
	})
	if most < 1 {
		t.Errorf("at most %v workers were dead at a time", most)
	}
	f.nothingLeftFor(2 * patience)

	starts := f.starts()
	var slowest time.Duration
	for _, id := range ids {
		runs := starts[id]
		times := 1
		if theirs[id] && len(before[id]) > 0 {
			times = 2
		}
		last := taskRun{}
		if len(runs) > 0 {
			last = runs[len(runs)-1]
		}
		crashes := 0
		if theirs[id] {
			crashes = 1
			slowest = max(slowest, last.At.Sub(killed))
		}
		if len(runs) != times || last.At.After(killed) && slices.Contains(dead, last.Worker) {
			t.Errorf("task %s, held by %s at the kill, has run so: %v, want %d runs", id, owner[id], runs, times)
		}
		if got := f.result(id); got != `"`+last.Worker+`"` {
			t.Errorf("the result of %s is %s, it ran last on %s", id, got, last.Worker)
		}
		info := f.inState(id, asynq.TaskStateCompleted)
		if n := f.crashes(id); n != crashes || info.Retried != 0 {
			t.Errorf("task %s: %d crashes, %d retries; want %d, 0", id, n, info.Retried, crashes)
		}
	}
	t.Logf("%d tasks of %d dead workers ran again, the last one began %v after the kill (20 s promised); %v dead at a time",
		len(theirs), victims, slowest.Round(time.Millisecond), most)
	if slowest > 40*time.Second {
		t.Errorf("it took %v until the last task of a dead worker ran again", slowest)
	}
	eventually(t, "the dead have left the registry", func() error {
		if n := f.redis.ZCard(t.Context(), "runqy:workers").Val(); n != workers-victims {
			return fmt.Errorf("%d workers are registered", n)
		}
		return nil
	})
	recovered := 0.0
	told := map[string]bool{}
	for _, w := range all { // on a busy machine the role may have gone to another
		if slices.Contains(dead, w.ID) {
			continue
		}
		recovered += samples(t, w.Addr())[`runqy_tasks_recovered_total{queue="`+queueName+`",reason="dead"}`]
		for _, id := range dead {
			told[id] = told[id] || w.Log.findWith("worker dead", "worker_id", id) != nil
		}
	}
	if recovered != float64(len(theirs)) {
		t.Errorf("%v tasks are counted as recovered, want %d", recovered, len(theirs))
	}
	for _, id := range dead {
		if !told[id] {
			t.Errorf("no log says that %s is dead", id)
		}
	}
}

func procs(all map[string]*workerProcess, ids []string) []*workerProcess {
	var out []*workerProcess
	for _, id := range ids {
		out = append(out, all[id])
	}
	return out
}
