package worker

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// redisCLI asks with the real redis-cli and returns its lines.
func redisCLI(t *testing.T, server *redistest.Server, args ...string) []string {
	t.Helper()
	if _, err := exec.LookPath("redis-cli"); err != nil {
		t.Fatal("redis-cli is not on PATH; Debian's package is redis-tools")
	}
	_, port, err := net.SplitHostPort(server.Addr)
	if err != nil {
		t.Fatalf("split the address %s: %v", server.Addr, err)
	}
	out := harness.Execute(t, os.Environ(), "redis-cli", append([]string{"-p", port}, args...)...)
	if out.Code != 0 {
		t.Fatalf("redis-cli %q ended with %d, want 0: %s%s", args, out.Code, out.Out, out.ErrOut)
	}
	text := strings.TrimSuffix(out.Out, "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// hash reads HGETALL's lines.
func hash(lines []string) map[string]string {
	h := make(map[string]string)
	for i := 0; i+1 < len(lines); i += 2 {
		h[lines[i]] = lines[i+1]
	}
	return h
}

func wantFields(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if have, ok := got[name]; !ok || have != value {
			t.Errorf("%s: %s is %q, want %q", what, name, have, value)
		}
	}
}

// wantTimes checks fields that must be RFC 3339 in UTC.
func wantTimes(t *testing.T, what string, got map[string]string, names ...string) {
	t.Helper()
	for _, name := range names {
		at, err := time.Parse(time.RFC3339Nano, got[name])
		if err != nil || !strings.HasSuffix(got[name], "Z") {
			t.Errorf("%s: %s is %q, which is not RFC 3339 in UTC", what, name, got[name])
		}
		if time.Since(at).Abs() > 10*time.Minute {
			t.Errorf("%s: %s is %q, want about %s", what, name, got[name], time.Now().UTC().Format(time.RFC3339))
		}
	}
}

func wantLine(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("redis-cli says %q, want %q", got, want)
	}
}

// What redis-cli shows before, during and after a task.
func TestRedisViews(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	pythonPID := q.PythonPID(w.ID)
	host, err := os.Hostname()
	if err != nil {
		t.Fatalf("ask for the host name: %v", err)
	}
	const (
		key     = "asynq:workers:worker-abc123"
		pending = "asynq:inference_default:pending"
		active  = "asynq:inference_default:active"
	)

	// Before.
	wantLine(t, redisCLI(t, server, "KEYS", "asynq:workers:*"), key)
	beat := hash(redisCLI(t, server, "HGETALL", key))
	idle := map[string]string{
		"healthy": "true", "queue": "inference_default", "active_task": "", "status": "running", "state": "FREE",
		"reason": "", "active_tasks": "[]", "concurrency": "1", "processed": "0", "failed": "0", "restarts": "0",
		"crashes": "0", "host": host, "pid": strconv.Itoa(w.PID()), "python_pid": strconv.Itoa(pythonPID),
		"environment": "development", "address": w.Addr(),
	}
	wantFields(t, "heartbeat before", beat, idle)
	wantTimes(t, "heartbeat before", beat, "started", "last_beat")
	if !regexp.MustCompile(`^\d+\.\d+$`).MatchString(beat["event_loop_lag_seconds"]) || beat["version"] == "" {
		t.Errorf("the lag is %q and the version %q, want a number and a version", beat["event_loop_lag_seconds"], beat["version"])
	}
	if _, err := time.Parse("2006-01-02T15:04:05Z", beat["started"]); err != nil {
		t.Errorf("started: %v", err)
	}
	wantLine(t, redisCLI(t, server, "LLEN", pending), "0")
	wantLine(t, redisCLI(t, server, "LRANGE", active, "0", "-1"))
	wantLine(t, redisCLI(t, server, "ZRANGE", "runqy:workers", "0", "-1"), w.ID)
	wantLine(t, redisCLI(t, server, "TYPE", key), "hash")

	// During: one task runs, two wait.
	started := q.Enqueue("sleep", map[string]any{"seconds": 12}, asynq.MaxRetry(3), asynq.Timeout(2*time.Minute))
	q.AwaitHeartbeat(w.ID, "active_task="+started, "state=BUSY")
	second := q.Enqueue("echo", map[string]string{"n": "2"})
	third := q.Enqueue("echo", map[string]string{"n": "3"})
	beat = hash(redisCLI(t, server, "HGETALL", key))
	wantFields(t, "heartbeat during", beat, map[string]string{
		"healthy": "true", "active_task": started, "active_tasks": `["` + started + `"]`, "state": "BUSY", "status": "running",
	})
	own := regexp.MustCompile(`^asynq:workers:\{.+:\d+:[0-9a-f-]{36}\}$`)
	harness.Eventually(t, "asynq's own hash, which it writes every five seconds, stands beside ours", func() error {
		keys := redisCLI(t, server, "KEYS", "asynq:workers:*")
		if len(keys) != 2 || !own.MatchString(keys[0]) && !own.MatchString(keys[1]) {
			return harness.NotYet(w, "%q", keys)
		}
		return nil
	})
	// The copies are no older than one heartbeat.
	harness.Eventually(t, "LLEN of the plain pending list", func() error {
		if got := redisCLI(t, server, "LLEN", pending); got[0] != "2" {
			return harness.NotYet(w, "it is %q, want 2", got)
		}
		return nil
	})
	wantLine(t, redisCLI(t, server, "LRANGE", active, "0", "-1"), started)
	wantLine(t, redisCLI(t, server, "LRANGE", pending, "0", "-1"), third, second) // as asynq keeps it: newest first
	view := hash(redisCLI(t, server, "HGETALL", "asynq:t:"+started))
	wantFields(t, "task view during", view, map[string]string{
		"id": started, "type": "sleep", "queue": "inference_default", "state": "active", "payload": `{"seconds":12}`,
		"retried": "0", "max_retry": "3", "timeout": "120", "worker": "worker-abc123", "completed": "", "duration_seconds": "",
		"error": "", "crashes": "0",
	})
	wantTimes(t, "task view during", view, "started", "enqueued")
	wantFields(t, "view of a waiting task", hash(redisCLI(t, server, "HGETALL", "asynq:t:"+second)), map[string]string{
		"id": second, "type": "echo", "state": "pending", "payload": `{"n":"2"}`,
	})
	wantLine(t, redisCLI(t, server, "GET", "asynq:result:"+started), "")

	// After.
	q.AwaitGone(started)
	wantLine(t, redisCLI(t, server, "GET", "asynq:result:"+started), `"slept"`)
	q.AwaitGone(second)
	q.AwaitGone(third)
	wantLine(t, redisCLI(t, server, "GET", "asynq:result:"+third), `{"n":"3"}`)
	harness.Eventually(t, "the view of the finished task", func() error {
		view = hash(redisCLI(t, server, "HGETALL", "asynq:t:"+started))
		if view["state"] != "completed" {
			return harness.NotYet(w, "%q", view)
		}
		return nil
	})
	wantTimes(t, "task view after", view, "completed", "started")
	if seconds, err := strconv.ParseFloat(view["duration_seconds"], 64); err != nil || seconds < 12 || seconds > 60 {
		t.Errorf("duration_seconds is %q, want 12 to 60", view["duration_seconds"])
	}
	q.AwaitHeartbeat(w.ID, "active_task=", "active_tasks=[]", "state=FREE", "processed=3", "failed=0")
	harness.Eventually(t, "the plain lists are empty again", func() error {
		if a, p := redisCLI(t, server, "LLEN", active), redisCLI(t, server, "LLEN", pending); a[0] != "0" || p[0] != "0" {
			return harness.NotYet(w, "active %q, pending %q", a, p)
		}
		return nil
	})
	for _, k := range []string{"asynq:result:" + started, "asynq:t:" + started, key} {
		if ttl := server.Client.PTTL(t.Context(), k).Val(); ttl <= 0 {
			t.Errorf("%s has no time to live (%v)", k, ttl)
		}
	}

	w.Stop()
	wantLine(t, redisCLI(t, server, "KEYS", "asynq:workers:*"))
	wantLine(t, redisCLI(t, server, "ZRANGE", "runqy:workers", "0", "-1"))
}

// Several queues: names by priority, each with its views; results and headers reach the task.
func TestSeveralQueues(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"worker.queues": map[string]int{"low": 1, "critical": 6, harness.QueueName: 3}, "worker.strict_priority": true,
	})
	q.PythonPID(w.ID)
	if got := q.Heartbeat(w.ID)["queue"]; got != "critical,"+harness.QueueName+",low" {
		t.Errorf("the heartbeat's queue is %q, want critical, %s and low", got, harness.QueueName)
	}
	// While one task holds the process, the others line up; then strict priority decides.
	file := filepath.Join(t.TempDir(), "ran")
	q.Enqueue("note", map[string]any{"file": file, "seconds": 1}, asynq.TaskID("first"))
	q.AwaitHeartbeat(w.ID, "active_task=first")
	q.Enqueue("note", map[string]any{"file": file}, asynq.Queue("low"), asynq.TaskID("l"))
	q.Enqueue("note", map[string]any{"file": file}, asynq.TaskID("m"))
	q.Enqueue("note", map[string]any{"file": file}, asynq.Queue("critical"), asynq.TaskID("c"))
	q.Result("l")
	if got := strings.Join(harness.ReadLines(t, file), ","); got != "first 0,c 0,m 0,l 0" {
		t.Errorf("ran in the order %s, want %s", got, "first 0,c 0,m 0,l 0")
	}

	task := asynq.NewTaskWithHeaders("headers", []byte("null"), map[string]string{"trace": "t1"})
	info, err := q.Client.Enqueue(task, asynq.Queue("critical"), asynq.Deadline(time.Now().Add(time.Hour)))
	if err != nil {
		t.Fatalf("enqueue a task with headers: %v", err)
	}
	var got struct {
		Headers  map[string]string
		Queue    string
		Deadline bool
	}
	if err := json.Unmarshal([]byte(q.Result(info.ID)), &got); err != nil || got.Headers["trace"] != "t1" || got.Queue != "critical" || !got.Deadline {
		t.Errorf("the task saw %+v (%v), want its header, queue and deadline", got, err)
	}
	code, body := harness.Get(t, "http://"+w.Addr()+"/health/v2/queues")
	var queues struct {
		Broker string
		Queues map[string]struct{ Name, Status string }
	}
	if err := json.Unmarshal([]byte(body), &queues); err != nil || code != 200 || queues.Broker != "connected" || len(queues.Queues) != 3 {
		t.Errorf("/health/v2/queues answers %d %s (%v), want 200 and three queues", code, body, err)
	}
	w.Stop()
}
