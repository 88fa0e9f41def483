package worker

import (
	"strings"
	"syscall"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// Every kind of Redis that a URL can name processes a task, from the enqueue command to its result.
func TestKindsOfRedis(t *testing.T) {
	t.Parallel()
	// The URL for the worker, and a client of the server itself to look with.
	plain := func(s *redistest.Server) (string, *redis.Client) { return s.URL, s.Client }
	for name, start := range map[string]func(*testing.T) (string, *redis.Client){
		"standalone with a password": func(t *testing.T) (string, *redis.Client) {
			return plain(redistest.Start(t, "--requirepass", "s3cret"))
		},
		"TLS": func(t *testing.T) (string, *redis.Client) {
			return plain(redistest.StartTLS(t, "--requirepass", "s3cret"))
		},
		"unix socket": func(t *testing.T) (string, *redis.Client) { return plain(redistest.StartUnix(t)) },
		"cluster":     func(t *testing.T) (string, *redis.Client) { return plain(redistest.StartCluster(t)) },
		"sentinel": func(t *testing.T) (string, *redis.Client) {
			master := redistest.Start(t, "--requirepass", "s3cret")
			return redistest.StartSentinel(t, master).URL, master.Client
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, client := start(t)
			q := harness.NewQueue(t, client)
			w := harness.StartWorker(t, url, nil)
			q.PythonPID(w.ID)
			out := w.Command("enqueue", harness.QueueName, "echo", `{"from": "`+name+`"}`, "--wait")
			if out.Code != 0 || strings.TrimSpace(out.Out) != `{"from":"`+name+`"}` {
				t.Errorf("enqueue --wait: %+v, want exit code 0", out)
			}
			// The cluster has one node, so plain asynq, which keeps to one slot, can look at it too.
			id := q.Enqueue("echo", 7)
			if got := q.Result(id); got != "7" {
				t.Errorf("result %s, want %s", got, "7")
			}
			harness.Kill(t, q.PythonPID(w.ID), syscall.SIGKILL)
			q.AwaitHeartbeat(w.ID, "status=degraded")
			if out := w.Command("restart", w.ID); out.Code != 0 {
				t.Errorf("restart: %+v, want exit code 0", out)
			}
			q.Result(q.Enqueue("echo", 8))
			w.AwaitMetric("runqy_worker_healthy", "1")
			if code, body := harness.Get(t, "http://"+w.Addr()+"/health/v2/queues"); code != 200 || !strings.Contains(body, `"broker":"connected"`) {
				t.Errorf("/health/v2/queues answers %d %s, want 200 and a connected broker", code, body)
			}
			if out := w.Command("workers"); out.Code != 0 || !strings.Contains(out.Out, w.ID) {
				t.Errorf("workers: %+v, want exit code 0", out)
			}
			if name == "cluster" {
				if w.Log.Find("list views unavailable") == nil {
					t.Error("no log line about Redis Cluster, want one about the missing views")
				}
				if n := client.Exists(t.Context(), "asynq:"+harness.QueueName+":pending").Val(); n != 0 {
					t.Error("there is a plain list on a cluster")
				}
			}
			w.Stop()
			if strings.Contains(w.Log.String(), "s3cret") {
				t.Error("the log shows the password")
			}
		})
	}
}

// embedded:// is a Redis that others can talk to, and that says loudly how little it keeps.
func TestEmbeddedRedis(t *testing.T) {
	t.Parallel()
	port := harness.FreePort(t)
	w := harness.StartWorker(t, "embedded://127.0.0.1:"+port, nil)
	harness.Eventually(t, "the log warns of the embedded Redis", func() error {
		line := w.Log.Find("embedded redis started")
		if line == nil || line["level"] != "WARN" || line["durable"] != false {
			return harness.NotYet(w, "%s", w.Log)
		}
		return nil
	})
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port})
	defer client.Close()
	q := harness.NewQueue(t, client)
	q.PythonPID(w.ID)
	if got := q.Result(q.Enqueue("echo", "embedded")); got != `"embedded"` {
		t.Errorf("result %s, want %s", got, `"embedded"`)
	}
	out := w.Command("enqueue", harness.QueueName, "echo", `1`, "--wait", "--redis", "redis://127.0.0.1:"+port)
	if out.Code != 0 || strings.TrimSpace(out.Out) != "1" {
		t.Errorf("enqueue: %+v, want exit code 0", out)
	}
	task := q.Enqueue("later", map[string]any{"delay": 1}, asynq.MaxRetry(1))
	if got := q.Result(task); got != `"now"` { // time passes in it
		t.Errorf("result %s, want %s", got, `"now"`)
	}
	w.Stop()
}
