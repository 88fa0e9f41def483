package fleet

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/test/harness"
)

// longBeats are settings with heartbeats that outlive their worker by far: their end is not what tells of its death.
func longBeats() harness.Settings { return harness.Settings{"heartbeat.ttl": "5m"} }

// awaitPending waits until a queue has so many pending tasks and a worker's direct list none.
func awaitPending(t *testing.T, f *harness.Fleet, queue, worker string, want int64) {
	t.Helper()
	harness.EventuallyWithin(t, harness.Timeout/2, fmt.Sprintf("%d tasks are pending in %s", want, queue), func() error {
		pending := f.Redis.LLen(t.Context(), "asynq:{"+queue+"}:pending").Val()
		direct := f.Redis.LLen(t.Context(), "runqy:{"+queue+"}:direct:"+worker).Val()
		if pending != want || direct != 0 {
			return fmt.Errorf("%d are, and %d are in the direct list of %s", pending, direct, worker)
		}
		return nil
	})
}

// Assigned to a worker that is killed at once: the task goes to another as soon as the death is known, not when the
// heartbeat ends.
func TestWorkerDiesAfterAnAssignment(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	other := f.StartWorker("other", longBeats())
	victim := f.StartWorker("victim-4f1c09", longBeats())
	f.AwaitRunning("other", "victim-4f1c09")
	out := other.Command("enqueue", harness.QueueName, "hold", f.PayloadText(), "--worker", victim.ID, "--id", "first", "--retention", "1h")
	if out.Code != 0 {
		t.Fatalf("enqueue --worker: %+v, want exit code 0", out)
	}
	f.AwaitStart("first", victim.ID)
	out = other.Command("enqueue", harness.QueueName, "who", f.PayloadText(), "--worker", victim.ID, "--id", "assigned", "--retention", "1h", "--max-retry", "0")
	harness.KillWorkers(t, victim)
	f.OpenGate() // what ran there runs again, and must not hold up the other worker
	if out.Code != 0 {
		t.Fatalf("enqueue --worker: %+v, want exit code 0", out)
	}
	if got := f.ResultWithin(harness.Timeout/2, "assigned"); got != `"other"` {
		t.Errorf("the assigned task was done by %s, want other", got)
	}
	f.Result("first")
	if runs := f.Starts()["assigned"]; len(runs) != 1 || f.Crashes("assigned") != 0 {
		t.Errorf("the assigned task has the runs %v and %d crashes, want one run and no crash", runs, f.Crashes("assigned"))
	}
	if n := f.Recoveries("assigned"); n != 0 {
		t.Errorf("the assigned task has %d recoveries, want none: it had not begun", n)
	}
	other.Stop()
}

// A worker that is killed right after Redis has given it a task, before it knows of it.
func TestWorkerDiesAfterAClaim(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	victim := f.StartWorker("victim-b07a51", longBeats())
	f.AwaitRunning(victim.ID)
	f.Result(f.Enqueue("who", f.Payload())) // it waits for tasks
	victim.Freeze()
	task := f.Enqueue("who", f.Payload(), asynq.MaxRetry(0), asynq.Retention(time.Hour))
	harness.KillWorkers(t, victim)
	other := f.StartWorker("other", longBeats())
	if got := f.ResultWithin(2*harness.Timeout, task); got != `"other"` {
		t.Errorf("the task was done by %s, want other", got)
	}
	if info := f.AwaitState(task, asynq.TaskStateCompleted); info.Retried != 0 || len(f.Starts()[task]) != 1 || f.Crashes(task) != 0 {
		t.Errorf("%s, runs %v, %d crashes; want one run and no crash", f.Describe(task), f.Starts()[task], f.Crashes(task))
	}
	other.Stop()
}

// Redis serves the connection of a dead worker until it notices. What that one claims when everything of the worker has
// been recovered is found all the same.
func TestClaimByADeadConnection(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	other := f.StartWorker("other", nil)
	f.AwaitLeader("other")
	f.AwaitStart(f.Hold(), "other") // so that it does not claim a task before the dead connection does
	victim := f.StartWorker("victim-c3d8e0", nil)
	f.AwaitRunning(victim.ID)
	// Raw, so that nothing but the server ends the wait, as where the host is gone and its connections are not.
	connection, err := net.Dial("tcp", f.Server.Addr)
	if err != nil {
		t.Fatalf("connect to Redis: %v", err)
	}
	defer connection.Close()
	claim := fmt.Sprintf("BLMOVE asynq:{%s}:pending runqy:{%s}:direct:%s RIGHT LEFT 0\r\n", harness.QueueName, harness.QueueName, victim.ID)
	if _, err := io.WriteString(connection, claim); err != nil {
		t.Fatalf("wait for a task: %v", err)
	}
	harness.KillWorkers(t, victim)
	harness.Eventually(t, "the dead worker has left the registry", func() error {
		if f.Registered(victim.ID) {
			return harness.NotYet(other, "it is there")
		}
		return nil
	})
	f.Enqueue("who", f.Payload(), asynq.TaskID("late"), asynq.MaxRetry(0), asynq.Retention(time.Hour))
	answer := make([]byte, len("$4\r\nlate\r\n"))
	_ = connection.SetReadDeadline(time.Now().Add(harness.Timeout))
	for n := range 2 { // the second time after a sweep that has left nothing of the worker
		if n > 0 {
			_, _ = io.WriteString(connection, claim)
		}
		if _, err := io.ReadFull(connection, answer); err != nil || string(answer) != "$4\r\nlate\r\n" {
			t.Fatalf("the dead connection gets %q (%v), want the task", answer, err)
		}
		awaitPending(t, f, harness.QueueName, victim.ID, 1)
	}
	f.OpenGate()
	if got := f.Result("late"); got != `"other"` {
		t.Errorf("the task was done by %s, want other", got)
	}
	info := f.AwaitState("late", asynq.TaskStateCompleted)
	if runs := f.Starts()["late"]; info.Retried != 0 || len(runs) != 1 || f.Crashes("late") != 0 || f.Recoveries("late") != 0 {
		t.Errorf("%s, runs %v, %d crashes, %d recoveries; want one run and none", f.Describe("late"), runs, f.Crashes("late"), f.Recoveries("late"))
	}
	other.Stop()
}

// The same without any checker: a running task and one that was given to the worker a moment before.
func TestLongWorkerDiesWithoutAFleet(t *testing.T) {
	harness.Long(t)
	t.Parallel()
	testDiesWithoutAFleet(t, harness.NewFleet(t))
}

func testDiesWithoutAFleet(t *testing.T, f *harness.Fleet) {
	t.Helper()
	noChecker := harness.Settings{"fleet.enabled": false, "worker.concurrency": 2}
	victim := f.StartWorker("victim-91d2e8", noChecker)
	f.AwaitRunning(victim.ID)
	running := f.Hold(asynq.MaxRetry(0))
	f.AwaitStart(running, victim.ID)
	victim.Freeze()
	claimed := f.Enqueue("who", f.Payload(), asynq.MaxRetry(0), asynq.Retention(time.Hour))
	harness.KillWorkers(t, victim)
	f.OpenGate()
	other := f.StartWorker("other", noChecker)
	for _, id := range []string{claimed, running} {
		if got := f.ResultWithin(3*harness.Timeout, id); got != `"other"` {
			t.Errorf("task %s was done by %s, want other", id, got)
		}
		f.AwaitState(id, asynq.TaskStateCompleted)
	}
	other.Stop()
}

// Two queues, one slot, a task for each at once: the one that the worker cannot run is left to others.
func TestTwoQueuesOneSlot(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	set := harness.Settings{"worker.queues": []string{"a", "b"}}
	first := f.StartWorker("first", set)
	f.AwaitRunning("first")
	var tasks []harness.Scheduled
	for _, queue := range []string{"a", "b"} {
		id := f.Hold(asynq.Queue(queue), asynq.ProcessIn(time.Hour), asynq.MaxRetry(0))
		tasks = append(tasks, harness.Scheduled{Queue: queue, ID: id})
	}
	f.RunTogether(tasks...)
	var run harness.Run
	harness.Eventually(t, "one of the tasks runs", func() error {
		all := f.Runs("start")
		if len(all) != 1 {
			return harness.NotYet(first, "the runs are %v", all)
		}
		run = all[0]
		return nil
	})
	left := tasks[0]
	if left.ID == run.Task {
		left = tasks[1]
	}
	awaitPending(t, f, left.Queue, "first", 1)
	second := f.StartWorker("second", set)
	f.AwaitStart(left.ID, "second")
	f.OpenGate()
	for _, task := range tasks {
		f.Result(task.ID)
		if n := len(f.Starts()[task.ID]); n != 1 {
			t.Errorf("task %s has begun %d times, want once", task.ID, n)
		}
	}
	first.Stop()
	second.Stop()
}

// A queue that is paused while a worker waits for its tasks hands out nothing, and nothing is stuck when it goes on.
func TestPauseDuringAWait(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	w := f.StartWorker("waiting", nil)
	f.AwaitRunning("waiting")
	f.Result(f.Enqueue("who", f.Payload())) // it waits for the next one
	if err := f.Inspector.PauseQueue(harness.QueueName); err != nil {
		t.Fatalf("pause the queue: %v", err)
	}
	var tasks []string
	for n := range 3 {
		tasks = append(tasks, f.Enqueue("who", f.Payload(), asynq.TaskID("paused-"+strconv.Itoa(n))))
	}
	awaitPending(t, f, harness.QueueName, "waiting", 3)
	harness.Consistently(t, 7*time.Second, func() error { // longer than any single wait for a task
		if n := len(f.Runs("start")); n != 1 {
			return fmt.Errorf("%d tasks have begun, want 1", n)
		}
		return nil
	})
	awaitPending(t, f, harness.QueueName, "waiting", 3)
	if err := f.Inspector.UnpauseQueue(harness.QueueName); err != nil {
		t.Fatalf("unpause the queue: %v", err)
	}
	for n, id := range tasks {
		f.Result(id)
		if got := f.Runs("start")[n+1].Task; got != id {
			t.Errorf("run %d is %s, want %s: the order is that of the pushes", n, got, id)
		}
	}
	w.Stop()
}

// The Python process dies in the moment in which a task comes: a worker that cannot run it does not keep it.
func TestProcessDiesDuringAWait(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	w := f.StartWorker("dying", nil)
	f.AwaitRunning("dying")
	f.Result(f.Enqueue("who", f.Payload())) // it waits for the next one
	python := f.PythonPID("dying")
	w.Freeze()
	harness.KillAndAwaitDeath(t, python)
	task := f.Enqueue("who", f.Payload(), asynq.MaxRetry(0), asynq.Retention(time.Hour))
	w.Thaw()
	f.AwaitHeartbeat("dying", "status=degraded")
	other := f.StartWorker("other", nil)
	if got := f.Result(task); got != `"other"` {
		t.Errorf("the task was done by %s, want other", got)
	}
	if info := f.AwaitState(task, asynq.TaskStateCompleted); info.Retried != 0 || f.Crashes(task) != 0 {
		t.Errorf("%s, %d crashes; want no retry and no crash", f.Describe(task), f.Crashes(task))
	}
	other.Stop()
	w.Stop()
}
