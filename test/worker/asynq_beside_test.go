package worker

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// A plain asynq server beside a worker, on the same queue: both take tasks, and each task runs once.
func TestPlainAsynqServerBesideAWorker(t *testing.T) {
	t.Parallel()
	const tasks = 500
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"worker.concurrency": 2})
	q.PythonPID(w.ID)
	var (
		mu     sync.Mutex
		theirs = map[string]int{} // guarded by mu
	)
	plain := asynq.NewServerFromRedisClient(server.Client, asynq.Config{
		Concurrency: 2, Queues: map[string]int{harness.QueueName: 1}, LogLevel: asynq.FatalLevel,
	})
	err := plain.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		mu.Lock()
		defer mu.Unlock()
		theirs[task.ResultWriter().TaskID()]++
		return nil
	}))
	if err != nil {
		t.Fatalf("start the plain server: %v", err)
	}
	defer plain.Shutdown()
	file := filepath.Join(t.TempDir(), "ran")
	for n := range tasks {
		q.Enqueue("note", map[string]any{"file": file, "n": n, "seconds": 0.005}, asynq.TaskID(strconv.Itoa(n)), asynq.MaxRetry(0))
	}
	q.AwaitEmpty()
	ours := harness.CountFirstWords(harness.ReadLines(t, file))
	mu.Lock()
	defer mu.Unlock()
	for n := range tasks {
		id := strconv.Itoa(n)
		if ours[id]+theirs[id] != 1 {
			t.Errorf("task %s has run %d times here and %d times there, want once", id, ours[id], theirs[id])
		}
		if got := server.Client.Get(t.Context(), "asynq:result:"+id).Val(); ours[id] == 1 && got != id {
			t.Errorf("task %s has the result %q, want its number", id, got)
		}
	}
	if len(ours) == 0 || len(theirs) == 0 {
		t.Errorf("%d tasks have run here and %d there, want some on either side", len(ours), len(theirs))
	}
	if n := server.Client.ZCard(t.Context(), "asynq:{"+harness.QueueName+"}:archived").Val(); n != 0 {
		t.Errorf("%d tasks are archived, want none", n)
	}
	if err := leftovers(t, q); err != nil {
		t.Error(err)
	}
	t.Logf("%d tasks here, %d there", len(ours), len(theirs))
	w.Stop()
}

// What asynqmon puts together of its two lists: the active tasks of a queue, with when each has begun and its deadline.
// A task that has not begun stands in the first alone, and an idle worker in none.
func TestActiveTasksAsAsynqmonShowsThem(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"worker.concurrency": 3, "python.command": []string{"python3", harness.TaskFile(t, "mixed.py")},
	})
	q.PythonPID(w.ID)
	awaitShown(t, q, w, "an idle worker", func(shown map[string]*asynq.WorkerInfo) error {
		if len(shown) > 0 {
			return fmt.Errorf("%d tasks are shown, want none", len(shown))
		}
		return nil
	})
	began := time.Now()
	file := filepath.Join(t.TempDir(), "ran")
	gate := filepath.Join(t.TempDir(), "gate")
	payload := map[string]any{"file": file, "gate": gate}
	absolute := time.Now().Add(20 * time.Minute).Truncate(time.Second)
	q.Enqueue("watch", payload, asynq.TaskID("async"), asynq.Timeout(10*time.Minute))
	q.Enqueue("hold", payload, asynq.TaskID("sync"), asynq.Timeout(time.Hour), asynq.Deadline(absolute))
	harness.Eventually(t, "the synchronous task has begun", func() error {
		if len(harness.ReadLines(t, file)[0]) == 0 {
			return harness.NotYet(w, "it has not")
		}
		return nil
	})
	q.Enqueue("hold", payload, asynq.TaskID("waits"))
	awaitShown(t, q, w, "two tasks", func(shown map[string]*asynq.WorkerInfo) error {
		if len(shown) != 2 || shown["async"] == nil || shown["sync"] == nil {
			return fmt.Errorf("%v, want async and sync", shown)
		}
		return nil
	})
	active, err := q.Inspector.ListActiveTasks(harness.QueueName)
	deadlines := map[string]time.Time{}
	for _, a := range active {
		deadlines[a.ID] = a.Deadline
	}
	if err != nil || !deadlines["sync"].Equal(absolute) {
		t.Errorf("the active tasks have the deadlines %v (%v), want sync with %v", deadlines, err, absolute)
	}
	servers, err := q.Inspector.Servers()
	if err != nil || len(servers) != 1 {
		t.Fatalf("%d servers (%v), want one", len(servers), err)
	}
	types := map[string]string{"async": "watch", "sync": "hold"}
	for _, a := range servers[0].ActiveWorkers {
		deadline := a.Started.Add(10 * time.Minute)
		if a.TaskID == "sync" {
			deadline = absolute
		}
		if a.TaskType != types[a.TaskID] || a.Queue != harness.QueueName || len(a.TaskPayload) == 0 ||
			a.Started.Before(began.Add(-time.Second)) || a.Started.After(time.Now()) || a.Deadline.Sub(deadline).Abs() > time.Second {
			t.Errorf("%+v, want the type %s, since the begin, until %v", a, types[a.TaskID], deadline)
		}
	}
	harness.WriteFile(t, gate, "open")
	for _, id := range []string{"async", "sync", "waits"} {
		q.AwaitGone(id)
	}
	awaitShown(t, q, w, "an idle worker again", func(shown map[string]*asynq.WorkerInfo) error {
		if len(shown) > 0 {
			return fmt.Errorf("%d tasks are shown, want none", len(shown))
		}
		return nil
	})
	w.Stop()
	if servers, err := q.Inspector.Servers(); err != nil || len(servers) != 0 {
		t.Errorf("after its end %d servers (%v), want none", len(servers), err)
	}
}

// awaitShown waits until the tasks that asynq's server list shows for the worker are right.
func awaitShown(t *testing.T, q *harness.Queue, w *harness.Worker, what string, check func(map[string]*asynq.WorkerInfo) error) {
	t.Helper()
	harness.Eventually(t, "asynq shows "+what, func() error {
		servers, err := q.Inspector.Servers()
		if err != nil || len(servers) != 1 {
			return harness.NotYet(w, "%d servers (%w)", len(servers), err)
		}
		shown := map[string]*asynq.WorkerInfo{}
		for _, a := range servers[0].ActiveWorkers {
			shown[a.TaskID] = a
		}
		return check(shown)
	})
}
