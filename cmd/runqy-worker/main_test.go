package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/goleak"

	"github.com/runqy/runqy-worker/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// result is what one run of the program did.
type result struct {
	code     int
	out, err string
}

// command runs the program in this process, with nothing in its environment but env.
func command(t *testing.T, env []string, in string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errOut bytes.Buffer
	a := &app{env: env, in: strings.NewReader(in), out: &out, errOut: &errOut}
	code := a.run(ctx, args)
	return result{code, out.String(), errOut.String()}
}

// expect checks the exit code and that the outputs contain the given texts.
func (r result) expect(t *testing.T, code int, out, err string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.out, out) || !strings.Contains(r.err, err) {
		t.Errorf("exit code %d, want %d\nstdout %q, want %q in it\nstderr %q, want %q in it", r.code, code, r.out, out, r.err, err)
	}
}

func TestUsageErrorsExitWith2(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	noDir := filepath.Join(t.TempDir(), "worker.yaml")
	write(t, noDir, "python: {dir: "+missing+"}\n")
	for want, args := range map[string][]string{
		`unknown command "fly"`:          {"fly"},
		"unknown flag: --fast":           {"version", "--fast"},
		`-o "xml" is none of text, json`: {"version", "-o", "xml"},
		`unknown command "x" for`:        {"workers", "x"},
		"accepts between 2 and 3":        {"enqueue", "q"},
		"--worker and --any-free do not go together\nSee 'runqy-worker enqueue --help'": {"enqueue", "q", "t", "--worker", "w", "--any-free"},
		"--worker and --in do not go together":                                          {"enqueue", "q", "t", "--worker", "w", "--in", "1s"},
		"--any-free and --from-file do not go together":                                 {"enqueue", "q", "--any-free", "--from-file", "x"},
		"--live and --ready do not go together":                                         {"healthcheck", "--live", "--ready"},
		"give the file with -c: runqy-worker check-config -c worker.yaml":               {"check-config", "worker.yaml"},
		`python.dir: "` + missing + `" is not a directory`:                              {"check-config", "-c", noDir},
		"do not go with --from-file":                                                    {"enqueue", "q", "--from-file", "x", "--wait"},
		`queue name "workers" is reserved`:                                              {"enqueue", "workers", "t"},
		"timeout 5ms is less than 1s":                                                   {"enqueue", "q", "t", "--timeout", "5ms"},
		"the payload is not JSON":                                                       {"enqueue", "q", "t", "hello"},
		`--log-level (or RUNQY_LOG_LEVEL) "loud"`:                                       {"version", "--log-level", "loud"},
		`--log-format (or RUNQY_LOG_FORMAT) "xml"`:                                      {"version", "--log-format", "xml"},
		`--redis: redis.url: "http://h" is not`:                                         {"workers", "--redis", "http://h"},
		missing + ": cannot be read":                                                    {"workers", "-c", missing},
	} {
		command(t, nil, "", args...).expect(t, exitUsage, "", want)
	}
}

func TestVersion(t *testing.T) {
	command(t, nil, "", "version").expect(t, 0, "runqy-worker ", "")
	r := command(t, nil, "", "version", "-o", "json")
	var b build
	if err := json.Unmarshal([]byte(r.out), &b); err != nil || b.Version == "" || b.Commit == "" || b.Go == "" || b.Platform == "" {
		t.Errorf("the version is %+v, error %v; want all fields", b, err)
	}
}

func TestCheckConfig(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
	write(t, good, "redis: {url: 'redis://:hunter2@h:1'}\nworker: {concurrency: 3}\n")
	write(t, bad, "worker:\n  concurency: 3\n")

	r := command(t, []string{"RUNQY_CONFIG=" + good, "RUNQY_CONCURRENCY=4", "RUNQY_SPEED=9"}, "", "check-config")
	r.expect(t, 0, "worker.concurrency", "RUNQY_SPEED is not known")
	for _, want := range []string{good + ") is valid", "redis://:***@h:1", "RUNQY_CONCURRENCY", good + ":1"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
	command(t, nil, "", "check-config", "-c", bad).expect(t, exitUsage, "", bad+":2: worker.concurency: is not a key; did you mean concurrency?")

	r = command(t, nil, "", "check-config", "-c", good, "-o", "json")
	var loose map[string]any
	if err := json.Unmarshal([]byte(r.out), &loose); err != nil {
		t.Fatal(err)
	}
	if loose["valid"] != true || loose["from"].(map[string]any)["worker.concurrency"] != good+":2" ||
		loose["config"].(map[string]any)["worker"].(map[string]any)["concurrency"] != 3.0 {
		t.Errorf("check-config prints %s, want a valid configuration with its origins", r.out)
	}
	r = command(t, nil, "", "check-config", "-c", bad, "-o", "json")
	r.expect(t, exitUsage, `"line": 2`, "")
	if r.err != "" {
		t.Errorf("standard error is %q, want nothing", r.err)
	}
}

func TestEnqueueAndWait(t *testing.T) {
	s := redistest.Start(t)
	server := asynq.NewServerFromRedisClient(s.Client, asynq.Config{
		Concurrency: 1, Queues: map[string]int{"q": 1}, LogLevel: asynq.FatalLevel, TaskCheckInterval: 10 * time.Millisecond,
	})
	mux := asynq.NewServeMux()
	mux.HandleFunc("echo", func(ctx context.Context, task *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		return s.Client.Set(ctx, "asynq:result:"+id, task.Payload(), time.Minute).Err()
	})
	if err := server.Start(mux); err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()

	r := command(t, nil, "", "enqueue", "q", "echo", `{"n":1}`, "--wait", "--redis", s.URL)
	r.expect(t, 0, "", "")
	if r.out != "{\"n\":1}\n" {
		t.Errorf("standard output is %q, want the result alone", r.out)
	}
	env := []string{"RUNQY_REDIS_URL=" + s.URL}
	command(t, env, `{"n":2}`, "enqueue", "q", "echo", "-", "--wait").expect(t, 0, `{"n":2}`, "")
	command(t, env, "", "enqueue", "q", "nobody", "--wait", "--max-retry", "0").expect(t, exitFailure, "", "failed for good: handler not found")
	command(t, env, "", "enqueue", "q", "echo", "--in", "1h", "--id", "later", "-o", "json").
		expect(t, 0, `{"id":"later","queue":"q","type":"echo","state":"scheduled"}`, "")
	command(t, env, "", "enqueue", "q", "echo", "--id", "later").expect(t, exitFailure, "", "a task with this id exists already")
}

func TestEnqueueFile(t *testing.T) {
	s := redistest.Start(t)
	env := []string{"RUNQY_REDIS_URL=" + s.URL}
	file := filepath.Join(t.TempDir(), "tasks.ndjson")
	write(t, file, strings.Repeat(`{"payload":1,"type":"x"}`+"\n", 3))
	command(t, env, "", "enqueue", "q", "--from-file", file).expect(t, 0, "3 tasks enqueued, 0 bad lines", "")

	r := command(t, env, strings.Repeat("{}\n", 30)+`{"payload":1}`, "enqueue", "q", "x", "--from-file", "-")
	r.expect(t, exitFailure, "1 task enqueued, 30 bad lines", "30 of 31 tasks were not enqueued")
	if !strings.Contains(r.err, "line 20: no \"payload\"") || strings.Contains(r.err, "line 21:") || !strings.Contains(r.err, "and 10 more bad lines not shown") {
		t.Errorf("standard error is %q, want the first 20 bad lines and the number of the others", r.err)
	}
	if n := s.Client.LLen(t.Context(), "asynq:{q}:pending").Val(); n != 4 {
		t.Errorf("%d tasks are pending, want 4", n)
	}
	missing := file + ".missing"
	command(t, env, "", "enqueue", "q", "--from-file", missing).expect(t, exitUsage, "", "--from-file: open "+missing)
}

func TestWorkers(t *testing.T) {
	s := redistest.Start(t)
	ctx := t.Context()
	command(t, nil, "", "workers", "--redis", s.URL).expect(t, 0, "No worker is registered", "")
	expiry := float64(time.Now().Add(15 * time.Second).Unix())
	if err := s.Client.Do(ctx, "ZADD", "runqy:workers", expiry, "w1").Err(); err != nil {
		t.Fatal(err)
	}
	s.Client.HSet(ctx, "asynq:workers:w1", "healthy", "true", "status", "running", "state", "FREE", "queue", "q", "concurrency", "2")
	s.Client.Expire(ctx, "asynq:workers:w1", time.Minute)
	command(t, nil, "", "workers", "--redis", s.URL).expect(t, 0, "w1", "")
	command(t, nil, "", "workers", "--redis", s.URL, "-o", "json").expect(t, 0, `"id":"w1","alive":true,"healthy":true`, "")
	command(t, nil, "", "workers", "--redis", "redis://:s3cret@127.0.0.1:1").expect(t, exitFailure, "", "redis at redis://:***@127.0.0.1:1")
	command(t, nil, "", "workers", "--redis", "redis://127.0.0.1:1").expect(t, exitFailure, "", "is Redis running there? -c FILE, --redis URL or")
}

func TestHealthcheckWithoutAWorker(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	env := []string{"RUNQY_HEALTH_SOCKET=" + socket}
	command(t, env, "", "healthcheck").expect(t, exitFailure, `"worker":"unhealthy","broker":"unknown","database":"not configured"`, "")
	command(t, append(env, "RUNQY_HEALTH_DATABASE_URL=postgres://h/d"), "", "healthcheck").expect(t, exitFailure, `"database":"unknown"`, "")
	command(t, env, "", "healthcheck").expect(t, exitFailure,
		`"error":"no worker answers at the unix socket `+socket+` (is it running with the same configuration?)"`, "")
}

func TestWatchEndsWithItsContext(t *testing.T) {
	s := redistest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &notifying{wrote: make(chan struct{}, 1)}
	done := make(chan int)
	go func() {
		a := &app{in: strings.NewReader(""), out: out, errOut: &bytes.Buffer{}}
		done <- a.run(ctx, []string{"workers", "--watch", "-o", "json", "--redis", s.URL})
	}()
	<-out.wrote
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("exit code %d after the context was cancelled, want 0", code)
	}
}

// notifying is a writer that tells that it was written to.
type notifying struct{ wrote chan struct{} }

func (n *notifying) Write(p []byte) (int, error) {
	select {
	case n.wrote <- struct{}{}:
	default:
	}
	return len(p), nil
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
