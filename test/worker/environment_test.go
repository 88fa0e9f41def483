package worker

import (
	"net"
	"strings"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// A worker that is configured by its environment alone, as containers do it, and the healthcheck that finds it.
func TestConfiguredByEnvironment(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.NewWorker(t, server.URL, nil)
	port := harness.FreePort(t)
	env := []string{
		"RUNQY_REDIS_URL=" + server.URL, "RUNQY_QUEUES=" + harness.QueueName + ",other", "RUNQY_CONCURRENCY=2",
		"RUNQY_SHUTDOWN_TIMEOUT=5s", "RUNQY_WORKER_HEALTHCHECK_PORT=" + port, "ENVIRONMENT=staging",
		"RUNQY_WORKER_HEALTHCHECK_EVENT_LOOP_BLOCK_THRESHOLD_SECONDS=7", "RUNQY_WORKER_ID=worker-env",
		"RUNQY_PYTHON_COMMAND=python3 " + harness.TaskFile(t, "sync.py"), "RUNQY_HEARTBEAT_INTERVAL=1s", "RUNQY_HEARTBEAT_TTL=3s",
		"RUNQY_SERVICE_PORT_8001_TCP=tcp://10.0.0.1:8001", "XDG_RUNTIME_DIR=" + w.Dir, "RUNTIME_DIRECTORY=",
	}
	w.ID, w.ExtraEnv = "worker-env", env
	w.Start("run")
	q.PythonPID(w.ID)
	wantFields(t, "heartbeat", q.Heartbeat(w.ID), map[string]string{
		"queue": harness.QueueName + ",other", "concurrency": "2", "environment": "staging",
	})
	if _, bound, err := net.SplitHostPort(w.Addr()); err != nil || bound != port {
		t.Errorf("it listens on %s, want port %s", w.Addr(), port)
	}
	if w.Log.Find("configuration warning") == nil || !strings.Contains(w.Log.String(), "RUNQY_SERVICE_PORT_8001_TCP") {
		t.Error("the log has no configuration warning about RUNQY_SERVICE_PORT_8001_TCP, want one")
	}
	if got := q.Result(q.Enqueue("echo", 1, asynq.Queue("other"))); got != "1" {
		t.Errorf("result %s, want %s", got, "1")
	}
	run := func(args ...string) harness.Outcome {
		return harness.Execute(t, append(harness.Environ(), env...), harness.Program(), args...)
	}
	if out := run("healthcheck"); out.Code != 0 || !strings.Contains(out.Out, `"worker":"healthy"`) {
		t.Errorf("healthcheck: %+v, want exit code 0 and \"worker\":\"healthy\" on stdout", out)
	}
	if out := run("restart", "worker-env"); out.Code != 0 {
		t.Errorf("restart: %+v, want exit code 0", out)
	}
	w.Stop()
	if out := run("healthcheck"); out.Code != 1 {
		t.Errorf("healthcheck of nobody: %+v, want exit code 1", out)
	}
}

// The HTTP server can be switched off; the healthcheck then reads its heartbeat.
func TestHealthServerSwitchedOff(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.NewWorker(t, server.URL, nil)
	w.ExtraEnv = []string{"RUNQY_WORKER_HEALTHCHECK_ENABLED=false"}
	w.Start("run", "-c", w.Config)
	q.PythonPID(w.ID)
	if w.Log.Find("http server listening") != nil {
		t.Error("the HTTP server listens, want it switched off")
	}
	if out := w.Command("healthcheck"); out.Code != 0 {
		t.Errorf("healthcheck: %+v, want exit code 0", out)
	}
	w.Stop()
}
