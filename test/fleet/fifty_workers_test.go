package fleet

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/test/harness"
)

// Fifty workers in the middle of their work, of which ten are killed at once. All ten are reported dead, each of their
// tasks runs again elsewhere, nothing is lost, and no task is assigned to a dead worker.
func TestTenOfFiftyWorkersDie(t *testing.T) {
	t.Parallel()
	const workers, victims, tasks = 50, 10, 130
	f := harness.NewFleet(t)
	program := harness.ProgramWithoutRace(t) // fifty with the race detector take the machine's memory
	began := time.Now()
	all := make(map[string]*harness.Worker, workers)
	slots := 0
	for i := range workers {
		id := fmt.Sprintf("fleet-%02d", i)
		// The beats and the rounds are as the defaults: the time until the tasks run again is measured.
		all[id] = f.NewWorker(id, f.Async(harness.Settings{
			"worker.concurrency": 1 + i%2, "heartbeat.interval": "5s", "heartbeat.ttl": "15s", "fleet.interval": "5s",
		}))
		all[id].Binary = program
		all[id].Start("run", "-c", all[id].Config)
		slots += 1 + i%2
	}
	f.AwaitRunning(slices.Sorted(maps.Keys(all))...)
	t.Logf("%d workers run after %v", workers, time.Since(began).Round(time.Millisecond))

	var ids []string
	for i := range tasks {
		retries := asynq.MaxRetry(25)
		if i%2 == 0 {
			retries = asynq.MaxRetry(0)
		}
		ids = append(ids, f.Hold(retries))
	}
	owner := f.AwaitHeld(slots)
	harness.Eventually(t, "each slot runs one task", func() error {
		if n := len(f.Runs("start")); n < slots {
			return fmt.Errorf("%d tasks run, want %d", n, slots)
		}
		return nil
	})
	leader := f.Leader()
	var dead []string
	for id := range maps.Keys(all) {
		if id != leader && len(dead) < victims {
			dead = append(dead, id)
		}
	}
	slices.Sort(dead)
	theirs := map[string]bool{} // what the victims run
	for id, worker := range owner {
		if slices.Contains(dead, worker) {
			theirs[id] = true
		}
	}
	before := f.Starts()

	killed := harness.KillWorkers(t, procs(all, dead)...)
	f.OpenGate()

	// The command asks for itself, so it knows at once; the checker within a round.
	rows := all[leader].ListWorkers()
	for _, id := range dead {
		if row, there := rows[id]; there && row.State != "DEAD" {
			t.Errorf("%s is listed as %+v, want DEAD", id, row)
		}
	}
	t.Logf("listed %v after the kill", time.Since(killed).Round(time.Millisecond))
	if out := all[leader].Command("enqueue", harness.QueueName, "who", f.PayloadText(), "--worker", dead[0]); out.Code != 1 || !strings.Contains(out.ErrOut, "DEAD") {
		t.Errorf("a task for a dead worker: %+v, want exit code 1 and \"DEAD\" on stderr", out)
	}
	out := all[leader].Command("enqueue", harness.QueueName, "who", f.PayloadText(), "--any-free")
	if out.Code != 0 || slices.ContainsFunc(dead, func(id string) bool { return strings.Contains(out.Out, id) }) {
		t.Errorf("a task for any free worker: %+v, want exit code 0", out)
	}
	most := 0.0
	harness.EventuallyWithin(t, harness.Timeout, "the checker counts the dead", func() error {
		checker := all[f.Leader()]
		if checker == nil {
			return errors.New("there is no leader")
		}
		now := harness.Samples(t, checker.Addr())
		most = max(most, now[`runqy_fleet_workers{state="DEAD"}`])
		counted := harness.SumSamples(now, "runqy_fleet_dead_total")
		// The first may have been removed before the last one is judged.
		if removed := workers - f.Redis.ZCard(t.Context(), "runqy:workers").Val(); counted < victims || most < victims && removed == 0 {
			return fmt.Errorf("%v are counted, at most %v at a time, and %d removed, want %d counted", counted, most, removed, victims)
		}
		return nil
	})
	if most < 1 {
		t.Errorf("at most %v workers were dead at a time, want 1 at least", most)
	}
	f.AwaitEmptyWithin(2 * harness.Timeout)

	starts := f.Starts()
	var slowest time.Duration
	for _, id := range ids {
		runs := starts[id]
		times := 1
		if theirs[id] && len(before[id]) > 0 {
			times = 2
		}
		last := harness.Run{}
		if len(runs) > 0 {
			last = runs[len(runs)-1]
		}
		recoveries := 0
		if theirs[id] {
			recoveries = 1
			slowest = max(slowest, last.At.Sub(killed))
		}
		if len(runs) != times || last.At.After(killed) && slices.Contains(dead, last.Worker) {
			t.Errorf("task %s, held by %s at the kill, has run so: %v, want %d runs", id, owner[id], runs, times)
		}
		if got := f.Result(id); got != `"`+last.Worker+`"` {
			t.Errorf("the result of %s is %s, want that of its last run, on %s", id, got, last.Worker)
		}
		info := f.AwaitState(id, asynq.TaskStateCompleted)
		if n := f.Recoveries(id); n != recoveries || info.Retried != 0 {
			t.Errorf("task %s: %d recoveries, %d retries; want %d, 0", id, n, info.Retried, recoveries)
		}
	}
	t.Logf("%d tasks of %d dead workers ran again, the last one began %v after the kill (20 s promised); %v dead at a time",
		len(theirs), victims, slowest.Round(time.Millisecond), most)
	if slowest > 40*time.Second {
		t.Errorf("it took %v until the last task of a dead worker ran again, want 40s at most", slowest)
	}
	harness.Eventually(t, "the dead have left the registry", func() error {
		if n := f.Redis.ZCard(t.Context(), "runqy:workers").Val(); n != workers-victims {
			return fmt.Errorf("%d workers are registered, want %d", n, workers-victims)
		}
		return nil
	})
	recovered := 0.0
	told := map[string]bool{}
	for _, w := range all { // on a busy machine another may have become the leader
		if slices.Contains(dead, w.ID) {
			continue
		}
		recovered += harness.Samples(t, w.Addr())[`runqy_tasks_recovered_total{queue="`+harness.QueueName+`",reason="dead"}`]
		for _, id := range dead {
			told[id] = told[id] || w.Log.FindWith("worker dead", "worker_id", id) != nil
		}
	}
	if recovered != float64(len(theirs)) {
		t.Errorf("%v tasks are counted as recovered, want %d", recovered, len(theirs))
	}
	for _, id := range dead {
		if !told[id] {
			t.Errorf("no log line says that %s is dead, want one", id)
		}
	}
}

func procs(all map[string]*harness.Worker, ids []string) []*harness.Worker {
	var out []*harness.Worker
	for _, id := range ids {
		out = append(out, all[id])
	}
	return out
}
