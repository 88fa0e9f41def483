package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// This file is how the tests look at the system: as a user would, from outside.

// queueUser enqueues and inspects with plain asynq.
type queueUser struct {
	t         *testing.T
	redis     *redis.Client
	client    *asynq.Client
	inspector *asynq.Inspector
}

func newQueueUser(t *testing.T, client *redis.Client) *queueUser {
	t.Helper()
	return &queueUser{
		t: t, redis: client, client: asynq.NewClientFromRedisClient(client), inspector: asynq.NewInspectorFromRedisClient(client),
	}
}

// enqueue puts a task on the queue and returns its id. The payload is marshalled unless it is bytes.
func (q *queueUser) enqueue(taskType string, payload any, opts ...asynq.Option) string {
	q.t.Helper()
	data, ok := payload.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(payload); err != nil {
			q.t.Fatal(err)
		}
	}
	info, err := q.client.Enqueue(asynq.NewTask(taskType, data), append([]asynq.Option{asynq.Queue(queueName)}, opts...)...)
	if err != nil {
		q.t.Fatalf("enqueue: %v", err)
	}
	return info.ID
}

// result waits for the JSON that a task returned.
func (q *queueUser) result(id string) string {
	q.t.Helper()
	return q.resultWithin(patience, id)
}

func (q *queueUser) resultWithin(limit time.Duration, id string) string {
	q.t.Helper()
	var text string
	within(q.t, limit, "result of task "+id, func() error {
		var err error
		text, err = q.redis.Get(q.t.Context(), "asynq:result:"+id).Result()
		if err != nil {
			return q.notYet(id, err)
		}
		return nil
	})
	return text
}

// taskHash is where asynq keeps a task of the tests' queue.
func taskHash(id string) string { return "asynq:{" + queueName + "}:t:" + id }

// notYet is an error that tells how a task is once somebody reads it: asynq looks tasks up with their payloads, which can
// be too large to be read at each turn of a wait.
func (q *queueUser) notYet(id string, err error) error {
	return laterError(func() string { return fmt.Sprintf("%v; %s", err, q.describe(id)) })
}

type laterError func() string

func (e laterError) Error() string { return e() }

// gone waits until a task without retention is acknowledged: asynq knows it no more.
func (q *queueUser) gone(id string) {
	q.t.Helper()
	eventually(q.t, "task "+id+" is acknowledged", func() error {
		n, err := q.redis.Exists(q.t.Context(), taskHash(id)).Result()
		if err == nil && n == 0 {
			return nil
		}
		return q.notYet(id, err)
	})
}

// inState waits until asynq has the task in a state.
func (q *queueUser) inState(id string, state asynq.TaskState) *asynq.TaskInfo {
	q.t.Helper()
	return q.inStateWithin(patience, id, state)
}

func (q *queueUser) inStateWithin(limit time.Duration, id string, state asynq.TaskState) *asynq.TaskInfo {
	q.t.Helper()
	var info *asynq.TaskInfo
	within(q.t, limit, "task "+id+" is "+state.String(), func() error {
		if got, err := q.redis.HGet(q.t.Context(), taskHash(id), "state").Result(); err != nil || got != state.String() {
			return q.notYet(id, err)
		}
		var err error
		info, err = q.inspector.GetTaskInfo(queueName, id)
		if err == nil && info.State != state {
			err = fmt.Errorf("it is %s by now", info.State)
		}
		return err
	})
	return info
}

func (q *queueUser) describe(id string) string {
	info, err := q.inspector.GetTaskInfo(queueName, id)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s, retried %d of %d, last error %q", info.State, info.Retried, info.MaxRetry, info.LastErr)
}

// nothingLeft waits until asynq's pending, active, retry and scheduled sets are empty.
func (q *queueUser) nothingLeft() {
	q.t.Helper()
	q.nothingLeftFor(patience)
}

func (q *queueUser) nothingLeftFor(limit time.Duration) {
	q.t.Helper()
	within(q.t, limit, "nothing is left in the queue", func() error {
		ctx := q.t.Context()
		prefix := "asynq:{" + queueName + "}:"
		counts := map[string]int64{
			"pending": q.redis.LLen(ctx, prefix+"pending").Val(), "active": q.redis.LLen(ctx, prefix+"active").Val(),
			"retry": q.redis.ZCard(ctx, prefix+"retry").Val(), "scheduled": q.redis.ZCard(ctx, prefix+"scheduled").Val(),
		}
		for _, n := range counts {
			if n > 0 {
				return fmt.Errorf("%v", counts)
			}
		}
		return nil
	})
}

// beat is the worker's heartbeat hash as it stands in Redis.
func (q *queueUser) beat(id string) map[string]string {
	q.t.Helper()
	hash, err := q.redis.HGetAll(context.Background(), "asynq:workers:"+id).Result()
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	return hash
}

// beats waits until fields of the heartbeat have the given values, "name=value" each.
func (q *queueUser) beats(id string, want ...string) time.Duration {
	q.t.Helper()
	return eventually(q.t, fmt.Sprintf("heartbeat of %s has %q", id, want), func() error {
		hash := q.beat(id)
		for _, w := range want {
			name, value, _ := strings.Cut(w, "=")
			if got, ok := hash[name]; !ok || got != value {
				return fmt.Errorf("the hash is %q", hash)
			}
		}
		return nil
	})
}

// reason waits until the heartbeat's reason tells the evidence.
func (q *queueUser) reason(id, part string) {
	q.t.Helper()
	eventually(q.t, "the reason contains "+part, func() error {
		if hash := q.beat(id); !strings.Contains(hash["reason"], part) {
			return fmt.Errorf("the hash is %q", hash)
		}
		return nil
	})
}

// pythonPID waits until the worker runs and returns its Python process' id.
func (q *queueUser) pythonPID(id string) int {
	q.t.Helper()
	q.beats(id, "status=running", "healthy=true")
	pid, err := strconv.Atoi(q.beat(id)["python_pid"])
	if err != nil {
		q.t.Fatalf("python_pid: %v", err)
	}
	return pid
}

// get asks an HTTP server once; an error is told in the body with code 0.
func get(t *testing.T, url string, header ...string) (code int, body string) {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// answers waits until a path of the worker's server answers so.
func (w *workerProcess) answers(path string, code int, body string) {
	w.t.Helper()
	url := "http://" + w.Addr() + path
	eventually(w.t, fmt.Sprintf("%s answers %d %s", path, code, body), func() error {
		gotCode, gotBody := get(w.t, url)
		if gotCode != code || body != "" && gotBody != body {
			return fmt.Errorf("it answers %d %q", gotCode, gotBody)
		}
		return nil
	})
}

// metric waits until a sample of /metrics, named with its labels as it is printed, has a value.
func (w *workerProcess) metric(sample, value string) {
	w.t.Helper()
	eventually(w.t, sample+" is "+value, func() error {
		_, body := get(w.t, "http://"+w.Addr()+"/metrics")
		if !slices.Contains(strings.Split(body, "\n"), sample+" "+value) {
			return fmt.Errorf("samples: %q", linesWith(body, strings.SplitN(sample, "{", 2)[0]))
		}
		return nil
	})
}

func linesWith(text, part string) []string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) && !strings.HasPrefix(line, "#") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// readLines returns the lines of a file that tasks write to.
func readLines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}
