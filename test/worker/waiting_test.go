package worker

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// The clock of a task's timeout starts with its handler, however long the task has waited behind a synchronous one.
func TestWaitingDoesNotTimeOut(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"worker.concurrency": 8})
	pid := q.PythonPID(w.ID)
	q.Enqueue("sleep", map[string]any{"seconds": 5}, asynq.Timeout(30*time.Second))
	var waiting []string
	for range 7 {
		waiting = append(waiting, q.Enqueue("remaining", nil, asynq.Timeout(2*time.Second), asynq.MaxRetry(0), asynq.Retention(time.Hour)))
	}
	for _, id := range waiting {
		harness.Eventually(t, "task "+id+" has ended", func() error {
			if err := wantCount(t, q, "archived", 0); err != nil {
				return harness.Fatal("%v: %s", err, q.Describe(id))
			}
			return q.Redis.Get(t.Context(), "asynq:result:"+id).Err()
		})
		info := q.AwaitState(id, asynq.TaskStateCompleted)
		// Half a second for a machine that is busy between the begin and the look.
		if left, err := strconv.ParseFloat(string(info.Result), 64); err != nil || left < 0.5 || left > 2.5 || info.Retried != 0 {
			t.Errorf("task %s had %s of its 2 s left when it began, after %d retries; want nearly all, after none", id, info.Result, info.Retried)
		}
	}
	if now := q.PythonPID(w.ID); now != pid {
		t.Errorf("the process is %d, want %d still", now, pid)
	}
	w.Stop()
}

// A handler that has begun late is overdue when its own timeout is over, not before, and then costs the process.
func TestTimeoutOfWhatHasWaited(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"worker.concurrency": 8, "python.stop_timeout": "1s"})
	pid := q.PythonPID(w.ID)
	file := filepath.Join(t.TempDir(), "ran")
	first := q.Enqueue("note", map[string]any{"file": file, "seconds": 3, "n": 1}, asynq.MaxRetry(0))
	harness.Eventually(t, "the first handler runs", func() error { return wantRuns(t, file, 1) })
	overdue := q.Enqueue("note", map[string]any{"file": file, "seconds": 600}, asynq.MaxRetry(0), asynq.Timeout(2*time.Second))
	harness.Eventually(t, "the second handler runs", func() error {
		if err := wantCount(t, q, "archived", 0); err != nil {
			return harness.Fatal("%v: %s", err, q.Describe(overdue))
		}
		return wantRuns(t, file, 2)
	})
	began := time.Now()
	info := q.AwaitState(overdue, asynq.TaskStateArchived)
	if took := time.Since(began); took < 1500*time.Millisecond || !strings.Contains(info.LastErr, "deadline") {
		t.Errorf("it was archived %v after its begin: %s; want 2 s, and an error about the deadline", took, q.Describe(overdue))
	}
	if got := q.Result(first); got != "1" {
		t.Errorf("the first task has the result %s, want 1", got)
	}
	q.Result(q.Enqueue("echo", 1))
	if now := q.PythonPID(w.ID); now == pid {
		t.Errorf("the process is still %d, want another", pid)
	}
	w.Stop()
}

// The duration of a task is that of its handler, in the view and in the histogram: its wait is not part of it.
func TestDurationIsTheHandlers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"worker.concurrency": 8})
	q.PythonPID(w.ID)
	long := q.Enqueue("sleep", map[string]any{"seconds": 3})
	q.AwaitHeartbeat(w.ID, "active_task="+long)
	short := q.Enqueue("sleep", map[string]any{"seconds": 0.1})
	q.Result(short)
	var took float64
	harness.Eventually(t, "the view has the duration", func() (err error) {
		took, err = strconv.ParseFloat(q.Redis.HGet(t.Context(), "asynq:t:"+short, "duration_seconds").Val(), 64)
		return err
	})
	if took < 0.1 || took > 1.5 {
		t.Errorf("a handler of 0.1 s that waited for 3 s took %v s by its view, want 0.1", took)
	}
	harness.Eventually(t, "both tasks are in the histogram", func() error {
		samples := harness.Samples(t, w.Addr())
		if n := harness.SumSamples(samples, "runqy_task_duration_seconds_count"); n != 2 {
			return harness.NotYet(w, "%v tasks are", n)
		}
		if sum := harness.SumSamples(samples, "runqy_task_duration_seconds_sum"); sum < 3.1 || sum > 4.5 {
			return harness.Fatal("the histogram's sum is %v s, want 3.1", sum)
		}
		return nil
	})
	w.Stop()
}

// One file with both kinds of handlers: an asynchronous one runs beside a synchronous one, and what waits behind that
// does not time out.
func TestBothKindsOfHandlers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"worker.concurrency": 4, "python.command": python(t, "mixed.py")})
	q.PythonPID(w.ID)
	file := filepath.Join(t.TempDir(), "ran")
	long := q.Enqueue("note", map[string]any{"file": file, "seconds": 5, "n": 1}, asynq.Timeout(30*time.Second), asynq.MaxRetry(0))
	harness.Eventually(t, "the synchronous handler runs", func() error { return wantRuns(t, file, 1) })
	if got := q.Result(q.Enqueue("fetch", map[string]any{"seconds": 0.01})); got != `"fetched"` {
		t.Errorf("the asynchronous task has the result %s, want %s", got, `"fetched"`)
	}
	if n := q.Redis.Exists(t.Context(), "asynq:result:"+long).Val(); n != 0 {
		t.Error("the asynchronous task ended after the synchronous one, want it beside")
	}
	waiting := q.Enqueue("note", map[string]any{"file": file, "n": 2}, asynq.Timeout(2*time.Second), asynq.MaxRetry(0))
	for id, want := range map[string]string{long: "1", waiting: "2"} {
		harness.Eventually(t, "task "+want+" has ended", func() error {
			if err := wantCount(t, q, "archived", 0); err != nil {
				return harness.Fatal("%v: %s", err, q.Describe(id))
			}
			return q.Redis.Get(t.Context(), "asynq:result:"+id).Err()
		})
	}
	w.Stop()
}

// A process that cannot give back what waits in it gets one task more than it runs, at most.
func TestProcessThatCannotWithdraw(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"worker.concurrency": 8, "python.command": child(t, "counts_waiting.py")})
	q.PythonPID(w.ID)
	var ids []string
	for range 12 {
		ids = append(ids, q.Enqueue("any", 0.2))
	}
	for _, id := range ids {
		if most := q.Result(id); most != "0" && most != "1" {
			t.Fatalf("%s tasks waited in the process, want 1 at most", most)
		}
	}
	w.Stop()
}

// A process of protocol 1 does not say what it runs: a task begins when it is written, and its clock starts.
func TestProtocol1BeginsWhenWritten(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"worker.concurrency": 1, "python.stop_timeout": "1s", "python.command": child(t, "counts_waiting.py", "--v1"),
	})
	pid := q.PythonPID(w.ID)
	overdue := q.Enqueue("any", 600, asynq.Timeout(time.Second), asynq.MaxRetry(0))
	next := q.Enqueue("any", 0)
	q.AwaitState(overdue, asynq.TaskStateArchived)
	q.Result(next)
	if now := q.PythonPID(w.ID); now == pid {
		t.Errorf("the process is still %d, want another", pid)
	}
	w.Stop()
}

// A worker whose only thread is busy is BUSY, whatever its concurrency, and is not chosen as a free one.
func TestBusyThreadIsNotFree(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	busy := harness.StartWorker(t, server.URL, harness.Settings{"worker.id": "busy", "worker.concurrency": 8, "worker.shutdown_timeout": "100ms"})
	q.PythonPID(busy.ID)
	q.AwaitHeartbeat(busy.ID, "state=FREE")
	running := q.Enqueue("sleep", map[string]any{"seconds": 600})
	q.AwaitHeartbeat(busy.ID, "active_task="+running)
	harness.EventuallyWithin(t, harness.Timeout/4, "the worker is busy", func() error {
		if state := q.Heartbeat(busy.ID)["state"]; state != "BUSY" {
			return harness.NotYet(busy, "its state is %q", state)
		}
		return nil
	})
	free := harness.StartWorker(t, server.URL, harness.Settings{"worker.id": "free"})
	q.PythonPID(free.ID)
	for n := range 4 {
		id := fmt.Sprintf("chosen-%d", n)
		out := busy.Command("enqueue", harness.QueueName, "echo", "1", "--any-free", "--id", id)
		if out.Code != 0 {
			t.Fatalf("enqueue --any-free: %+v, want exit code 0", out)
		}
		q.Result(id)
		if worker := q.Redis.HGet(t.Context(), "asynq:t:"+id, "worker").Val(); worker != "free" {
			t.Errorf("%s ran the task, want free: %s", worker, out.Out)
		}
	}
}
