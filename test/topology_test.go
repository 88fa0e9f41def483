package test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
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
			q := newQueueUser(t, client)
			w := startWorker(t, url, nil)
			q.pythonPID(w.ID)
			out := w.command("enqueue", queueName, "echo", `{"from": "`+name+`"}`, "--wait")
			if out.Code != 0 || strings.TrimSpace(out.Out) != `{"from":"`+name+`"}` {
				t.Errorf("enqueue --wait: %+v", out)
			}
			// The cluster has one node, so plain asynq, which keeps to one slot, can look at it too.
			id := q.enqueue("echo", 7)
			if got := q.result(id); got != "7" {
				t.Errorf("result %s", got)
			}
			kill(t, q.pythonPID(w.ID), syscall.SIGKILL)
			q.beats(w.ID, "status=degraded")
			if out := w.command("restart", w.ID); out.Code != 0 {
				t.Errorf("restart: %+v", out)
			}
			q.result(q.enqueue("echo", 8))
			w.metric("runqy_worker_healthy", "1")
			if code, body := get(t, "http://"+w.Addr()+"/health/v2/queues"); code != 200 || !strings.Contains(body, `"broker":"connected"`) {
				t.Errorf("/health/v2/queues: %d %s", code, body)
			}
			if out := w.command("workers"); out.Code != 0 || !strings.Contains(out.Out, w.ID) {
				t.Errorf("workers: %+v", out)
			}
			if name == "cluster" {
				if w.Log.find("list views unavailable") == nil {
					t.Error("nothing is said about the missing views")
				}
				if n := client.Exists(t.Context(), "asynq:"+queueName+":pending").Val(); n != 0 {
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
	port := freePort(t)
	w := startWorker(t, "embedded://127.0.0.1:"+port, nil)
	eventually(t, "it is said that nothing is durable", func() error {
		line := w.Log.find("nothing is durable")
		if line == nil || line["level"] != "WARN" {
			return fatalUntil(w, "%s", w.Log)
		}
		return nil
	})
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port})
	defer client.Close()
	q := newQueueUser(t, client)
	q.pythonPID(w.ID)
	if got := q.result(q.enqueue("echo", "embedded")); got != `"embedded"` {
		t.Errorf("result %s", got)
	}
	out := w.command("enqueue", queueName, "echo", `1`, "--wait", "--redis", "redis://127.0.0.1:"+port)
	if out.Code != 0 || strings.TrimSpace(out.Out) != "1" {
		t.Errorf("enqueue: %+v", out)
	}
	task := q.enqueue("later", map[string]any{"delay": 1}, asynq.MaxRetry(1))
	if got := q.result(task); got != `"now"` { // time passes in it
		t.Errorf("result %s", got)
	}
	w.Stop()
}
