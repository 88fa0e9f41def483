package test

import (
	"net"
	"strings"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// A worker that is configured by its environment alone, as containers do it, and the healthcheck that finds it.
func TestConfiguredByEnvironment(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := newWorker(t, server.URL, nil)
	port := freePort(t)
	env := []string{
		"RUNQY_REDIS_URL=" + server.URL, "RUNQY_QUEUES=" + queueName + ",other", "RUNQY_CONCURRENCY=2",
		"RUNQY_SHUTDOWN_TIMEOUT=5s", "RUNQY_WORKER_HEALTHCHECK_PORT=" + port, "ENVIRONMENT=staging",
		"RUNQY_WORKER_HEALTHCHECK_EVENT_LOOP_BLOCK_THRESHOLD_SECONDS=7", "RUNQY_WORKER_ID=worker-env",
		"RUNQY_PYTHON_COMMAND=python3 " + taskFile(t, "sync.py"), "RUNQY_HEARTBEAT_INTERVAL=1s", "RUNQY_HEARTBEAT_TTL=3s",
		"RUNQY_SERVICE_PORT_8001_TCP=tcp://10.0.0.1:8001", "XDG_RUNTIME_DIR=" + w.Dir, "RUNTIME_DIRECTORY=",
	}
	w.ID, w.extraEnv = "worker-env", env
	w.start("run")
	q.pythonPID(w.ID)
	wantFields(t, "heartbeat", q.beat(w.ID), map[string]string{
		"queue": queueName + ",other", "concurrency": "2", "environment": "staging",
	})
	if _, bound, err := net.SplitHostPort(w.Addr()); err != nil || bound != port {
		t.Errorf("it listens on %s, want port %s", w.Addr(), port)
	}
	if w.Log.find("configuration warning") == nil || !strings.Contains(w.Log.String(), "RUNQY_SERVICE_PORT_8001_TCP") {
		t.Error("the log has no configuration warning about the unknown variable")
	}
	if got := q.result(q.enqueue("echo", 1, asynq.Queue("other"))); got != "1" {
		t.Errorf("result %s", got)
	}
	run := func(args ...string) outcome { return execute(t, append(environ(), env...), binary, args...) }
	if out := run("healthcheck"); out.Code != 0 || !strings.Contains(out.Out, `"worker":"healthy"`) {
		t.Errorf("healthcheck: %+v", out)
	}
	if out := run("restart", "worker-env"); out.Code != 0 {
		t.Errorf("restart: %+v", out)
	}
	w.Stop()
	if out := run("healthcheck"); out.Code != 1 {
		t.Errorf("healthcheck of nobody: %+v", out)
	}
}

// The HTTP server can be switched off; the worker is then judged by its heartbeat.
func TestHealthServerSwitchedOff(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := newWorker(t, server.URL, nil)
	w.extraEnv = []string{"RUNQY_WORKER_HEALTHCHECK_ENABLED=false"}
	w.start("run", "-c", w.Config)
	q.pythonPID(w.ID)
	if w.Log.find("http server listening") != nil {
		t.Error("it serves all the same")
	}
	if out := w.command("healthcheck"); out.Code != 0 {
		t.Errorf("healthcheck: %+v", out)
	}
	w.Stop()
}
