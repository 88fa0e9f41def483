package worker

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/internal/status"
)

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// until polls until ok answers true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// settings are a whole configuration for a Redis, with a port and a socket of its own.
func settings(t *testing.T, url string) *config.Config {
	t.Helper()
	cfg, _, err := config.Load(config.Options{Env: []string{
		"RUNQY_REDIS_URL=" + url, "RUNQY_WORKER_ID=w", "RUNQY_QUEUES=own", "RUNQY_HEALTH_LISTEN=127.0.0.1:0",
		"RUNQY_HEALTH_SOCKET=" + filepath.Join(t.TempDir(), "s"), "RUNQY_FLEET_INTERVAL=100ms",
	}})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func fetch(t *testing.T, url string) (code int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// holdTask makes a task active with the stamp of an owner, as a dequeue leaves it.
func holdTask(t *testing.T, client *redis.Client, queue, id, owner string) {
	t.Helper()
	ctx := t.Context()
	if _, err := asynq.NewClientFromRedisClient(client).Enqueue(asynq.NewTask("t", nil), asynq.Queue(queue), asynq.TaskID(id)); err != nil {
		t.Fatal(err)
	}
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		prefix := "asynq:{" + queue + "}:"
		p.LMove(ctx, prefix+"pending", prefix+"active", "RIGHT", "LEFT")
		p.HSet(ctx, prefix+"t:"+id, "state", "active", "owner", owner, "since", time.Now().UnixNano())
		p.ZAdd(ctx, prefix+"lease", redis.Z{Score: float64(time.Now().Add(time.Minute).Unix()), Member: id})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The checker without a worker around it recovers the tasks of the last worker there was, and goes on reporting its
// queue.
func TestCheckerProcess(t *testing.T) {
	s := redistest.Start(t)
	ctx := t.Context()
	c, err := NewCheckerProcess(CheckerProcessOptions{Config: settings(t, s.URL), Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + c.Addr().String()
	dead := heartbeat.NewWriter(s.Client, heartbeat.Options{
		ID: "dead", Interval: 100 * time.Millisecond, TTL: time.Hour, Identity: heartbeat.Identity{Nonce: "n"}, Logger: silent(),
		Source: func() heartbeat.Beat {
			return heartbeat.Beat{
				Status: status.Running, State: status.Free, Queues: []string{"theirs"},
				Address: fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t)),
			}
		},
	})
	if err := dead.Register(ctx); err != nil {
		t.Fatal(err)
	}
	holdTask(t, s.Client, "theirs", "task", "dead|n|1")

	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(running) }()
	for _, line := range []string{
		`runqy_queue_pending_tasks{queue="theirs"} 1`, `runqy_queue_pending_tasks{queue="own"} 0`, "runqy_fleet_checker 1",
		`runqy_fleet_workers{state="DEAD"} 0`, `runqy_fleet_dead_total{reason="refused"} 1`,
		`runqy_tasks_recovered_total{queue="theirs",reason="dead"} 1`, "process_cpu_seconds_total",
	} {
		until(t, line, func() bool {
			_, body := fetch(t, base+"/metrics")
			return strings.Contains(body, "\n"+line)
		})
	}
	for path, want := range map[string]string{
		"/health": `{"status":"HEALTHY"}`, "/readyz": `{"status":"READY"}`, "/livez": `{"status":"LIVE"}`, "/health/v2/queues": `"theirs":{`,
	} {
		if code, body := fetch(t, base+path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s answers %d %s, want 200 with %s", path, code, body, want)
		}
	}
	s.Kill()
	until(t, "it is unhealthy without Redis", func() bool { code, _ := fetch(t, base+"/health"); return code == http.StatusServiceUnavailable })
	s.Restart()
	until(t, "it is healthy again", func() bool { code, _ := fetch(t, base+"/health"); return code == http.StatusOK })
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run returned %v, want nil", err)
	}
}

// The checker is healthy while its own work gets through, as the leader and as a candidate, and not while a PING would.
func TestCheckerHealthIsAReceiptOfItsWork(t *testing.T) {
	t.Parallel()
	for name, leads := range map[string]bool{"leader": true, "candidate": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			ctx := t.Context()
			if !leads {
				if err := s.Client.Set(ctx, fleet.LeaderKey, "another|n", time.Hour).Err(); err != nil {
					t.Fatal(err)
				}
			}
			c, err := NewCheckerProcess(CheckerProcessOptions{Config: settings(t, s.URL), Logger: silent()})
			if err != nil {
				t.Fatal(err)
			}
			running, stop := context.WithCancel(ctx)
			done := make(chan error, 1)
			go func() { done <- c.Run(running) }()
			healthy := func(want bool) func() bool {
				return func() bool { return c.reporter.Report().Healthy == want }
			}
			until(t, "healthy at first", healthy(true))
			if leads {
				until(t, "it leads", func() bool { return c.fleet.service.States() != nil })
			}
			for _, fault := range []struct {
				inject, cure []any
				words        string
			}{
				{[]any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}, "READONLY"},
				{[]any{"ACL", "SETUSER", "default", "-evalsha"}, []any{"ACL", "SETUSER", "default", "+evalsha"}, "NOPERM"},
				{[]any{"CONFIG", "SET", "maxmemory", "1"}, []any{"CONFIG", "SET", "maxmemory", "0"}, "OOM"},
				{[]any{"CLIENT", "PAUSE", "600000", "WRITE"}, []any{"CLIENT", "UNPAUSE"}, "does not answer"},
			} {
				if err := s.Client.Do(ctx, fault.inject...).Err(); err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				until(t, fault.words+" makes it unhealthy", healthy(false))
				if took := time.Since(begun); took > 10*time.Second {
					t.Errorf("%s: unhealthy after %s, want 10s at most", fault.words, took)
				}
				if h := c.reporter.Report(); h.Broker != status.Unhealthy || !strings.Contains(h.Reason().Summary, fault.words) {
					t.Errorf("%s: the health is %+v", fault.words, h.Health)
				}
				if err := s.Client.Do(ctx, fault.cure...).Err(); err != nil {
					t.Fatal(err)
				}
				until(t, "healthy after "+fault.words, healthy(true))
			}
			stop()
			if err := <-done; err != nil {
				t.Errorf("Run returned %v, want nil", err)
			}
		})
	}
}

func TestCheckerProcessRefusesWhatCannotWork(t *testing.T) {
	s := redistest.Start(t)
	missing := filepath.Join(t.TempDir(), "missing")
	for want, change := range map[string]func(*config.Config){
		"embedded://":       func(c *config.Config) { c.Redis.URL = "embedded://" },
		missing:             func(c *config.Config) { c.Fleet.Client.CAFile = missing },
		"health.listen":     func(c *config.Config) { c.Health.Listen = s.Addr },
		"health.web_config": func(c *config.Config) { c.Health.WebConfig = missing },
	} {
		cfg := settings(t, s.URL)
		change(cfg)
		if _, err := NewCheckerProcess(CheckerProcessOptions{Config: cfg, Logger: silent()}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewCheckerProcess returns %v, want an error with %q", err, want)
		}
	}
}

// builtWorker is a worker that was built and does not run, and its Redis.
func builtWorker(t *testing.T) (*redistest.Server, *Worker) {
	t.Helper()
	s := redistest.Start(t)
	w, err := New(Options{Config: settings(t, s.URL), Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.closeClients)
	t.Cleanup(func() { _ = w.server.Close() })
	return s, w
}

// A worker recovers what earlier processes with its id held, in its own queues, and nobody else's tasks.
func TestASuccessorRecoversItsPredecessorsTasks(t *testing.T) {
	s, w := builtWorker(t)
	holdTask(t, s.Client, "own", "predecessors", "w|old|7")
	holdTask(t, s.Client, "own", "mine", "w|"+w.identity.Nonce+"|1")
	holdTask(t, s.Client, "own", "others", "v|x|1")
	if err := w.recoverPredecessors(t.Context()); err != nil {
		t.Fatal(err)
	}
	pending := s.Client.LRange(t.Context(), "asynq:{own}:pending", 0, -1).Val()
	if active := s.Client.LLen(t.Context(), "asynq:{own}:active").Val(); len(pending) != 1 || pending[0] != "predecessors" || active != 2 {
		t.Errorf("pending tasks %q and %d active ones, want predecessors alone and 2", pending, active)
	}
}

// Nobody else may see the death of a process whose successor on the same host takes over at once.
func TestASuccessorRecordsItsPredecessorsDeath(t *testing.T) {
	s, w := builtWorker(t)
	gone := w.identity
	gone.Nonce, gone.PIDStart = "old", gone.PIDStart+1 // another process had this one's number
	predecessor := heartbeat.NewWriter(s.Client, heartbeat.Options{
		ID: "w", Identity: gone, Logger: silent(),
		Source: func() heartbeat.Beat { return heartbeat.Beat{Status: status.Running, Queues: []string{"own"}} },
	})
	if err := predecessor.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	holdTask(t, s.Client, "own", "its", "w|old|7")
	if err := w.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.recoverPredecessors(t.Context()); err != nil {
		t.Fatal(err)
	}
	deaths, err := w.fleet.store.Deaths(t.Context())
	if err != nil || len(deaths) != 1 || deaths[0].ID != "w" || deaths[0].Nonce != "old" || deaths[0].Cause != fleet.CauseProcessGone ||
		deaths[0].Tasks != 1 || deaths[0].Reason == "" {
		t.Errorf("deaths %+v, %v, want that of the predecessor with one task", deaths, err)
	}
	if err := w.recoverPredecessors(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again, err := w.fleet.store.Deaths(t.Context()); err != nil || len(again) != 1 || again[0].Tasks != 1 {
		t.Errorf("told twice: deaths %+v, %v", again, err)
	}
}

// While Redis is away the worker waits for it, and goes when it is told to.
func TestRecoveringWaitsForRedis(t *testing.T) {
	s, w := builtWorker(t)
	s.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := w.recoverPredecessors(ctx); err == nil {
		t.Error("recovery without Redis returns no error, want that of its context")
	}
}
