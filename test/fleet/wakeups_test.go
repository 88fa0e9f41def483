package fleet

import (
	"fmt"
	"slices"
	"testing"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// One push to fifty idle workers wakes one of them: at most two try to take the task.
func TestOnePushWakesOneWorker(t *testing.T) {
	t.Parallel()
	const workers, pushes = 50, 15
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	child := harness.RepositoryFile(t, "test/children/echo_v2.py")
	program := harness.ProgramWithoutRace(t) // fifty with the race detector take the machine's memory
	for n := range workers {
		w := harness.NewWorker(t, server.URL, harness.Settings{
			"worker.id": fmt.Sprintf("idle-%02d", n), "worker.concurrency": 2, "python.command": []string{"python3", child},
			"python.startup_timeout": "2m", "heartbeat.interval": "5s", "heartbeat.ttl": "15s", "fleet.interval": "5s",
		})
		w.Binary = program
		w.Start("run", "-c", w.Config)
	}
	for n := range workers {
		id := fmt.Sprintf("idle-%02d", n)
		harness.EventuallyWithin(t, 2*harness.Timeout, id+" runs", func() error {
			if beat := q.Heartbeat(id); beat["status"] != "running" || beat["healthy"] != "true" {
				return fmt.Errorf("the heartbeat is %q", beat)
			}
			return nil
		})
	}
	q.Result(q.Enqueue("any", 0))
	var counts []int
	for n := range pushes {
		before := pops(q)
		q.AwaitGone(q.Enqueue("any", n))
		counts = append(counts, pops(q)-before)
	}
	// Beside them each worker looks by itself every few seconds; the median does not see it.
	slices.Sort(counts)
	t.Logf("pops for one push: %v", counts)
	if median := counts[pushes/2]; median > 2 {
		t.Errorf("one push costs %d pops, want 2 at most; all: %v", median, counts)
	}
}

// pops returns how often Redis has been asked so far to take an element from a list, in scripts or without waiting.
func pops(q *harness.Queue) int {
	return q.RedisFigures().Sum("rpoplpush", "lmove", "rpop", "lpop", "lmpop")
}
