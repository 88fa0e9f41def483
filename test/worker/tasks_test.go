package worker

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// What asynq's users expect of options and of failures.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	q.PythonPID(w.ID)

	kept := q.Enqueue("echo", "kept", asynq.Retention(time.Hour))
	info := q.AwaitState(kept, asynq.TaskStateCompleted)
	if string(info.Result) != `"kept"` || q.Result(kept) != `"kept"` {
		t.Errorf("with retention the task keeps the result %q, want %q", info.Result, `"kept"`)
	}

	failed := q.Enqueue("boom", map[string]string{"text": "täxt"}, asynq.MaxRetry(5))
	info = q.AwaitState(failed, asynq.TaskStateRetry)
	if !strings.HasPrefix(info.LastErr, "ValueError: boom: täxt") || !strings.Contains(info.LastErr, "sync.py") || info.Retried != 1 {
		t.Errorf("retried %d, error %q; want the type, the message and where", info.Retried, info.LastErr)
	}
	once := q.Enqueue("boom", map[string]string{}, asynq.MaxRetry(0))
	q.AwaitState(once, asynq.TaskStateArchived)
	permanent := q.Enqueue("permanent", nil, asynq.MaxRetry(5))
	if info = q.AwaitState(permanent, asynq.TaskStateArchived); info.Retried != 0 || !strings.Contains(info.LastErr, "never again") {
		t.Errorf("the permanent failure: %s, want no retry and the error", q.Describe(permanent))
	}
	later := q.Enqueue("later", map[string]any{"delay": 2}, asynq.MaxRetry(3))
	info = q.AwaitState(later, asynq.TaskStateRetry)
	if wait := time.Until(info.NextProcessAt); wait > 3*time.Second {
		t.Errorf("Retry(delay=2) is tried again in %v, want 3s at most", wait)
	}
	if got := q.Result(later); got != `"now"` {
		t.Errorf("the retried task has the result %s, want %s", got, `"now"`)
	}
	nan := q.Enqueue("nan", nil, asynq.MaxRetry(0))
	if info = q.AwaitState(nan, asynq.TaskStateArchived); !strings.Contains(strings.ToLower(info.LastErr), "nan") {
		t.Errorf("the task that returns NaN: %s, want an error about it", q.Describe(nan))
	}
	unknown := q.Enqueue("no_such_type", nil, asynq.MaxRetry(0))
	if info = q.AwaitState(unknown, asynq.TaskStateArchived); !strings.Contains(info.LastErr, "no_such_type") {
		t.Errorf("the task of an unknown type: %s, want an error that names it", q.Describe(unknown))
	}
	scheduled := q.Enqueue("echo", "scheduled", asynq.ProcessIn(time.Second))
	if got := q.Result(scheduled); got != `"scheduled"` {
		t.Errorf("scheduled: %s, want %s", got, `"scheduled"`)
	}
	if _, err := q.Client.Enqueue(asynq.NewTask("sleep", []byte(`{"seconds":1}`)), asynq.Queue(harness.QueueName), asynq.Unique(time.Hour)); err != nil {
		t.Fatalf("enqueue a unique task: %v", err)
	}
	if _, err := q.Client.Enqueue(asynq.NewTask("sleep", []byte(`{"seconds":1}`)), asynq.Queue(harness.QueueName), asynq.Unique(time.Hour)); err == nil {
		t.Error("a second unique task was accepted")
	}
	binary := q.Enqueue("headers", []byte("\xff\x00 not JSON"), asynq.MaxRetry(0))
	if got := q.Result(binary); !strings.Contains(got, harness.QueueName) {
		t.Errorf("a payload of bytes: result %s, want %s in it", got, harness.QueueName)
	}
	q.AwaitHeartbeat(w.ID, "crashes=0", "restarts=0", "healthy=true")
	w.Stop()
}

// Large payloads come through; what is larger than max_message is a clear error of the task and of nothing else.
func TestLargePayloads(t *testing.T) {
	t.Parallel()
	testLargePayloads(t, harness.Settings{"python.max_message": "8MiB"}, 6<<20, 9<<20)
}

// The same with the default limit, 64 MiB: half a minute of computing under the race detector.
func TestLongLargePayloads(t *testing.T) {
	harness.Long(t)
	t.Parallel()
	testLargePayloads(t, nil, 50<<20, 65<<20)
}

func testLargePayloads(t *testing.T, set harness.Settings, size, excess int) {
	t.Helper()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, set)
	q.PythonPID(w.ID)
	data := strings.Repeat("x", size)
	large := q.Enqueue("echo", map[string]string{"data": data}, asynq.MaxRetry(0))
	// Three minutes: the race detector, two cores and other tests beside make 50 MiB slow.
	if got := q.ResultWithin(3*harness.Timeout, large); len(got) != size+len(`{"data":""}`) || strings.Trim(got[9:len(got)-2], "x") != "" {
		t.Errorf("the result of a payload of %d bytes has %d bytes, want the payload", size, len(got))
	}
	q.AwaitGone(large)
	server.Client.Del(t.Context(), "asynq:result:"+large)

	tooLarge := q.Enqueue("size", map[string]string{"data": strings.Repeat("x", excess)}, asynq.MaxRetry(0))
	if info := q.AwaitStateWithin(3*harness.Timeout, tooLarge, asynq.TaskStateArchived); !strings.Contains(info.LastErr, "max_message") {
		t.Errorf("the task with %d bytes: %s, want an error about max_message", excess, q.Describe(tooLarge))
	}
	q.Result(q.Enqueue("echo", 1))
	q.AwaitHeartbeat(w.ID, "crashes=0", "healthy=true")
	w.Stop()
}

// An answer that is too large fails its task, and the stream stays in step.
func TestLargeAnswer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	script := filepath.Join(t.TempDir(), "large.py")
	harness.WriteFile(t, script, "from runqy import task, run\n@task\ndef any(p):\n    return 'x' * p\nrun()\n")
	w := harness.StartWorker(t, server.URL, harness.Settings{"python.command": []string{"python3", script}, "python.max_message": "64KiB"})
	q.PythonPID(w.ID)
	large := q.Enqueue("any", 100_000, asynq.MaxRetry(0))
	small := q.Enqueue("any", 3)
	if info := q.AwaitState(large, asynq.TaskStateArchived); !strings.Contains(info.LastErr, "max_message") {
		t.Errorf("the task with 100 kB: %s, want an error about max_message", q.Describe(large))
	}
	if got := q.Result(small); got != `"xxx"` {
		t.Errorf("the next task has the result %s, want %s", got, `"xxx"`)
	}
	q.AwaitHeartbeat(w.ID, "crashes=0", "healthy=true")
	w.Stop()
}

// A handler written for the older runner, which speaks protocol 1, runs unchanged.
func TestLegacyProtocol(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	legacy := harness.RepositoryFile(t, "examples/legacy_v1.py")
	w := harness.StartWorker(t, server.URL, harness.Settings{"python.command": []string{"python3", legacy}})
	q.PythonPID(w.ID)
	if got := q.Result(q.Enqueue("sum", map[string]any{"numbers": []int{1, 2, 3}})); got != `{"sum":6}` && got != `{"sum": 6}` {
		t.Errorf("result %s, want the sum 6", got)
	}
	bad := q.Enqueue("sum", map[string]any{}, asynq.MaxRetry(1))
	if info := q.AwaitState(bad, asynq.TaskStateRetry); !strings.Contains(info.LastErr, "KeyError") {
		t.Errorf("the task's error is %q, want KeyError in it", info.LastErr)
	}
	if got := q.Result(q.Enqueue("sum", map[string]any{"numbers": []int{4}})); !strings.Contains(got, "4") {
		t.Errorf("result %s, want the sum 4", got)
	}
	w.AwaitMetric("runqy_worker_healthy", "1")
	w.Stop()
}

// asynq's CancelProcessing reaches an asynchronous handler; its neighbours go on.
func TestCancel(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"python.command": []string{"python3", harness.TaskFile(t, "async.py")}, "worker.concurrency": 4})
	pid := q.PythonPID(w.ID)
	file := filepath.Join(t.TempDir(), "cancelled")
	cancelled := q.Enqueue("wait", map[string]any{"seconds": 600, "file": file}, asynq.MaxRetry(3))
	q.AwaitHeartbeat(w.ID, "active_task="+cancelled) // before that it would end without its handler, and be retried
	neighbour := q.Enqueue("wait", map[string]any{"seconds": 3, "file": file})
	// asynq listens for cancellations a moment after it has started.
	harness.Eventually(t, "the handler is cancelled", func() error {
		if err := q.Inspector.CancelProcessing(cancelled); err != nil {
			return err
		}
		if lines := harness.ReadLines(t, file); lines[0] != "cancelled" {
			return harness.NotYet(w, "the handler says %q", lines)
		}
		return nil
	})
	if info := q.AwaitState(cancelled, asynq.TaskStateRetry); info.LastErr == "" {
		t.Errorf("the cancelled task has no error, want one")
	}
	if got := q.Result(neighbour); got != `"waited"` {
		t.Errorf("the neighbour has the result %s, want %s", got, `"waited"`)
	}
	if now := q.PythonPID(w.ID); now != pid {
		t.Errorf("the process is %d, want %d still", now, pid)
	}
	w.Stop()
}

// A task past its deadline that ignores that it is cancelled costs the process, and no other task notices.
func TestOverdueTaskIsReplaced(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		file, task string
		payload    map[string]any
	}{
		"sync":  {"sync.py", "sleep", map[string]any{"seconds": 600}},
		"async": {"async.py", "stubborn", map[string]any{"file": filepath.Join(t.TempDir(), "f")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			q := harness.NewQueue(t, server.Client)
			w := harness.StartWorker(t, server.URL, harness.Settings{
				"python.command": []string{"python3", harness.TaskFile(t, test.file)}, "python.stop_timeout": "1s",
			})
			pid := q.PythonPID(w.ID)
			overdue := q.Enqueue(test.task, test.payload, asynq.Timeout(time.Second), asynq.MaxRetry(3))
			next := q.Enqueue("echo", "next")
			if info := q.AwaitState(overdue, asynq.TaskStateRetry); info.Retried != 1 || !strings.Contains(info.LastErr, "deadline") {
				t.Errorf("the overdue task: %s, want one retry and an error about the deadline", q.Describe(overdue))
			}
			if got := q.Result(next); got != `"next"` {
				t.Errorf("the next task has the result %s, want %s", got, `"next"`)
			}
			w.AwaitMetric(`runqy_worker_restarts_total{cause="deadline"}`, "1")
			if now := q.PythonPID(w.ID); now == pid {
				t.Errorf("the process is still %d, want another", pid)
			}
			q.AwaitHeartbeat(w.ID, "crashes=0", "restarts=1")
			w.Stop()
		})
	}
}

// max_tasks recycles the process between tasks and loses nothing.
func TestRecycling(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"python.max_tasks": 5, "worker.concurrency": 3})
	q.PythonPID(w.ID)
	const tasks = 23
	var ids []string
	for range tasks {
		ids = append(ids, q.Enqueue("pid", nil, asynq.MaxRetry(0)))
	}
	perProcess := map[string]int{}
	for _, id := range ids {
		perProcess[q.Result(id)]++
	}
	for pid, n := range perProcess {
		if n > 5 {
			t.Errorf("process %s did %d tasks, want at most 5", pid, n)
		}
	}
	if len(perProcess) < tasks/5 {
		t.Errorf("the tasks ran in %v, want %d processes at least", perProcess, tasks/5)
	}
	q.AwaitEmpty()
	q.AwaitHeartbeat(w.ID, "processed="+strconv.Itoa(tasks), "failed=0", "crashes=0")
	w.Stop()
}
