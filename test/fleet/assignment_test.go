package fleet

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/test/harness"
)

// Tasks that are assigned to one worker are requeued for all when that worker dies or degrades, and run elsewhere.
func TestAssignedTasksAreRequeued(t *testing.T) {
	t.Parallel()
	const each = 5
	f := harness.NewFleet(t)
	checker := f.StartChecker("checker", nil)
	noChecker := harness.Settings{"fleet.enabled": false}
	dying, unhealthy := f.StartWorker("dying", noChecker), f.StartWorker("unhealthy", noChecker)
	f.AwaitRunning("dying", "unhealthy")
	waiting := map[string][]string{}
	for _, id := range []string{"dying", "unhealthy"} {
		// The first keeps the worker busy; a busy worker may have more.
		for n := range each {
			task := fmt.Sprintf("%s-%d", id, n)
			out := checker.Command("enqueue", harness.QueueName, "hold", f.PayloadText(), "--worker", id, "--id", task, "--retention", "1h")
			if out.Code != 0 || !strings.Contains(out.Out, id) {
				t.Fatalf("enqueue --worker %s: %+v, want exit code 0", id, out)
			}
			if n == 0 {
				f.AwaitStart(task, id)
			}
			waiting[id] = append(waiting[id], task)
		}
	}
	other := f.StartWorker("other", noChecker)
	f.AwaitRunning("other")
	prefix := "runqy:{" + harness.QueueName + "}:direct:"
	harness.Consistently(t, 3*time.Second, func() error {
		for id := range waiting {
			if n := f.Redis.LLen(t.Context(), prefix+id).Val(); n != each-1 {
				return fmt.Errorf("%d tasks wait for %s, want %d", n, id, each-1)
			}
		}
		return nil
	})

	python := f.PythonPID("unhealthy")
	harness.KillWorkers(t, dying)
	harness.Kill(t, python, syscall.SIGKILL)
	f.AwaitHeartbeat("unhealthy", "status=degraded")
	f.OpenGate()
	// What ran there failed, as any task that takes the process down. Its next try is not waited for.
	f.AwaitState(waiting["unhealthy"][0], asynq.TaskStateRetry)
	if err := f.Inspector.RunTask(harness.QueueName, waiting["unhealthy"][0]); err != nil {
		t.Errorf("run the task again: %v", err)
	}
	if out := checker.Command("enqueue", harness.QueueName, "who", f.PayloadText(), "--worker", "unhealthy"); out.Code != 1 || !strings.Contains(out.ErrOut, "degraded") {
		t.Errorf("a task for a degraded worker: %+v, want exit code 1 and \"degraded\" on stderr", out)
	}
	for id, tasks := range waiting {
		for n, task := range tasks {
			runs, crashes, recoveries := 1, 0, 0
			if n == 0 { // it had begun
				runs = 2
				if id == "dying" {
					recoveries = 1
				} else {
					crashes = 1
				}
			}
			if got := f.Result(task); got != `"other"` {
				t.Errorf("task %s for %s was done by %s, want %s", task, id, got, `"other"`)
			}
			f.AwaitState(task, asynq.TaskStateCompleted)
			if f.Crashes(task) != crashes || f.Recoveries(task) != recoveries || len(f.Starts()[task]) != runs {
				t.Errorf("task %s for %s: %d crashes, %d recoveries, runs %v; want %d, %d and %d runs",
					task, id, f.Crashes(task), f.Recoveries(task), f.Starts()[task], crashes, recoveries, runs)
			}
		}
		if n := f.Redis.Exists(t.Context(), prefix+id).Val(); n != 0 {
			t.Errorf("the list of tasks for %s is still there, want it deleted", id)
		}
	}
	f.AwaitEmpty()
	if out := unhealthy.Command("restart", "unhealthy"); out.Code != 0 {
		t.Errorf("restart: %+v, want exit code 0", out)
	}
	checker.AwaitListed("unhealthy", "FREE", "")
	other.Stop()
}

// Tasks for any free worker, while workers die one after the other: never one for a dead worker, and none lost.
func TestAnyFreeNeverPicksDeadWorkers(t *testing.T) {
	t.Parallel()
	const workers, tasks = 5, 24
	f := harness.NewFleet(t)
	checker := f.StartChecker("checker", nil)
	all := map[string]*harness.Worker{}
	var living []string
	for i := range workers {
		id := fmt.Sprintf("any-%d", i)
		all[id] = f.StartWorker(id, harness.Settings{"fleet.enabled": false, "worker.concurrency": 2})
		living = append(living, id)
	}
	f.AwaitRunning(living...)
	f.OpenGate()
	var ids, gone []string
	chosen := map[string]int{}
	for n := range tasks {
		for range 3 { // work for everybody beside
			ids = append(ids, f.Enqueue("hold", f.Payload()))
		}
		if n%8 == 4 {
			harness.KillWorkers(t, all[living[0]])
			gone, living = append(gone, living[0]), living[1:]
		}
		task := fmt.Sprintf("any-task-%d", n)
		out := checker.Command("enqueue", harness.QueueName, "who", f.PayloadText(), "--any-free", "--id", task)
		if out.Code != 0 {
			t.Fatalf("enqueue --any-free: %+v, want exit code 0", out)
		}
		ids = append(ids, task)
		fields := strings.Fields(out.Out)
		worker := fields[len(fields)-1]
		if !slices.Contains(living, worker) {
			t.Errorf("with %v dead, a task was assigned to %s, want one of %v: %s", gone, worker, living, out.Out)
		}
		chosen[worker]++
	}
	t.Logf("chosen: %v, dead in the end: %v", chosen, gone)
	for _, id := range ids {
		f.Result(id)
	}
	f.AwaitEmpty()
	for task, runs := range f.Starts() {
		if len(runs) > 2 || len(runs) == 2 && !slices.Contains(gone, runs[0].Worker) {
			t.Errorf("task %s has the runs %v, want one, or two if its first worker died", task, runs)
		}
	}
}
