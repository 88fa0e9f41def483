package worker

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// startWithEveryState starts a worker and puts a task into every state; it returns the ids by state.
func startWithEveryState(t *testing.T) (*redistest.Server, *harness.Queue, *harness.Worker, map[string]string) {
	t.Helper()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"python.stop_timeout": "1s", "worker.shutdown_timeout": "100ms"})
	q.PythonPID(w.ID)
	ids := map[string]string{
		"completed": q.Enqueue("echo", 1, asynq.Retention(time.Hour), asynq.TaskID("task-completed")),
		"retry":     q.Enqueue("later", map[string]any{"delay": 3600}, asynq.TaskID("task-retry")), // not before the test is over
		"archived":  q.Enqueue("boom", map[string]any{}, asynq.MaxRetry(0), asynq.TaskID("task-archived")),
		"scheduled": q.Enqueue("echo", 2, asynq.ProcessIn(time.Hour), asynq.TaskID("task-scheduled")),
	}
	q.AwaitState(ids["completed"], asynq.TaskStateCompleted)
	q.AwaitState(ids["retry"], asynq.TaskStateRetry)
	q.AwaitState(ids["archived"], asynq.TaskStateArchived)
	ids["active"] = q.Enqueue("sleep", map[string]any{"seconds": 600}, asynq.TaskID("task-active"))
	q.AwaitHeartbeat(w.ID, "active_task="+ids["active"])
	ids["pending"] = q.Enqueue("echo", 3, asynq.TaskID("task-pending"))
	harness.Eventually(t, "our own copies are there too", func() error {
		return server.Client.LIndex(t.Context(), "asynq:"+harness.QueueName+":pending", 0).Err()
	})
	return server, q, w, ids
}

// asynq's inspector, which its CLI and asynqmon are made of, reads the queue beside our keys, and what it changes
// works.
func TestInspector(t *testing.T) {
	t.Parallel()
	_, q, w, ids := startWithEveryState(t)
	queues, err := q.Inspector.Queues()
	if err != nil || len(queues) != 1 || queues[0] != harness.QueueName {
		t.Errorf("queues are %q (%v)", queues, err)
	}
	info, err := q.Inspector.GetQueueInfo(harness.QueueName)
	if err != nil || info.Pending != 1 || info.Active != 1 || info.Scheduled != 1 || info.Retry != 1 || info.Archived != 1 ||
		info.Completed != 1 || info.Size != 6 || info.Processed != 3 || info.Failed != 2 || info.MemoryUsage == 0 {
		t.Errorf("queue info is %+v (%v)", info, err)
	}
	if days, err := q.Inspector.History(harness.QueueName, 1); err != nil || days[0].Processed != 3 || days[0].Failed != 2 {
		t.Errorf("history: %v", err)
	}
	for state, list := range map[string]func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error){
		"pending": q.Inspector.ListPendingTasks, "active": q.Inspector.ListActiveTasks, "scheduled": q.Inspector.ListScheduledTasks,
		"retry": q.Inspector.ListRetryTasks, "archived": q.Inspector.ListArchivedTasks, "completed": q.Inspector.ListCompletedTasks,
	} {
		tasks, err := list(harness.QueueName)
		if err != nil || len(tasks) != 1 || tasks[0].ID != ids[state] || tasks[0].IsOrphaned {
			t.Errorf("%s tasks are %+v (%v)", state, tasks, err)
		}
	}
	harness.Eventually(t, "asynq's servers show the worker and its task", func() error {
		servers, err := q.Inspector.Servers()
		if err != nil {
			return err
		}
		if len(servers) != 1 || servers[0].PID != w.PID() || servers[0].Concurrency != 1 || servers[0].Queues[harness.QueueName] != 1 ||
			len(servers[0].ActiveWorkers) != 1 || servers[0].ActiveWorkers[0].TaskID != ids["active"] {
			return harness.NotYet(w, "%+v", servers)
		}
		return nil
	})

	// A paused queue hands out nothing, an unpaused one goes on.
	if err := q.Inspector.PauseQueue(harness.QueueName); err != nil {
		t.Fatalf("pause the queue: %v", err)
	}
	if err := q.Inspector.CancelProcessing(ids["active"]); err != nil {
		t.Errorf("cancel the active task: %v", err)
	}
	harness.Eventually(t, "the cancelled task is over", func() error {
		if info, err := q.Inspector.GetTaskInfo(harness.QueueName, ids["active"]); err != nil || info.State != asynq.TaskStateRetry {
			return harness.NotYet(w, "%s", q.Describe(ids["active"]))
		}
		return nil
	})
	if err := q.Inspector.DeleteTask(harness.QueueName, ids["active"]); err != nil { // its retry would keep the only slot
		t.Errorf("delete the cancelled task: %v", err)
	}
	q.AwaitState(ids["pending"], asynq.TaskStatePending)
	if err := q.Inspector.UnpauseQueue(harness.QueueName); err != nil {
		t.Fatalf("unpause the queue: %v", err)
	}
	if got := q.Result(ids["pending"]); got != "3" {
		t.Errorf("result %s, want %s", got, "3")
	}
	if err := q.Inspector.RunTask(harness.QueueName, ids["scheduled"]); err != nil {
		t.Errorf("run the scheduled task: %v", err)
	}
	if got := q.Result(ids["scheduled"]); got != "2" {
		t.Errorf("result %s, want %s", got, "2")
	}
	if err := q.Inspector.DeleteTask(harness.QueueName, ids["archived"]); err != nil {
		t.Errorf("delete the archived task: %v", err)
	}
	again := q.Enqueue("sleep", map[string]any{"seconds": 600})
	q.AwaitHeartbeat(w.ID, "active_task="+again)
}

// asynq's own command line, where there is one: $RUNQY_TEST_ASYNQ_CLI or asynq on PATH, as `go install
// github.com/hibiken/asynq/tools/asynq` puts it there.
func TestAsynqCLI(t *testing.T) {
	t.Parallel()
	cli := os.Getenv("RUNQY_TEST_ASYNQ_CLI")
	if cli == "" {
		var err error
		if cli, err = exec.LookPath("asynq"); err != nil {
			t.Skip("no asynq CLI: name one in RUNQY_TEST_ASYNQ_CLI, or install github.com/hibiken/asynq/tools/asynq")
		}
	}
	server, _, w, ids := startWithEveryState(t)
	run := func(args ...string) string {
		t.Helper()
		out := harness.Execute(t, append(harness.Environ(), "HOME="+w.Dir), cli, append([]string{"--uri", server.Addr}, args...)...)
		if out.Code != 0 || strings.Contains(strings.ToLower(out.ErrOut), "error") {
			t.Errorf("asynq %q: %+v, want exit code 0", args, out)
		}
		return out.Out
	}
	if out := run("stats"); !strings.Contains(out, harness.QueueName) {
		t.Errorf("asynq stats:\n%s", out)
	}
	if out := run("queue", "inspect", harness.QueueName); !strings.Contains(out, harness.QueueName) {
		t.Errorf("asynq queue inspect:\n%s", out)
	}
	for state, id := range ids {
		if out := run("task", "ls", "--queue", harness.QueueName, "--state", state); !strings.Contains(out, id) {
			t.Errorf("asynq task ls --state %s:\n%s", state, out)
		}
	}
	if out := run("server", "ls"); !strings.Contains(out, strconv.Itoa(w.PID())) {
		t.Errorf("asynq server ls:\n%s", out)
	}
}
