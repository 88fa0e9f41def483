package test

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
)

// A worker whose Redis is not there at start waits, says so, serves /livez meanwhile, and goes on when it comes.
func TestRedisComesLater(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Kill() // its port is ours all the same
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, nil)
	w.answers("/livez", 200, "")
	w.answers("/health", 503, unhealthyBody)
	w.answers("/readyz", 503, "")
	eventually(t, "the worker says that it waits", func() error {
		if w.Log.find("retrying") == nil {
			return fatalUntil(w, "%s", w.Log)
		}
		return nil
	})
	if out := w.command("healthcheck"); out.Code != 1 || !strings.Contains(out.Out, `"broker":"unhealthy"`) {
		t.Errorf("healthcheck: %+v", out)
	}
	if out := w.command("healthcheck", "--live"); out.Code != 0 {
		t.Errorf("healthcheck --live: %+v", out)
	}
	server.Restart()
	q.pythonPID(w.ID)
	w.answers("/health", 200, healthyBody)
	w.answers("/readyz", 200, "")
	q.result(q.enqueue("echo", 1))
	w.Stop()
}

// A worker that waits for Redis can be stopped.
func TestStopWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	w := startWorker(t, "redis://127.0.0.1:"+freePort(t)+"/0", nil)
	w.answers("/livez", 200, "")
	w.Stop()
}

// A port that is taken, a password that is wrong: said clearly, and not waited for.
func TestStartThatCannotWork(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--requirepass", "right-password")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, test := range map[string]struct {
		url  string
		set  settings
		says string
	}{
		"port":     {server.URL, settings{"health.listen": taken.Addr().String()}, taken.Addr().String()},
		"password": {strings.Replace(server.URL, "right-password", "wrong-password", 1), nil, "WRONGPASS"},
		"none":     {strings.Replace(server.URL, ":right-password@", "", 1), nil, "NOAUTH"},
	} {
		w := startWorker(t, test.url, test.set)
		if code := w.WaitExit(); code != 1 {
			t.Errorf("%s: exit code %d, want 1", name, code)
		}
		if said := w.Log.String(); !strings.Contains(said, test.says) || strings.Contains(said, "wrong-password") {
			t.Errorf("%s: the worker says\n%s", name, said)
		}
	}
}

// Redis restarted in the middle of the work, as one that persists nothing: the worker comes back by itself.
func TestRedisRestarts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, nil)
	q.pythonPID(w.ID)
	lost := q.enqueue("sleep", map[string]any{"seconds": 1})
	q.beats(w.ID, "active_task="+lost)
	server.Kill()
	w.answers("/health", 503, unhealthyBody)
	w.answers("/livez", 200, "")
	w.metric("runqy_worker_healthy", "0")
	server.Restart()
	q.pythonPID(w.ID)
	w.answers("/health", 200, healthyBody)
	for n := range 3 {
		q.result(q.enqueue("echo", n))
	}
	// Commands reach it again.
	if out := w.command("restart", w.ID); out.Code != 0 {
		t.Errorf("restart: %+v", out)
	}
	q.result(q.enqueue("echo", 9))
	w.Stop()
}

// A frozen Redis, which keeps connections open and answers nothing: unhealthy within seconds, nothing is lost.
func TestRedisFreezes(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, settings{"heartbeat.ttl": "60s"})
	q.pythonPID(w.ID)
	file := filepath.Join(t.TempDir(), "ran")
	var ids []string
	for n := range 20 {
		ids = append(ids, q.enqueue("note", map[string]any{"file": file, "seconds": 0.05, "n": n}))
	}
	q.result(ids[0])
	began := time.Now()
	server.Freeze()
	defer server.Thaw()
	w.answers("/health", 503, unhealthyBody)
	t.Logf("unhealthy %v after Redis froze", time.Since(began))
	w.answers("/livez", 200, "")
	w.metric("runqy_worker_healthy", "0") // a scrape does not wait for Redis
	if code, body := get(t, "http://"+w.Addr()+"/health/v2/queues"); code != 503 || !strings.HasPrefix(body, `{"broker":"error"`) {
		t.Errorf("/health/v2/queues answers %d %s", code, body)
	}
	server.Thaw()
	w.answers("/health", 200, healthyBody)
	for n, id := range ids {
		if got := q.result(id); got != strconv.Itoa(n) {
			t.Errorf("task %d has the result %s", n, got)
		}
	}
	q.nothingLeft()
	q.pythonPID(w.ID)
	w.Stop()
}

// Connections that break on every tenth command: 2,000 tasks, each acknowledged or run again, none stuck, none lost.
func TestConnectionsBreak(t *testing.T) {
	t.Parallel()
	const tasks = 2000
	server := redistest.Start(t)
	proxy := redistest.StartProxy(t, server.Addr)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, proxy.URL, settings{"worker.concurrency": 8, "worker.queues": []string{queueName}})
	q.pythonPID(w.ID)
	file := filepath.Join(t.TempDir(), "ran")
	proxy.CutEvery(10, redistest.CutAlternate)
	ids := make([]string, tasks)
	for n := range ids {
		ids[n] = q.enqueue("note", map[string]any{"file": file, "n": n}, asynq.MaxRetry(20))
	}
	q.nothingLeftFor(3 * patience)
	cuts := proxy.Cuts()
	proxy.CutEvery(0, redistest.CutRequest)

	archived := server.Client.ZCard(t.Context(), "asynq:{"+queueName+"}:archived").Val()
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
	for _, line := range readLines(t, file) {
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
		t.Errorf("%d results are missing, %d wrong, %d tasks archived, %d of %d ran", lost, wrong, archived, len(runs), tasks)
	}
	if cuts < tasks/10 {
		t.Errorf("only %d connections were broken", cuts)
	}
	q.beats(w.ID, "healthy=true")
	w.Stop()
	if n := server.Client.HLen(t.Context(), "asynq:{"+queueName+"}:t:"+ids[0]).Val(); n != 0 {
		t.Errorf("a finished task left its hash behind")
	}
	if err := leftovers(t, q); err != nil {
		t.Error(err)
	}
}

// leftovers looks for task hashes of asynq's that no set knows.
func leftovers(t *testing.T, q *queueUser) error {
	t.Helper()
	var cursor uint64
	for {
		keys, next, err := q.redis.Scan(t.Context(), cursor, "asynq:{"+queueName+"}:t:*", 1000).Result()
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			return fmt.Errorf("%d task hashes are left, the first is %s: %v", len(keys), keys[0], q.redis.HGetAll(t.Context(), keys[0]).Val())
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}
