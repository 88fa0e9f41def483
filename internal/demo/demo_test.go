package demo

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/sdk"
	"github.com/runqy/runqy-worker/internal/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output may be read while the demo writes to it.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// options are those of a demo with real parts, whose files go below a directory of the test.
func options(t *testing.T, tasks int) (Options, *output) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		const message = "python3 is not on PATH; install it (Debian: apt-get install python3)"
		if os.Getenv("RUNQY_TEST_REQUIRE") == "1" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
	sdkDir, err := sdk.Extract(filepath.Join(t.TempDir(), "sdk"))
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: a unix socket below it has a short path only.
	temp, err := os.MkdirTemp("", "demotest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(temp) })
	t.Setenv("TMPDIR", temp)
	out := new(output)
	t.Cleanup(func() {
		if left, _ := filepath.Glob(filepath.Join(temp, "runqy-demo-*")); len(left) > 0 {
			t.Errorf("the demo left %v behind, want nothing", left)
		}
		if t.Failed() {
			t.Logf("output:\n%s", out)
		}
	})
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	return Options{
		Tasks: tasks, Limit: 2 * time.Minute, Listen: "127.0.0.1:0", Program: "runqy-worker", Environ: os.Environ(), Out: out,
		NewWorker: func(cfg *config.Config) (*worker.Worker, error) {
			return worker.New(worker.Options{Config: cfg, Version: "test", SDK: sdkDir, Environ: os.Environ(), Logger: log})
		},
		RunWorker: func(ctx context.Context, w *worker.Worker) error { return w.Run(ctx) },
	}, out
}

// start runs the demo; the channel has its error.
func start(t *testing.T, o Options) (<-chan error, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, o) }()
	t.Cleanup(cancel)
	return done, cancel
}

func await(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(3 * time.Minute):
		t.Fatal("the demo has not ended in time")
		return nil
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// sharedRedis stands for a Redis that others use too.
func sharedRedis(t *testing.T) (redisURL string, client *redis.Client) {
	t.Helper()
	server, err := redisclient.StartEmbedded("")
	if err != nil {
		t.Fatal(err)
	}
	client = redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return "redis://" + server.Addr(), client
}

// row is the table's numbers of one kind.
func row(t *testing.T, out, kind string) []string {
	t.Helper()
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 6 && fields[0] == kind {
			return fields[1:6]
		}
	}
	t.Fatalf("the output has no line for %s:\n%s", kind, out)
	return nil
}

func TestEveryTaskIsAccountedFor(t *testing.T) {
	o, out := options(t, 30)
	o.ExitWhenDone = true
	done, _ := start(t, o)
	if err := await(t, done); err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string][]string{ // expected, completed, retried, archived, lost
		fast: {"18", "18", "0", "0", "0"}, slow: {"6", "6", "0", "0", "0"}, retrying: {"3", "3", "3", "0", "0"},
		failing: {"3", "0", "0", "3", "0"}, "total": {"30", "27", "3", "3", "0"},
	} {
		if got := row(t, out.String(), kind); !slices.Equal(got, want) {
			t.Errorf("the row of %s tasks is %v, want %v", kind, got, want)
		}
	}
	if !strings.Contains(out.String(), "All 30 tasks are accounted for; 3 failed on purpose.") {
		t.Error("the summary of all tasks is missing")
	}
	if strings.Contains(out.String(), "\x1b[") {
		t.Error("the output has colours without a terminal")
	}
}

func TestALostTaskIsReported(t *testing.T) {
	o, out := options(t, 30)
	url, client := sharedRedis(t)
	ctx := t.Context()
	o.ExitWhenDone, o.RedisURL = true, url
	inspector := asynq.NewInspectorFromRedisClient(client)
	stranger := asynq.NewTask("fast", []byte(`{"n":1}`))
	info, err := asynq.NewClientFromRedisClient(client).EnqueueContext(ctx, stranger, asynq.Queue("other"), asynq.TaskID("not-ours"))
	if err != nil {
		t.Fatal(err)
	}
	if err := inspector.PauseQueue(ownQueue); err != nil { // so that none runs before one is taken away
		t.Fatal(err)
	}
	done, _ := start(t, o)
	pending := "asynq:{" + ownQueue + "}:pending"
	eventually(t, "30 tasks are enqueued", func() bool { return client.LLen(ctx, pending).Val() == 30 })
	var victim string
	for _, id := range client.LRange(ctx, pending, 0, -1).Val() {
		if strings.HasSuffix(id, "-fast-04") {
			victim = id
		}
	}
	if err := inspector.DeleteTask(ownQueue, victim); err != nil {
		t.Fatal(err)
	}
	if err := inspector.UnpauseQueue(ownQueue); err != nil {
		t.Fatal(err)
	}

	err = await(t, done)
	var unaccounted *UnaccountedError
	if !errors.As(err, &unaccounted) || !slices.Equal(unaccounted.IDs, []string{victim}) || unaccounted.Total != 30 ||
		!strings.Contains(err.Error(), "1 of 30 tasks did not end as expected: "+victim) {
		t.Fatalf("error %v, want an UnaccountedError for %s", err, victim)
	}
	if got := row(t, out.String(), fast); !slices.Equal(got, []string{"18", "17", "0", "0", "1"}) {
		t.Errorf("the row of fast tasks is %v, want one lost", got)
	}
	if !regexp.MustCompile(victim + ` +gone without a result\n`).MatchString(out.String()) {
		t.Errorf("the output does not say what became of %s", victim)
	}
	// The demo removed its own tasks, and nothing else.
	for _, state := range []string{"pending", "active"} {
		if n := client.LLen(ctx, "asynq:{"+ownQueue+"}:"+state).Val(); n != 0 {
			t.Errorf("%d tasks are still %s", n, state)
		}
	}
	for _, state := range []string{"retry", "archived"} {
		if n := client.ZCard(ctx, "asynq:{"+ownQueue+"}:"+state).Val(); n != 0 {
			t.Errorf("%d tasks are still %s", n, state)
		}
	}
	if _, err := inspector.GetTaskInfo("other", info.ID); err != nil {
		t.Errorf("the task of another user is gone: %v", err)
	}
}

func TestTheLimitNamesWhatIsLeft(t *testing.T) {
	o, out := options(t, 5)
	url, client := sharedRedis(t)
	o.ExitWhenDone, o.RedisURL, o.Limit = true, url, 300*time.Millisecond
	if err := asynq.NewInspectorFromRedisClient(client).PauseQueue(ownQueue); err != nil {
		t.Fatal(err)
	}
	done, _ := start(t, o)
	err := await(t, done)
	var unaccounted *UnaccountedError
	if !errors.As(err, &unaccounted) || len(unaccounted.IDs) != 5 || !strings.Contains(err.Error(), "not every task was done within 300ms") {
		t.Errorf("error %v, want an UnaccountedError of 5 tasks that names the limit", err)
	}
	if !regexp.MustCompile(`demo-\w+-slow-01 +(pending|not enqueued)\n`).MatchString(out.String()) {
		t.Error("the output does not say where the tasks are")
	}
	if n := client.LLen(t.Context(), "asynq:{"+ownQueue+"}:pending").Val(); n != 0 {
		t.Errorf("%d tasks of this demo are left for the next", n)
	}
}

func TestRunsOnUntilStopped(t *testing.T) {
	o, out := options(t, 4)
	done, stop := start(t, o)
	eventually(t, "the batch is done", func() bool { return strings.Contains(out.String(), "Press Ctrl-C to stop") })
	text := out.String()
	addr := regexp.MustCompile(`redis +(127\.0\.0\.1:(\d+)),`).FindStringSubmatch(text)
	if addr == nil {
		t.Fatal("the output has no address of Redis")
	}
	client := redis.NewClient(&redis.Options{Addr: addr[1]})
	defer client.Close()
	ctx := t.Context()
	pid := client.HGet(ctx, "asynq:workers:worker-demo", "python_pid").Val()
	for _, want := range []string{
		"redis-cli -p " + addr[2] + " HGETALL asynq:workers:worker-demo\n",
		"redis-cli -p " + addr[2] + " LLEN asynq:inference_default:pending\n",
		"kill -9 " + pid + "\n",
		"runqy-worker restart worker-demo --redis redis://" + addr[1] + "\n",
		"/health/v2/queues\n", "/metrics\n", "/health?verbose=1\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not printed", want)
		}
	}
	result := regexp.MustCompile(`GET (asynq:result:\S+)`).FindStringSubmatch(text)
	if result == nil || client.Get(ctx, result[1]).Val() != `{"n":2,"attempts":2}` {
		t.Errorf("the printed command for the result gives %v, want a result", result)
	}
	stop()
	if err := await(t, done); err != nil {
		t.Errorf("error %v after it was told to stop", err)
	}
}

func TestInterruptedBeforeTheEnd(t *testing.T) {
	o, _ := options(t, 5)
	url, client := sharedRedis(t)
	o.ExitWhenDone, o.RedisURL = true, url
	if err := asynq.NewInspectorFromRedisClient(client).PauseQueue(ownQueue); err != nil {
		t.Fatal(err)
	}
	done, stop := start(t, o)
	eventually(t, "tasks are enqueued", func() bool { return client.LLen(t.Context(), "asynq:{"+ownQueue+"}:pending").Val() == 5 })
	stop()
	if err := await(t, done); err == nil || !strings.Contains(err.Error(), "interrupted before every task was done") {
		t.Errorf("error %v, want that it was interrupted", err)
	}
}

func TestAddressInUse(t *testing.T) {
	o, out := options(t, 1)
	o.ExitWhenDone = true
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o.Listen = l.Addr().String()
	if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "--listen "+o.Listen+": somebody else listens there") {
		t.Errorf("error %v, want one that names --listen", err)
	}

	if l, err := net.Listen("tcp", DefaultListen); err == nil { // else another process has it, which is as good
		defer l.Close()
	}
	o.Listen = ""
	done, _ := start(t, o)
	if err := await(t, done); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "("+DefaultListen+" is in use)") {
		t.Error("the output does not explain the other port")
	}
}

func TestWithoutPython(t *testing.T) {
	o, _ := options(t, 1)
	dir := t.TempDir()
	o.Environ = []string{"PATH=" + dir}
	if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "python3 is not on PATH ("+dir+"): install") {
		t.Errorf("error %v, want one that says how to install Python", err)
	}
	broken := "#!/bin/sh\necho this python is broken >&2\nexit 3\n"
	if err := os.WriteFile(filepath.Join(dir, "python3"), []byte(broken), 0o755); err != nil {
		t.Fatal(err)
	}
	done, _ := start(t, o)
	if err := await(t, done); err == nil || !strings.Contains(err.Error(), "did not start") || !strings.Contains(err.Error(), "this python is broken") {
		t.Errorf("error %v, want one with what Python wrote", err)
	}
}

func TestBadInput(t *testing.T) {
	o, _ := options(t, 1)
	o.Listen = "nowhere"
	var wrong *config.Error
	if err := Run(t.Context(), o); !errors.As(err, &wrong) || !strings.Contains(err.Error(), `--listen: health.listen: "nowhere"`) {
		t.Errorf("error %v, want a *config.Error that names --listen", err)
	}
	o.Listen, o.RedisURL = "127.0.0.1:0", "http://somewhere"
	if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), `redis: unknown scheme "http"`) {
		t.Errorf("error %v, want one that names the scheme", err)
	}
}
