package client

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redisclient"
)

func embedded(t *testing.T) redis.UniversalClient {
	t.Helper()
	e, err := redisclient.StartEmbedded("")
	if err != nil {
		t.Fatalf("start the embedded Redis: %v", err)
	}
	t.Cleanup(e.Close)
	client := e.Target().Open()
	t.Cleanup(func() { client.Close() })
	return client
}

// newTestClient returns a client that pings no workers, which needs no closing.
func newTestClient(t *testing.T, client redis.UniversalClient) *Client {
	t.Helper()
	c, err := NewFromRedis(client, Options{HeartbeatsOnly: true})
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	return c
}

func TestEnqueueSetsEveryOption(t *testing.T) {
	client := embedded(t)
	info, err := newTestClient(t, client).Enqueue(t.Context(), Task{
		Queue: "q", Type: "resize", Payload: json.RawMessage(` {"a": 1} `), ID: "id1", MaxRetry: new(3),
		Timeout: 5 * time.Second, Retention: time.Hour, In: time.Hour, Headers: map[string]string{"trace": "x"},
	})
	if err != nil || info != (TaskInfo{ID: "id1", Queue: "q", Type: "resize", State: "scheduled"}) {
		t.Fatalf("enqueue: %+v, %v", info, err)
	}
	got, err := asynq.NewInspectorFromRedisClient(client).GetTaskInfo("q", "id1")
	if err != nil {
		t.Fatalf("read the task: %v", err)
	}
	if got.Type != "resize" || string(got.Payload) != `{"a": 1}` || got.MaxRetry != 3 || got.Timeout != 5*time.Second ||
		got.Retention != time.Hour || got.State != asynq.TaskStateScheduled || got.Headers["trace"] != "x" {
		t.Fatalf("the task in Redis is %+v, not what was enqueued", got)
	}
}

func TestValidate(t *testing.T) {
	good := Task{Queue: "q", Type: "t", Payload: json.RawMessage("null")}
	for want, change := range map[string]func(*Task){
		"reserved":        func(t *Task) { t.Queue = "workers" },
		"has a brace":     func(t *Task) { t.Queue = "{q}" },
		"no type":         func(t *Task) { t.Type = " " },
		"no payload":      func(t *Task) { t.Payload = nil },
		"is not JSON":     func(t *Task) { t.Payload = json.RawMessage("hello") },
		"max retry -1":    func(t *Task) { t.MaxRetry = new(-1) },
		"timeout 500ms":   func(t *Task) { t.Timeout = time.Second / 2 },
		"retention -1s":   func(t *Task) { t.Retention = -time.Second },
		"delay -1s":       func(t *Task) { t.In = -time.Second },
		"has white space": func(t *Task) { t.ID = "a b" },
	} {
		task := good
		change(&task)
		var invalid *InvalidTaskError
		if err := task.Validate(); !errors.As(err, &invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want an InvalidTaskError with %q", err, want)
		}
	}
	if err := good.Validate(); err != nil {
		t.Errorf("a valid task: %v", err)
	}
}

func TestDiscardOldResultKeepsTheResultOfATaskThatExists(t *testing.T) {
	client := embedded(t)
	c := newTestClient(t, client)
	task := Task{Queue: "q", Type: "x", Payload: json.RawMessage("1"), ID: "a"}
	if _, err := c.Enqueue(t.Context(), task); err != nil {
		t.Fatalf("enqueue: %v", err)
	}
	client.Set(t.Context(), resultKey("a"), "1", 0)
	task.DiscardOldResult = true
	if _, err := c.Enqueue(t.Context(), task); !errors.Is(err, ErrTaskExists) {
		t.Errorf("enqueue again: error %v, want ErrTaskExists", err)
	}
	outcomes, err := c.EnqueueMany(t.Context(), []Task{task})
	if err != nil || len(outcomes) != 1 || !errors.Is(outcomes[0].Err, ErrTaskExists) {
		t.Errorf("enqueue again as one of many: %+v, %v, want ErrTaskExists", outcomes, err)
	}
	if client.Exists(t.Context(), resultKey("a")).Val() != 1 {
		t.Error("the result is gone")
	}
}

func TestDiscardOldResultRemovesTheResultOfAnEarlierTask(t *testing.T) {
	client := embedded(t)
	c := newTestClient(t, client)
	for id, enqueue := range map[string]func(Task) error{
		"one": func(task Task) error { _, err := c.Enqueue(t.Context(), task); return err },
		"many": func(task Task) error {
			outcomes, err := c.EnqueueMany(t.Context(), []Task{task})
			return errors.Join(err, outcomes[0].Err)
		},
	} {
		client.Set(t.Context(), resultKey(id), "1", 0)
		if err := enqueue(Task{Queue: "q", Type: "x", Payload: json.RawMessage("1"), ID: id, DiscardOldResult: true}); err != nil {
			t.Errorf("enqueue %s: %v", id, err)
		}
		if client.Exists(t.Context(), resultKey(id)).Val() != 0 {
			t.Errorf("enqueue %s: the older result is still there", id)
		}
	}
}
