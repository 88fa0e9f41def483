package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/control"
	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/internal/sdk"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/queue"
)

const (
	testQueue   = "inference_default"
	testTimeout = 60 * time.Second // for what should happen: the machine may be loaded
)

// tasks is a Python file with a handler for each thing that a test wants to happen.
const tasks = `
import os, time
from runqy import run, task

@task("echo")
def echo(payload):
    return payload

@task("die")
def die(payload):
    os._exit(3)

@task("sleep")
def sleep(payload):
    open(payload, "w").close()
    time.sleep(600)

if __name__ == "__main__":
    run()
`

// testConfig is a worker's with Python tasks, on ports and a socket of its own.
func testConfig(t *testing.T, redisURL string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "main.py"), tasks)
	cfg := config.Default()
	cfg.Redis.URL = redisURL
	cfg.Worker.ID = "worker-abc123"
	cfg.Python.Dir = dir
	cfg.Health.Listen = "127.0.0.1:0"
	cfg.Health.Socket = filepath.Join(dir, "s")
	cfg.Heartbeat.Interval, cfg.Heartbeat.TTL = 500*time.Millisecond, 2*time.Second
	cfg.Fleet.Enabled = false
	return cfg
}

func testOptions(t *testing.T, cfg *config.Config) Options {
	t.Helper()
	sdkDir, err := sdk.Extract(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	return Options{Config: cfg, Version: "test", SDK: sdkDir, Environ: []string{"PATH=" + os.Getenv("PATH")}, Logger: log}
}

// running is a worker that runs, and what a test needs around it.
type running struct {
	*Worker
	t    *testing.T
	stop context.CancelFunc
	done chan error // Run's, once
	over bool
}

func run(t *testing.T, cfg *config.Config) *running {
	t.Helper()
	return runWith(t, testOptions(t, cfg))
}

func runWith(t *testing.T, opts Options) *running {
	t.Helper()
	w, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Worker: w, t: t, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if !r.over {
			w.Abort()
			_ = r.ended()
		}
	})
	return r
}

// ended waits for Run to return.
func (r *running) ended() error {
	r.t.Helper()
	r.over = true
	select {
	case err := <-r.done:
		return err
	case <-time.After(testTimeout):
		r.t.Fatal("Run has not returned in time")
		return nil
	}
}

// get returns the status of a probe.
func (r *running) get(path string) int {
	r.t.Helper()
	client := http.Client{Timeout: testTimeout}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://" + r.Addr().String() + path)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func (r *running) eventuallyReady() {
	r.t.Helper()
	eventually(r.t, func() string {
		if code := r.get("/readyz"); code != http.StatusOK {
			return fmt.Sprintf("/readyz answers %d", code)
		}
		return ""
	})
}

// eventually waits until check returns the empty string, which says what is still missing.
func eventually(t *testing.T, check func() string) {
	t.Helper()
	deadline := time.Now().Add(testTimeout)
	for {
		missing := check()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(missing)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func enqueue(t *testing.T, client redis.UniversalClient, kind, id, payload string, opts ...asynq.Option) {
	t.Helper()
	opts = append(opts, asynq.Queue(testQueue), asynq.TaskID(id))
	if _, err := asynq.NewClientFromRedisClient(client).Enqueue(asynq.NewTask(kind, []byte(payload)), opts...); err != nil {
		t.Fatal(err)
	}
}

func eventuallyResult(t *testing.T, client redis.UniversalClient, id, want string) {
	t.Helper()
	eventually(t, func() string {
		if got := client.Get(t.Context(), queue.ResultKey(id)).Val(); got != want {
			return fmt.Sprintf("the result of %s is %q, want %q", id, got, want)
		}
		return ""
	})
}

func taskInfo(t *testing.T, client redis.UniversalClient, id string) *asynq.TaskInfo {
	t.Helper()
	info, err := asynq.NewInspectorFromRedisClient(client).GetTaskInfo(testQueue, id)
	if err != nil {
		return &asynq.TaskInfo{}
	}
	return info
}

// A Redis that does not answer and the end of the Python process are waited for at the same time.
func TestStopEndsPythonWhileRedisDoesNotAnswer(t *testing.T) {
	server := redistest.Start(t)
	w := run(t, testConfig(t, server.URL))
	w.eventuallyReady()
	server.Freeze()
	w.stop()
	eventually(t, func() string {
		if pid := w.supervisor.Snapshot().PID; pid != 0 {
			return fmt.Sprintf("the Python process (pid %d) runs", pid)
		}
		return ""
	})
	if len(w.done) > 0 {
		t.Error("Run has returned before the process was seen to end, so Redis was waited for first")
	}
	server.Thaw()
	if err := w.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestNewThatFailsLeavesNothingOpen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	redisAddr := fmt.Sprint("127.0.0.1:", redistest.FreePort(t))
	cfg := testConfig(t, "embedded://"+redisAddr)
	cfg.Health.Listen = taken.Addr().String()
	cfg.Health.DatabaseURL = "postgres://u:db-s3cret@127.0.0.1:1/app"
	if _, err = New(testOptions(t, cfg)); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Fatalf("error %v, want one that names %s", err, taken.Addr())
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error shows a password: %v", err)
	}
	l, err := net.Listen("tcp", redisAddr)
	if err != nil {
		t.Fatalf("the embedded Redis was left open: %v", err)
	}
	_ = l.Close()
}

func TestRunWithAnEmbeddedRedis(t *testing.T) {
	w := run(t, testConfig(t, "embedded://"))
	client := redis.NewClient(&redis.Options{Addr: strings.TrimPrefix(w.target.String(), "embedded://")})
	defer func() { _ = client.Close() }()
	enqueue(t, client, "echo", "e1", `{"n":1}`)
	eventuallyResult(t, client, "e1", `{"n":1}`)
	w.eventuallyReady()
	for path, want := range map[string]int{"/livez": 200, "/health": 200, "/metrics": 200, "/health/v2/queues": 200} {
		if code := w.get(path); code != want {
			t.Errorf("%s answers %d, want %d", path, code, want)
		}
	}
	eventually(t, func() string {
		if view := client.HGetAll(t.Context(), queue.ViewKey("e1")).Val(); view["state"] != "completed" || view["worker"] != "worker-abc123" {
			return fmt.Sprintf("the view of e1 is %v", view)
		}
		return ""
	})
	w.stop()
	if err := w.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestRunWaitsForARedisThatComesLater(t *testing.T) {
	server := redistest.Start(t)
	server.Kill()
	w := run(t, testConfig(t, server.URL))
	for path, want := range map[string]int{"/livez": 200, "/readyz": 503, "/health": 503} {
		if code := w.get(path); code != want {
			t.Errorf("without Redis %s answers %d, want %d", path, code, want)
		}
	}
	server.Restart()
	enqueue(t, server.Client, "echo", "late", `"late"`)
	eventuallyResult(t, server.Client, "late", `"late"`)
	w.stop()
	if err := w.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if n := server.Client.Exists(t.Context(), heartbeat.Key("worker-abc123")).Val(); n != 0 {
		t.Error("the heartbeat is left after a clean stop")
	}
}

func TestStopWhileRedisIsAbsent(t *testing.T) {
	server := redistest.Start(t)
	server.Kill()
	w := run(t, testConfig(t, server.URL))
	eventually(t, func() string {
		if reason := w.monitor.report().Reason().Summary; !strings.Contains(reason, "waiting for Redis") {
			return "the reason is " + reason
		}
		return ""
	})
	w.stop()
	if err := w.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestCrashDegradesAndARestartHeals(t *testing.T) {
	server := redistest.Start(t)
	w := run(t, testConfig(t, server.URL))
	w.eventuallyReady()
	enqueue(t, server.Client, "die", "d1", `null`, asynq.MaxRetry(3))
	eventually(t, func() string {
		beat := server.Client.HGetAll(t.Context(), heartbeat.Key("worker-abc123")).Val()
		if beat["healthy"] != "false" || beat["status"] != string(status.Degraded) || beat["crashes"] != "1" {
			return fmt.Sprintf("the heartbeat is %v, want degraded after one crash", beat)
		}
		return ""
	})
	eventually(t, func() string {
		if info := taskInfo(t, server.Client, "d1"); info.State != asynq.TaskStateRetry || !strings.Contains(info.LastErr, "status 3") {
			return fmt.Sprintf("the task is %s with %q", info.State, info.LastErr)
		}
		return ""
	})
	if code := w.get("/health"); code != http.StatusServiceUnavailable {
		t.Errorf("/health answers %d", code)
	}
	enqueue(t, server.Client, "echo", "waits", `1`)
	if err := w.RestartProcess(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventuallyResult(t, server.Client, "waits", `1`)

	// The same through Redis.
	before := w.supervisor.Snapshot().PID
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	pid, err := control.RestartProcess(ctx, server.Client, "worker-abc123")
	if err != nil || pid == before || pid != w.supervisor.Snapshot().PID {
		t.Errorf("restarted: pid %d, was %d, is %d; %v", pid, before, w.supervisor.Snapshot().PID, err)
	}
	if _, err := control.RestartProcess(ctx, server.Client, "worker-unknown"); !errors.Is(err, control.ErrUnknown) {
		t.Errorf("a restart of an unknown worker: error %v, want ErrUnknown", err)
	}
}

func TestCrashUnderExitEndsRun(t *testing.T) {
	server := redistest.Start(t)
	cfg := testConfig(t, server.URL)
	cfg.Python.OnCrash = "exit"
	w := run(t, cfg)
	enqueue(t, server.Client, "die", "d1", `null`, asynq.MaxRetry(3))
	if err := w.ended(); !errors.Is(err, ErrCrashed) {
		t.Errorf("Run: %v", err)
	}
	if info := taskInfo(t, server.Client, "d1"); info.State != asynq.TaskStateRetry {
		t.Errorf("the task is %s with %q", info.State, info.LastErr)
	}
}

func TestAbortEndsADrain(t *testing.T) {
	server := redistest.Start(t)
	cfg := testConfig(t, server.URL)
	cfg.Worker.ShutdownTimeout = time.Hour
	w := run(t, cfg)
	begun := filepath.Join(t.TempDir(), "begun")
	enqueue(t, server.Client, "sleep", "s1", fmt.Sprintf("%q", begun), asynq.MaxRetry(0))
	eventually(t, func() string {
		if found, _ := filepath.Glob(begun); len(found) == 0 {
			return "the task does not begin"
		}
		return ""
	})
	w.stop()
	eventually(t, func() string {
		if got := w.monitor.report().Status; got != status.Draining {
			return "the worker is " + string(got)
		}
		return ""
	})
	select {
	case err := <-w.done:
		t.Fatalf("Run returned before the task ended: %v", err)
	default:
	}
	w.Abort()
	w.Abort()
	if err := w.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if info := taskInfo(t, server.Client, "s1"); info.State != asynq.TaskStatePending || info.Retried != 0 {
		t.Errorf("the task is %s, retried %d times, with %q", info.State, info.Retried, info.LastErr)
	}
}

func TestSecondWorkerWithTheSameIDIsRefused(t *testing.T) {
	server := redistest.Start(t)
	first := run(t, testConfig(t, server.URL))
	first.eventuallyReady()
	second := run(t, testConfig(t, server.URL))
	var live *heartbeat.LiveError
	if err := second.ended(); !errors.As(err, &live) {
		t.Errorf("the second one's Run: %v", err)
	}
	first.eventuallyReady()
}

func TestWorkerWhoseIDIsTakenOverStops(t *testing.T) {
	server := redistest.Start(t)
	w := run(t, testConfig(t, server.URL))
	w.eventuallyReady()
	server.Client.HSet(t.Context(), heartbeat.Key("worker-abc123"), "nonce", "another")
	if err := w.ended(); !errors.Is(err, heartbeat.ErrTakenOver) {
		t.Errorf("Run: %v", err)
	}
	if n := server.Client.Exists(t.Context(), heartbeat.Key("worker-abc123")).Val(); n != 1 {
		t.Error("the successor's heartbeat was deleted")
	}
}
