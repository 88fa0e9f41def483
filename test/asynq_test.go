package test

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// asynqScene is a worker with a task in every state, and the ids by state.
func asynqScene(t *testing.T) (*redistest.Server, *queueUser, *workerProcess, map[string]string) {
	t.Helper()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, settings{"python.stop_timeout": "1s"})
	q.pythonPID(w.ID)
	ids := map[string]string{
		"completed": q.enqueue("echo", 1, asynq.Retention(time.Hour), asynq.TaskID("task-completed")),
		"retry":     q.enqueue("boom", map[string]any{}, asynq.TaskID("task-retry")),
		"archived":  q.enqueue("boom", map[string]any{}, asynq.MaxRetry(0), asynq.TaskID("task-archived")),
		"scheduled": q.enqueue("echo", 2, asynq.ProcessIn(time.Hour), asynq.TaskID("task-scheduled")),
	}
	q.inState(ids["completed"], asynq.TaskStateCompleted)
	q.inState(ids["retry"], asynq.TaskStateRetry)
	q.inState(ids["archived"], asynq.TaskStateArchived)
	ids["active"] = q.enqueue("sleep", map[string]any{"seconds": 600}, asynq.TaskID("task-active"))
	q.beats(w.ID, "active_task="+ids["active"])
	ids["pending"] = q.enqueue("echo", 3, asynq.TaskID("task-pending"))
	eventually(t, "our own copies are there too", func() error {
		return server.Client.LIndex(t.Context(), "asynq:"+queueName+":pending", 0).Err()
	})
	t.Cleanup(func() {
		w.Signal(syscall.SIGTERM)
		q.beats(w.ID, "status=draining")
		w.Stop()
	})
	return server, q, w, ids
}

// asynq's inspector, which its CLI and asynqmon are made of, reads the queue beside our keys, and what it changes works.
func TestInspector(t *testing.T) {
	t.Parallel()
	_, q, w, ids := asynqScene(t)
	queues, err := q.inspector.Queues()
	if err != nil || len(queues) != 1 || queues[0] != queueName {
		t.Errorf("queues are %q (%v)", queues, err)
	}
	info, err := q.inspector.GetQueueInfo(queueName)
	if err != nil || info.Pending != 1 || info.Active != 1 || info.Scheduled != 1 || info.Retry != 1 || info.Archived != 1 ||
		info.Completed != 1 || info.Size != 6 || info.Processed != 3 || info.Failed != 2 || info.MemoryUsage == 0 {
		t.Errorf("queue info is %+v (%v)", info, err)
	}
	if days, err := q.inspector.History(queueName, 1); err != nil || days[0].Processed != 3 || days[0].Failed != 2 {
		t.Errorf("history: %v", err)
	}
	for state, list := range map[string]func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error){
		"pending": q.inspector.ListPendingTasks, "active": q.inspector.ListActiveTasks, "scheduled": q.inspector.ListScheduledTasks,
		"retry": q.inspector.ListRetryTasks, "archived": q.inspector.ListArchivedTasks, "completed": q.inspector.ListCompletedTasks,
	} {
		tasks, err := list(queueName)
		if err != nil || len(tasks) != 1 || tasks[0].ID != ids[state] || tasks[0].IsOrphaned {
			t.Errorf("%s tasks are %+v (%v)", state, tasks, err)
		}
	}
	eventually(t, "asynq's servers show the worker and its task", func() error {
		servers, err := q.inspector.Servers()
		if err != nil {
			return err
		}
		if len(servers) != 1 || servers[0].PID != w.PID() || servers[0].Concurrency != 1 || servers[0].Queues[queueName] != 1 ||
			len(servers[0].ActiveWorkers) != 1 || servers[0].ActiveWorkers[0].TaskID != ids["active"] {
			return fatalUntil(w, "%+v", servers)
		}
		return nil
	})

	// A paused queue hands out nothing, an unpaused one goes on.
	if err := q.inspector.PauseQueue(queueName); err != nil {
		t.Fatal(err)
	}
	if err := q.inspector.CancelProcessing(ids["active"]); err != nil {
		t.Error(err)
	}
	eventually(t, "the cancelled task is over", func() error {
		if info, err := q.inspector.GetTaskInfo(queueName, ids["active"]); err != nil || info.State != asynq.TaskStateRetry {
			return fatalUntil(w, "%s", q.describe(ids["active"]))
		}
		return nil
	})
	q.inState(ids["pending"], asynq.TaskStatePending)
	if err := q.inspector.UnpauseQueue(queueName); err != nil {
		t.Fatal(err)
	}
	if got := q.result(ids["pending"]); got != "3" {
		t.Errorf("result %s", got)
	}
	if err := q.inspector.RunTask(queueName, ids["scheduled"]); err != nil {
		t.Error(err)
	}
	if got := q.result(ids["scheduled"]); got != "2" {
		t.Errorf("result %s", got)
	}
	if err := q.inspector.DeleteTask(queueName, ids["archived"]); err != nil {
		t.Error(err)
	}
	again := q.enqueue("sleep", map[string]any{"seconds": 600})
	q.beats(w.ID, "active_task="+again)
}

// asynq's own command line, where there is one: $RUNQY_TEST_ASYNQ_CLI or asynq on PATH, as
// `go install github.com/hibiken/asynq/tools/asynq` puts it there.
func TestAsynqCLI(t *testing.T) {
	t.Parallel()
	cli := os.Getenv("RUNQY_TEST_ASYNQ_CLI")
	if cli == "" {
		var err error
		if cli, err = exec.LookPath("asynq"); err != nil {
			t.Skip("no asynq CLI: name one in RUNQY_TEST_ASYNQ_CLI, or install github.com/hibiken/asynq/tools/asynq")
		}
	}
	server, _, w, ids := asynqScene(t)
	run := func(args ...string) string {
		t.Helper()
		out := execute(t, append(environ(), "HOME="+w.Dir), cli, append([]string{"--uri", server.Addr}, args...)...)
		if out.Code != 0 || strings.Contains(strings.ToLower(out.ErrOut), "error") {
			t.Errorf("asynq %q: %+v", args, out)
		}
		return out.Out
	}
	if out := run("stats"); !strings.Contains(out, queueName) {
		t.Errorf("asynq stats:\n%s", out)
	}
	if out := run("queue", "inspect", queueName); !strings.Contains(out, queueName) {
		t.Errorf("asynq queue inspect:\n%s", out)
	}
	for state, id := range ids {
		if out := run("task", "ls", "--queue", queueName, "--state", state); !strings.Contains(out, id) {
			t.Errorf("asynq task ls --state %s:\n%s", state, out)
		}
	}
	if out := run("server", "ls"); !strings.Contains(out, strconv.Itoa(w.PID())) {
		t.Errorf("asynq server ls:\n%s", out)
	}
}
