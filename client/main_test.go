package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/runqy/runqy-worker/client"
	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/sdk"
	"github.com/runqy/runqy-worker/internal/timer"
	"github.com/runqy/runqy-worker/internal/worker"
)

// timeout is how long a test waits for what should happen: the machine may be loaded.
const timeout = time.Minute

// tasks is what the workers of the tests and examples run.
const tasks = `
from runqy import Retry, progress, run, task

@task("greet")
def greet(payload):
    return "Hello, " + payload["name"]

@task("fail")
def fail(payload):
    raise ValueError("no paper")

@task("flaky")
def flaky(payload, ctx):
    if ctx.retry_count == 0:
        raise Retry("no paper yet", delay=0.1)
    return "printed"

if __name__ == "__main__":
    run()
`

// testWorker is a real worker, with its Python process, inside this process.
type testWorker struct {
	*worker.Worker
	dir    string
	cancel context.CancelFunc
	done   chan error // Run's error, once
}

// startWorker starts a worker of the queue inference_default. The caller stops it.
func startWorker(redisURL, id string) (*testWorker, error) {
	dir, err := os.MkdirTemp("", "client")
	if err != nil {
		return nil, err
	}
	sdk, err := sdk.Extract(dir)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "main.py"), []byte(tasks), 0o600); err != nil {
		return nil, err
	}
	cfg := config.Default()
	cfg.Redis.URL = redisURL
	cfg.Worker.ID = id
	cfg.Python.Dir = dir
	cfg.Health.Listen = "127.0.0.1:0"
	cfg.Health.Socket = filepath.Join(dir, "s")
	cfg.Heartbeat.Interval, cfg.Heartbeat.TTL = 500*time.Millisecond, 2*time.Second
	cfg.Fleet.Enabled = false
	w, err := worker.New(worker.Options{
		Config: cfg, Version: "1.0.0", SDK: sdk, Environ: []string{"PATH=" + os.Getenv("PATH")}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &testWorker{Worker: w, dir: dir, cancel: cancel, done: make(chan error, 1)}
	go func() { t.done <- w.Run(ctx) }() // ends with stop
	return t, nil
}

// stop drains the worker and waits for its end. It may be called again.
func (t *testWorker) stop() error {
	t.cancel()
	select {
	case err := <-t.done:
		t.done <- nil
		return errors.Join(err, os.RemoveAll(t.dir))
	case <-time.After(timeout):
		return errors.New("the worker does not end")
	}
}

// until asks for the workers again and again, until the one with the id is as it should be.
func until(ctx context.Context, c *client.Client, id string, as func(client.Worker) bool) (client.Worker, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("worker %s does not become what it should be", id))
	defer cancel()
	for {
		workers, err := c.Workers(ctx)
		if err != nil {
			return client.Worker{}, err
		}
		for _, w := range workers {
			if w.ID == id && as(w) {
				return w, nil
			}
		}
		if err := timer.Sleep(ctx, 20*time.Millisecond); err != nil {
			return client.Worker{}, fmt.Errorf("%w; the last list: %+v", err, workers)
		}
	}
}

func isFree(w client.Worker) bool { return w.State == client.Free }

// system is what the examples talk to: an embedded Redis and a worker.
type system struct {
	redis  *redisclient.Embedded
	worker *testWorker
}

// start is called once, by the first example.
var start = sync.OnceValues(func() (*system, error) {
	embedded, err := redisclient.StartEmbedded("")
	if err != nil {
		return nil, err
	}
	w, err := startWorker("redis://"+embedded.Addr(), "worker-1")
	if err != nil {
		embedded.Close()
		return nil, err
	}
	started = &system{redis: embedded, worker: w}
	return started, nil
})

var started *system // nil: no example has run

// startedRedis returns the URL of a Redis with one free worker, worker-1 of the queue inference_default.
func startedRedis() string {
	s, err := start()
	if err != nil {
		panic(err)
	}
	url := "redis://" + s.redis.Addr()
	c, err := client.New(url, client.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	if _, err := until(context.Background(), c, "worker-1", isFree); err != nil {
		panic(err)
	}
	return url
}

func TestMain(m *testing.M) {
	code := m.Run()
	if started != nil {
		err := started.worker.stop()
		started.redis.Close()
		if err != nil {
			fmt.Fprintln(os.Stderr, "stop the examples' worker:", err)
			code = 1
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
