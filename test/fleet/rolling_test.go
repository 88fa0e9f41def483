package fleet

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// Everything that operators do to a fleet, while it works: each task runs once.
func TestRollingOperations(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"sync.py", "async.py"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			testRollingOperations(t, file, 3000, 12)
		})
	}
}

// The same with as many tasks as a fleet does in some minutes.
func TestLongRollingOperations(t *testing.T) {
	harness.Long(t)
	t.Parallel()
	for _, file := range []string{"sync.py", "async.py"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			testRollingOperations(t, file, 27_000, 54)
		})
	}
}

// testRollingOperations enqueues tasks in as many parts as there are steps, with one operation after each.
func testRollingOperations(t *testing.T, file string, tasks, steps int) {
	t.Helper()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	ran := filepath.Join(t.TempDir(), "ran")
	var workers []*harness.Worker
	for n := range 3 {
		workers = append(workers, harness.StartWorker(t, server.URL, harness.Settings{
			"worker.id": fmt.Sprintf("rolling-%d", n), "worker.concurrency": 16, "fleet.interval": "1s",
			"python.command": []string{"python3", harness.TaskFile(t, file)},
		}))
	}
	for _, w := range workers {
		q.PythonPID(w.ID)
	}
	operations := []func(w *harness.Worker){
		func(w *harness.Worker) {
			w.Stop()
			w.Start("run", "-c", w.Config)
		},
		func(*harness.Worker) { server.Client.ScriptFlush(t.Context()) },
		func(w *harness.Worker) {
			// It may just have started, and says so.
			_ = w.Command("restart", w.ID)
		},
		func(*harness.Worker) {
			server.Client.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes")
		},
		func(*harness.Worker) { server.Client.ClientPause(t.Context(), 300*time.Millisecond) },
		func(w *harness.Worker) { w.Signal(syscall.SIGHUP) },
	}
	ids := map[string]int{}
	for step := range steps {
		for range tasks / steps {
			n := len(ids)
			id := fmt.Sprintf("task-%d", n)
			ids[id] = n
			enqueueSurely(t, q, id, map[string]any{"file": ran, "n": n, "seconds": 0.001})
		}
		operations[step%len(operations)](workers[step/2%len(workers)])
	}
	q.AwaitEmptyWithin(4 * harness.Timeout)
	checkEachOnce(t, q, ids, ran)
	for _, w := range workers {
		q.AwaitHeartbeat(w.ID, "crashes=0", "healthy=true")
		w.Stop()
	}
}

// What an operator, or a failover, may do to a Redis under load: no writes for some seconds, no scripts any more, and
// every connection killed again and again. Each task runs once.
func TestRedisIsHandledRoughly(t *testing.T) {
	t.Parallel()
	const tasks, step = 2000, 50
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	ran := filepath.Join(t.TempDir(), "ran")
	ids := map[string]int{}
	for n := range tasks {
		id := fmt.Sprintf("task-%d", n)
		ids[id] = n
		enqueueSurely(t, q, id, map[string]any{"file": ran, "n": n, "seconds": 0.002})
	}
	var workers []*harness.Worker
	for _, id := range []string{"left", "right"} {
		workers = append(workers, harness.StartWorker(t, server.URL, harness.Settings{
			"worker.id": id, "worker.concurrency": 8, "fleet.interval": "1s", "heartbeat.ttl": "30s",
		}))
	}
	for next := step; next < tasks; next += step {
		harness.EventuallyWithin(t, 2*harness.Timeout, fmt.Sprintf("%d tasks have run", next), func() error {
			if n := len(harness.ReadLines(t, ran)); n < next {
				return fmt.Errorf("%d have", n)
			}
			return nil
		})
		var err error
		switch next {
		case 6 * step:
			err = server.Client.Do(t.Context(), "CLIENT", "PAUSE", 4000, "WRITE").Err()
		case 12 * step, 24 * step:
			err = server.Client.ScriptFlush(t.Context()).Err()
		default:
			err = server.Client.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err()
		}
		if err != nil {
			t.Fatalf("after %d tasks: %v", next, err)
		}
	}
	q.AwaitEmptyWithin(2 * harness.Timeout)
	checkEachOnce(t, q, ids, ran)
	for _, w := range workers {
		if line := w.Log.FindWith("task requeued", "reason", "not held"); line != nil {
			t.Errorf("%s has lost sight of a task: %v", w.ID, line)
		}
		q.AwaitHeartbeat(w.ID, "crashes=0", "healthy=true")
		w.Stop()
	}
}

// enqueueSurely enqueues a task although connections are killed: one whose answer was lost is there.
func enqueueSurely(t *testing.T, q *harness.Queue, id string, payload map[string]any) {
	t.Helper()
	data := fmt.Appendf(nil, `{"file":%q,"n":%v,"seconds":%v}`, payload["file"], payload["n"], payload["seconds"])
	harness.Eventually(t, "task "+id+" is enqueued", func() error {
		_, err := q.Client.Enqueue(asynq.NewTask("note", data), asynq.Queue(harness.QueueName), asynq.TaskID(id), asynq.MaxRetry(0))
		if errors.Is(err, asynq.ErrTaskIDConflict) {
			return nil
		}
		return err
	})
}

// checkEachOnce checks that each task has run once and has its result, its number, and that none is archived.
func checkEachOnce(t *testing.T, q *harness.Queue, ids map[string]int, ran string) {
	t.Helper()
	prefix := "asynq:{" + harness.QueueName + "}:"
	archived, err := q.Redis.ZRange(t.Context(), prefix+"archived", 0, -1).Result()
	if err != nil {
		t.Errorf("list the archived tasks: %v", err)
	}
	for _, id := range archived[:min(len(archived), 3)] {
		t.Errorf("of %d archived tasks: %s is %s; want none", len(archived), id, q.Describe(id))
	}
	runs := harness.CountFirstWords(harness.ReadLines(t, ran))
	wrong := 0
	for id, n := range ids {
		result, err := q.Redis.Get(t.Context(), "asynq:result:"+id).Result()
		if runs[id] == 1 && err == nil && result == fmt.Sprint(n) {
			continue
		}
		if wrong++; wrong <= 10 {
			t.Errorf("task %s has run %d times, its result is %q (%v); want one run and %d", id, runs[id], result, err, n)
		}
	}
	maps.DeleteFunc(runs, func(id string, _ int) bool { _, known := ids[id]; return known })
	if wrong > 0 || len(runs) > 0 {
		t.Errorf("%d of %d tasks have not run just once; unknown ones have: %v", wrong, len(ids), runs)
	}
	if n := q.Redis.ZCard(t.Context(), prefix+"lease").Val(); n != 0 {
		t.Errorf("%d leases are left, want none", n)
	}
	if keys := q.Redis.Keys(t.Context(), prefix+"t:*").Val(); len(keys) > 0 {
		t.Errorf("%d tasks are left, the first is %s, want none", len(keys), keys[0])
	}
}

// Connections that break on every tenth command, under two workers with asynchronous handlers: each task is done, and
// nothing is stuck in any list.
func TestConnectionsOfAFleetBreak(t *testing.T) {
	t.Parallel()
	const tasks = 600
	server := redistest.Start(t)
	proxy := redistest.StartProxy(t, server.Addr)
	q := harness.NewQueue(t, server.Client)
	ran := filepath.Join(t.TempDir(), "ran")
	var workers []*harness.Worker
	for _, id := range []string{"left", "right"} {
		workers = append(workers, harness.StartWorker(t, proxy.URL, harness.Settings{
			"worker.id": id, "worker.concurrency": 4, "fleet.interval": "1s",
			"python.command": []string{"python3", harness.TaskFile(t, "async.py")},
		}))
		q.PythonPID(id)
	}
	proxy.CutEvery(10, redistest.CutAlternate)
	ids := map[string]int{}
	for n := range tasks {
		id := fmt.Sprintf("task-%d", n)
		ids[id] = n
		enqueueSurely(t, q, id, map[string]any{"file": ran, "n": n, "seconds": 0.02})
	}
	q.AwaitEmptyWithin(3 * harness.Timeout)
	cuts := proxy.Cuts()
	proxy.CutEvery(0, redistest.CutRequest)
	if cuts < 20 {
		t.Errorf("%d connections were broken, want 20 at least", cuts)
	}
	checkEachOnce(t, q, ids, ran)
	for _, w := range workers {
		q.AwaitHeartbeat(w.ID, "healthy=true", "crashes=0")
		w.Stop()
		if n := server.Client.LLen(t.Context(), "runqy:{"+harness.QueueName+"}:direct:"+w.ID).Val(); n != 0 {
			t.Errorf("%d tasks are left in the direct list of %s, want none", n, w.ID)
		}
	}
	t.Logf("%d tasks, %d broken connections", tasks, cuts)
}

// Scripts whose answers are lost have been carried out: what they took is run, and what they ended has ended, once.
func TestAnswersOfScriptsAreLost(t *testing.T) {
	t.Parallel()
	const tasks = 300
	server := redistest.Start(t)
	proxy := redistest.StartProxy(t, server.Addr)
	q := harness.NewQueue(t, server.Client)
	ran := filepath.Join(t.TempDir(), "ran")
	w := harness.StartWorker(t, proxy.URL, harness.Settings{
		"worker.concurrency": 4, "python.command": []string{"python3", harness.TaskFile(t, "async.py")},
	})
	q.PythonPID(w.ID)
	proxy.CutEveryMatching(3, redistest.CutReply, func(name string) bool { return name == "EVALSHA" })
	ids := map[string]int{}
	for n := range tasks {
		id := fmt.Sprintf("task-%d", n)
		ids[id] = n
		enqueueSurely(t, q, id, map[string]any{"file": ran, "n": n, "seconds": 0.02})
	}
	q.AwaitEmptyWithin(2 * harness.Timeout)
	cuts := proxy.Cuts()
	proxy.CutEvery(0, redistest.CutReply)
	if cuts < 10 {
		t.Errorf("%d answers were lost, want 10 at least", cuts)
	}
	checkEachOnce(t, q, ids, ran)
	t.Logf("%d tasks, %d answers lost", tasks, cuts)
	q.AwaitHeartbeat(w.ID, "healthy=true", "crashes=0")
	w.Stop()
}
