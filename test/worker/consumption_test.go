package worker

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// What the worker promises is 10 s until it is not healthy and 15 s until it is again; these leave room for a busy machine.
const (
	redWithin   = 20 * time.Second
	greenWithin = 30 * time.Second
)

// hinderedWorker is an idle worker, and somebody who may do everything with its Redis.
type hinderedWorker struct {
	t      *testing.T
	server *redistest.Server
	admin  *redis.Client
	queue  *harness.Queue
	worker *harness.Worker
}

func startHinderedWorker(t *testing.T) *hinderedWorker {
	t.Helper()
	server := redistest.Start(t)
	for _, user := range []string{"admin", "worker"} {
		if err := server.Client.Do(t.Context(), "ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all").Err(); err != nil {
			t.Fatalf("make the user %s: %v", user, err)
		}
	}
	admin := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "admin", Password: "secret", ReadTimeout: time.Minute})
	t.Cleanup(func() { admin.Close() })
	address := url.URL{Scheme: "redis", Host: server.Addr, Path: "/0", User: url.UserPassword("worker", "secret")}
	h := &hinderedWorker{
		t: t, server: server, admin: admin, queue: harness.NewQueue(t, admin),
		worker: harness.StartWorker(t, address.String(), harness.Settings{"heartbeat.interval": "5s", "heartbeat.ttl": "15s"}),
	}
	h.worker.AwaitAnswer("/health", 200, harness.HealthyBody)
	h.queue.Result(h.queue.Enqueue("echo", 1))
	return h
}

func (h *hinderedWorker) do(command string) {
	h.t.Helper()
	args := make([]any, 0, 8)
	for _, word := range strings.Fields(command) {
		args = append(args, strings.ReplaceAll(word, "_", " "))
	}
	if err := h.admin.Do(h.t.Context(), args...).Err(); err != nil {
		h.t.Fatalf("%s: %v", command, err)
	}
}

// awaitRed waits until the worker is not healthy for a reason that has these words.
func (h *hinderedWorker) awaitRed(words string) {
	h.t.Helper()
	took := harness.EventuallyWithin(h.t, redWithin, "it is not healthy because of "+words, func() error { return h.isRed(words) })
	h.t.Logf("not healthy after %v", took.Round(100*time.Millisecond))
}

func (h *hinderedWorker) isRed(words string) error {
	code, body := harness.Get(h.t, "http://"+h.worker.Addr()+"/health?verbose=1")
	if code != 503 || !strings.Contains(body, words) {
		return harness.NotYet(h.worker, "/health?verbose=1 answers %d %s, want 503 and %q", code, body, words)
	}
	return nil
}

// awaitGreen waits until the worker is healthy and runs a task.
func (h *hinderedWorker) awaitGreen() {
	h.t.Helper()
	took := harness.EventuallyWithin(h.t, greenWithin, "it is healthy again", func() error {
		if code, body := harness.Get(h.t, "http://"+h.worker.Addr()+"/health?verbose=1"); code != 200 {
			return harness.NotYet(h.worker, "/health?verbose=1 answers %d %s, want 200", code, body)
		}
		return nil
	})
	h.t.Logf("healthy again after %v", took.Round(100*time.Millisecond))
	h.queue.Result(h.queue.Enqueue("echo", 2))
}

// Each way in which Redis answers a PING and lets nobody work, found by a worker that has nothing to do.
func TestIdleWorkerSeesThatRedisRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		refuse, allow, words string
	}{
		"a replica":               {"REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "READONLY"},
		"no memory":               {"CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OOM"},
		"no right to run scripts": {"ACL SETUSER worker -evalsha", "ACL SETUSER worker +evalsha", "NOPERM"},
		"too few replicas":        {"CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", "NOREPLICAS"},
		"writes are paused":       {"CLIENT PAUSE 600000 WRITE", "CLIENT UNPAUSE", "does not answer"},
		"no heartbeat": {
			"ACL SETUSER worker resetkeys ~asynq:{* ~runqy:* ~asynq:t:* ~asynq:result:*", "ACL SETUSER worker allkeys",
			"Redis refuses the heartbeat",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHinderedWorker(t)
			h.do(test.refuse)
			h.awaitRed(test.words)
			harness.Consistently(t, 3*time.Second, func() error { return h.isRed(test.words) })
			h.worker.AwaitAnswer("/readyz", 503, "")
			h.worker.AwaitMetric("runqy_worker_healthy", "0")
			if out := h.worker.Command("healthcheck"); out.Code != 1 || !strings.Contains(out.Out, test.words) {
				t.Errorf("healthcheck: %+v, want exit code 1 and %q", out, test.words)
			}
			h.do(test.allow)
			h.awaitGreen()
			h.queue.AwaitHeartbeat(h.worker.ID, "healthy=true", "reason=")
			h.worker.Stop()
		})
	}
}

func TestIdleWorkerSeesABusyScript(t *testing.T) {
	t.Parallel()
	h := startHinderedWorker(t)
	h.do("CONFIG SET lua-time-limit 1000")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = h.admin.Eval(t.Context(), "while true do end", nil).Err() // it is killed
	}()
	h.awaitRed("BUSY")
	h.do("SCRIPT KILL")
	<-ended
	h.awaitGreen()
	h.worker.Stop()
}

func TestIdleWorkerSeesAFrozenRedis(t *testing.T) {
	t.Parallel()
	h := startHinderedWorker(t)
	h.server.Freeze()
	defer h.server.Thaw()
	h.awaitRed("does not answer")
	h.server.Thaw()
	h.awaitGreen()
	h.worker.Stop()
}

// A snapshot that cannot be written makes Redis refuse every write.
func TestIdleWorkerSeesAFailedSnapshot(t *testing.T) {
	t.Parallel()
	h := startHinderedWorker(t)
	dir := h.admin.ConfigGet(t.Context(), "dir").Val()["dir"]
	obstacle := filepath.Join(dir, h.admin.ConfigGet(t.Context(), "dbfilename").Val()["dbfilename"])
	if err := os.MkdirAll(filepath.Join(obstacle, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(obstacle) })
	h.do("CONFIG SET save 3600_1000000")
	h.do("BGSAVE")
	h.awaitRed("MISCONF")
	h.do("CONFIG SET stop-writes-on-bgsave-error no")
	h.awaitGreen()
	h.worker.Stop()
}

// Cycles are answered, and end with an error once tasks are to be taken. Only a task that is taken shows that it is over.
func TestTakesThatAreRefused(t *testing.T) {
	t.Parallel()
	h := startHinderedWorker(t)
	h.do("ACL SETUSER worker -lrange")
	var tasks []string
	for n := range 5 {
		tasks = append(tasks, h.queue.Enqueue("echo", n))
	}
	h.awaitRed("Redis refuses to hand out the tasks of queue " + harness.QueueName)
	h.do("ACL SETUSER worker +lrange")
	for n, id := range tasks {
		if got := h.queue.Result(id); got != fmt.Sprint(n) {
			t.Errorf("task %d has the result %s", n, got)
		}
	}
	h.awaitGreen()
	h.worker.Stop()
}

// Cycles are answered, tasks wait beside a free slot, and none comes: nothing refuses anything.
func TestNothingIsTaken(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.StartProxy(t, server.Addr)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, proxy.URL, harness.Settings{"health.consume_timeout": "3s"})
	w.AwaitAnswer("/health", 200, harness.HealthyBody)
	h := &hinderedWorker{t: t, server: server, queue: q, worker: w}
	q.Result(q.Enqueue("echo", 1))
	// How many tasks a cycle may take stands behind the worker's id; it is to take none.
	takes := regexp.MustCompile(fmt.Sprintf(`\$%d\r\n%s\r\n\$\d+\r\n(\d+)\r\n`, len(w.ID), regexp.QuoteMeta(w.ID)))
	proxy.Rewrite(func(raw []byte) {
		if at := takes.FindSubmatchIndex(raw); at != nil {
			copy(raw[at[2]:at[3]], strings.Repeat("0", at[3]-at[2]))
		}
	})
	var tasks []string
	for n := range 5 {
		tasks = append(tasks, q.Enqueue("echo", n))
	}
	h.awaitRed("Tasks wait in queue " + harness.QueueName + " and a slot is free, but for 3s none could be taken")
	w.AwaitMetric("runqy_worker_healthy", "0")
	w.AwaitAnswer("/readyz", 503, "")
	proxy.Rewrite(nil)
	for n, id := range tasks {
		if got := q.Result(id); got != fmt.Sprint(n) {
			t.Errorf("task %d has the result %s", n, got)
		}
	}
	h.awaitGreen()
	w.Stop()
}

// Tasks can be taken, and what becomes of them cannot be written.
func TestOutcomesThatAreRefused(t *testing.T) {
	t.Parallel()
	h := startHinderedWorker(t)
	h.do("ACL SETUSER worker resetkeys ~asynq:{* ~asynq:workers:* ~runqy:* ~asynq:t:*")
	task := h.queue.Enqueue("echo", 7)
	h.awaitRed("Redis refuses the outcomes of queue " + harness.QueueName)
	h.do("ACL SETUSER worker allkeys")
	if got := h.queue.Result(task); got != "7" {
		t.Errorf("the task has the result %s, want 7", got)
	}
	h.awaitGreen()
	h.worker.Stop()
}

// Two seconds for each command are slow, and the tasks run.
func TestSlowRedisIsNotUnhealthy(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.StartProxy(t, server.Addr)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, proxy.URL, harness.Settings{"heartbeat.interval": "5s", "heartbeat.ttl": "15s"})
	w.AwaitAnswer("/health", 200, harness.HealthyBody)
	q.Result(q.Enqueue("echo", 1))
	proxy.Delay(2 * time.Second)
	task := ""
	harness.Consistently(t, 20*time.Second, func() error {
		if task == "" {
			task = q.Enqueue("echo", 2)
		}
		if code, body := harness.Get(t, "http://"+w.Addr()+"/health?verbose=1"); code != 200 {
			return harness.NotYet(w, "/health?verbose=1 answers %d %s, want 200", code, body)
		}
		return nil
	})
	q.Result(task)
	q.AwaitHeartbeat(w.ID, "healthy=true")
	proxy.Delay(0)
	w.Stop()
}
