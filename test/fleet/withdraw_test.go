package fleet

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// What waits behind a long task on one worker runs on another as soon as that is idle, whatever the concurrency.
func TestWaitingTasksMoveToAnIdleWorker(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	set := harness.Settings{"worker.concurrency": 8}
	idle := f.StartWorker("idle", set)
	f.AwaitRunning("idle")
	// It is busy until its own gate opens, so that the other one gets the rest.
	gate := filepath.Join(t.TempDir(), "gate")
	first := f.Enqueue("hold", map[string]any{"file": f.RunsFile, "gate": gate})
	f.AwaitStart(first, "idle")
	busy := f.StartWorker("busy", set)
	f.AwaitRunning("busy")
	long := f.Hold(asynq.MaxRetry(0))
	f.AwaitStart(long, "busy")
	var short []string
	for range 7 {
		short = append(short, f.Enqueue("who", f.Payload(), asynq.MaxRetry(0), asynq.Retention(time.Hour)))
	}
	// All of them are somewhere: in the queue, or behind one of the two.
	harness.Consistently(t, time.Second, func() error {
		if n := len(f.Runs("start")); n != 2 {
			return harness.Fatal("%d tasks have begun, want 2", n)
		}
		return nil
	})
	harness.WriteFile(t, gate, "open")
	// 3 s on a machine that has nothing else to do.
	took := harness.EventuallyWithin(t, 10*time.Second, "the short tasks are done", func() error {
		for _, id := range short {
			if err := f.Redis.Get(t.Context(), "asynq:result:"+id).Err(); err != nil {
				return harness.NotYet(idle, "%v; %s", err, f.Describe(id))
			}
		}
		return nil
	})
	t.Logf("the seven were done %v after a worker was idle", took.Round(time.Millisecond))
	for _, id := range short {
		if info := f.AwaitState(id, asynq.TaskStateCompleted); info.Retried != 0 || len(f.Starts()[id]) != 1 {
			t.Errorf("task %s: %s, runs %v; want one run", id, f.Describe(id), f.Starts()[id])
		}
	}
	f.OpenGate()
	if got := f.Result(long); got != `"busy"` {
		t.Errorf("the long task was done by %s, want busy", got)
	}
	f.AwaitEmpty()
	busy.Stop()
	idle.Stop()
}

// What is given to a process and asked back, again and again, runs once.
func TestWithdrawnTasksRunOnce(t *testing.T) {
	t.Parallel()
	const tasks = 48
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	ran := filepath.Join(t.TempDir(), "ran")
	ids := map[string]int{}
	for n := range tasks {
		seconds := 0.01
		if n%6 == 0 { // longer than a task may wait in a process
			seconds = 1.3
		}
		id := fmt.Sprintf("task-%d", n)
		ids[id] = n
		enqueueSurely(t, q, id, map[string]any{"file": ran, "n": n, "seconds": seconds})
	}
	var workers []*harness.Worker
	for _, id := range []string{"left", "right"} {
		workers = append(workers, harness.StartWorker(t, server.URL, harness.Settings{"worker.id": id, "worker.concurrency": 8}))
	}
	q.AwaitEmpty()
	checkEachOnce(t, q, ids, ran)
	for _, w := range workers {
		q.AwaitHeartbeat(w.ID, "crashes=0", "restarts=0", "failed=0")
		w.Stop()
	}
}
