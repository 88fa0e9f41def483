package worker

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// A worker whose Redis is not there at start waits, says so, serves /livez meanwhile, and goes on when it comes.
func TestRedisComesLater(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Kill() // its port is ours all the same
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	w.AwaitAnswer("/livez", 200, "")
	w.AwaitAnswer("/health", 503, harness.UnhealthyBody)
	w.AwaitAnswer("/readyz", 503, "")
	harness.Eventually(t, "the worker says that it waits", func() error {
		if w.Log.Find("retrying") == nil {
			return harness.NotYet(w, "%s", w.Log)
		}
		return nil
	})
	if out := w.Command("healthcheck"); out.Code != 1 || !strings.Contains(out.Out, `"broker":"unhealthy"`) {
		t.Errorf("healthcheck: %+v, want exit code 1 and \"broker\":\"unhealthy\" on stdout", out)
	}
	if out := w.Command("healthcheck", "--live"); out.Code != 0 {
		t.Errorf("healthcheck --live: %+v, want exit code 0", out)
	}
	server.Restart()
	q.PythonPID(w.ID)
	w.AwaitAnswer("/health", 200, harness.HealthyBody)
	w.AwaitAnswer("/readyz", 200, "")
	q.Result(q.Enqueue("echo", 1))
	w.Stop()
}

// A worker that waits for Redis can be stopped.
func TestStopWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	w := harness.StartWorker(t, "redis://127.0.0.1:"+harness.RefusingPort(t)+"/0", nil)
	w.AwaitAnswer("/livez", 200, "")
	w.Stop()
}

// A port that is taken, a password that is wrong: said clearly, and not waited for.
func TestStartThatCannotWork(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--requirepass", "right-password")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("take a port: %v", err)
	}
	defer taken.Close()
	for name, test := range map[string]struct {
		url  string
		set  harness.Settings
		says string
	}{
		"port":     {server.URL, harness.Settings{"health.listen": taken.Addr().String()}, taken.Addr().String()},
		"password": {strings.Replace(server.URL, "right-password", "wrong-password", 1), nil, "WRONGPASS"},
		"none":     {strings.Replace(server.URL, ":right-password@", "", 1), nil, "NOAUTH"},
	} {
		w := harness.StartWorker(t, test.url, test.set)
		if code := w.WaitExit(); code != 1 {
			t.Errorf("%s: exit code %d, want 1", name, code)
		}
		if log := w.Log.String(); !strings.Contains(log, test.says) || strings.Contains(log, "wrong-password") {
			t.Errorf("%s: the log, want %q and no password in it:\n%s", name, test.says, log)
		}
	}
}

// Redis restarted in the middle of the work, as one that persists nothing: the worker comes back by itself.
func TestRedisRestarts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	q.PythonPID(w.ID)
	lost := q.Enqueue("sleep", map[string]any{"seconds": 1})
	q.AwaitHeartbeat(w.ID, "active_task="+lost)
	server.Kill()
	w.AwaitAnswer("/health", 503, harness.UnhealthyBody)
	w.AwaitAnswer("/livez", 200, "")
	w.AwaitMetric("runqy_worker_healthy", "0")
	server.Restart()
	q.PythonPID(w.ID)
	w.AwaitAnswer("/health", 200, harness.HealthyBody)
	for n := range 3 {
		q.Result(q.Enqueue("echo", n))
	}
	// Commands reach it again.
	if out := w.Command("restart", w.ID); out.Code != 0 {
		t.Errorf("restart: %+v, want exit code 0", out)
	}
	q.Result(q.Enqueue("echo", 9))
	w.Stop()
}

// A frozen Redis, which keeps connections open and answers nothing: unhealthy within seconds, nothing is lost.
func TestRedisFreezes(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"heartbeat.ttl": "60s"})
	q.PythonPID(w.ID)
	file := filepath.Join(t.TempDir(), "ran")
	var ids []string
	for n := range 20 {
		ids = append(ids, q.Enqueue("note", map[string]any{"file": file, "seconds": 0.05, "n": n}))
	}
	q.Result(ids[0])
	began := time.Now()
	server.Freeze()
	defer server.Thaw()
	w.AwaitAnswer("/health", 503, harness.UnhealthyBody)
	t.Logf("unhealthy %v after Redis froze", time.Since(began))
	w.AwaitAnswer("/livez", 200, "")
	w.AwaitMetric("runqy_worker_healthy", "0") // a scrape does not wait for Redis
	if code, body := harness.Get(t, "http://"+w.Addr()+"/health/v2/queues"); code != 503 || !strings.HasPrefix(body, `{"broker":"error"`) {
		t.Errorf("/health/v2/queues answers %d %s, want 503 and the broker's error", code, body)
	}
	server.Thaw()
	w.AwaitAnswer("/health", 200, harness.HealthyBody)
	for n, id := range ids {
		if got := q.Result(id); got != strconv.Itoa(n) {
			t.Errorf("task %d has the result %s, want %d", n, got, n)
		}
	}
	q.AwaitEmpty()
	q.PythonPID(w.ID)
	w.Stop()
}

// Connections that break on every tenth command: 2,000 tasks, each acknowledged or run again, none stuck, none lost.
func TestConnectionsBreak(t *testing.T) {
	t.Parallel()
	const tasks = 2000
	server := redistest.Start(t)
	proxy := redistest.StartProxy(t, server.Addr)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, proxy.URL, harness.Settings{"worker.concurrency": 8, "worker.queues": []string{harness.QueueName}})
	q.PythonPID(w.ID)
	file := filepath.Join(t.TempDir(), "ran")
	proxy.CutEvery(10, redistest.CutAlternate)
	ids := make([]string, tasks)
	for n := range ids {
		ids[n] = q.Enqueue("note", map[string]any{"file": file, "n": n}, asynq.MaxRetry(20))
	}
	q.AwaitEmptyWithin(3 * harness.Timeout)
	cuts := proxy.Cuts()
	proxy.CutEvery(0, redistest.CutRequest)

	archived := server.Client.ZCard(t.Context(), "asynq:{"+harness.QueueName+"}:archived").Val()
	lost, wrong := 0, 0
	for n, id := range ids {
		switch got, err := server.Client.Get(t.Context(), "asynq:result:"+id).Result(); {
		case err != nil:
			lost++
		case got != strconv.Itoa(n):
			wrong++
		}
	}
	runs := map[string]int{}
	for _, line := range harness.ReadLines(t, file) {
		id, _, _ := strings.Cut(line, " ")
		runs[id]++
	}
	again := 0
	for id, n := range runs {
		if !slices.Contains(ids, id) {
			t.Errorf("an unknown task %s ran", id)
		}
		again += n - 1
	}
	t.Logf("%d tasks, %d broken connections, %d runs repeated", tasks, cuts, again)
	if lost > 0 || wrong > 0 || archived > 0 || len(runs) != tasks {
		t.Errorf("%d results are missing, %d wrong, %d tasks archived, want none; %d of %d ran, want all", lost, wrong, archived, len(runs), tasks)
	}
	if cuts < 10 { // a command is for many tasks
		t.Errorf("%d connections were broken, want 10 at least", cuts)
	}
	q.AwaitHeartbeat(w.ID, "healthy=true")
	w.Stop()
	if n := server.Client.HLen(t.Context(), "asynq:{"+harness.QueueName+"}:t:"+ids[0]).Val(); n != 0 {
		t.Errorf("a finished task left its hash behind")
	}
	if err := leftovers(t, q); err != nil {
		t.Errorf("task hashes: %v", err)
	}
}

// leftovers looks for task hashes of asynq's that no set knows.
func leftovers(t *testing.T, q *harness.Queue) error {
	t.Helper()
	var cursor uint64
	for {
		keys, next, err := q.Redis.Scan(t.Context(), cursor, "asynq:{"+harness.QueueName+"}:t:*", 1000).Result()
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			return fmt.Errorf("%d task hashes are left, the first is %s: %v", len(keys), keys[0], q.Redis.HGetAll(t.Context(), keys[0]).Val())
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}
