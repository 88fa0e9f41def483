package enqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func embedded(t *testing.T) redis.UniversalClient {
	t.Helper()
	e, err := redisclient.StartEmbedded("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	client := e.Target().Open()
	t.Cleanup(func() { client.Close() })
	return client
}

func TestEnqueueSetsEveryOption(t *testing.T) {
	client := embedded(t)
	three := 3
	info, err := New(client).Enqueue(t.Context(), Task{
		Queue: "q", Type: "resize", Payload: json.RawMessage(` {"a": 1} `), ID: "id1", MaxRetry: &three,
		Timeout: 5 * time.Second, Retention: time.Hour, In: time.Hour, Headers: map[string]string{"trace": "x"},
	})
	if err != nil || info != (Info{ID: "id1", Queue: "q", Type: "resize", State: "scheduled"}) {
		t.Fatalf("%+v, %v", info, err)
	}
	got, err := asynq.NewInspectorFromRedisClient(client).GetTaskInfo("q", "id1")
	if err != nil {
		t.Fatal(err)
	}
	if got.Type != "resize" || string(got.Payload) != `{"a": 1}` || got.MaxRetry != 3 || got.Timeout != 5*time.Second ||
		got.Retention != time.Hour || got.State != asynq.TaskStateScheduled || got.Headers["trace"] != "x" {
		t.Fatalf("%+v", got)
	}
}

func TestValidate(t *testing.T) {
	negative := -1
	good := Task{Queue: "q", Type: "t", Payload: json.RawMessage("null")}
	for want, change := range map[string]func(*Task){
		"reserved":        func(t *Task) { t.Queue = "workers" },
		"has a brace":     func(t *Task) { t.Queue = "{q}" },
		"no type":         func(t *Task) { t.Type = " " },
		"no payload":      func(t *Task) { t.Payload = nil },
		"is not JSON":     func(t *Task) { t.Payload = json.RawMessage("hello") },
		"max retry -1":    func(t *Task) { t.MaxRetry = &negative },
		"timeout 500ms":   func(t *Task) { t.Timeout = time.Second / 2 },
		"retention -1s":   func(t *Task) { t.Retention = -time.Second },
		"delay -1s":       func(t *Task) { t.In = -time.Second },
		"has white space": func(t *Task) { t.ID = "a b" },
	} {
		task := good
		change(&task)
		if err := task.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

func TestWaitTellsEachEnd(t *testing.T) {
	client := redistest.Start(t).Client
	c := New(client)
	zero := 0
	one := 1
	server := asynq.NewServerFromRedisClient(client, asynq.Config{
		Concurrency: 2, Queues: map[string]int{"q": 1}, LogLevel: asynq.FatalLevel, TaskCheckInterval: 10 * time.Millisecond,
		DelayedTaskCheckInterval: 10 * time.Millisecond,
		RetryDelayFunc:           func(int, error, *asynq.Task) time.Duration { return 10 * time.Millisecond },
	})
	mux := asynq.NewServeMux()
	mux.HandleFunc("ok", func(ctx context.Context, task *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		return client.Set(ctx, resultKey(id), `{"new":true}`, time.Minute).Err()
	})
	mux.HandleFunc("fail", func(context.Context, *asynq.Task) error { return errors.New("out of ink") })
	mux.HandleFunc("silent", func(context.Context, *asynq.Task) error { return nil })
	mux.HandleFunc("retained", func(_ context.Context, task *asynq.Task) error {
		_, err := task.ResultWriter().Write([]byte(`"kept"`))
		return err
	})
	if err := server.Start(mux); err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()

	run := func(task Task, onRetry func(Retry)) (string, error) {
		t.Helper()
		task.Queue, task.Payload = "q", json.RawMessage("{}")
		info, err := c.EnqueueFresh(t.Context(), task)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		result, err := c.Wait(ctx, "q", info.ID, Watch{Retry: onRetry})
		return string(result), err
	}

	if err := client.Set(t.Context(), resultKey("again"), `{"old":true}`, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := run(Task{Type: "ok", ID: "again"}, nil); err != nil || got != `{"new":true}` {
		t.Errorf("ok: %s, %v", got, err)
	}
	if got, err := run(Task{Type: "retained", Retention: time.Minute}, nil); err != nil || got != `"kept"` {
		t.Errorf("retained: %s, %v", got, err)
	}
	if _, err := run(Task{Type: "silent"}, nil); !errors.Is(err, ErrGone) {
		t.Errorf("silent: %v", err)
	}
	var failed *FailedError
	if _, err := run(Task{Type: "fail", MaxRetry: &zero}, nil); !errors.As(err, &failed) || failed.Reason != "out of ink" {
		t.Errorf("fail: %v", err)
	}
	if _, err := run(Task{Type: "fail", MaxRetry: &one}, nil); !errors.As(err, &failed) {
		t.Errorf("fail after a retry: %v", err)
	}
}

func TestWaitTellsRetriesAndStops(t *testing.T) {
	client := embedded(t)
	c := New(client)
	server := asynq.NewServerFromRedisClient(client, asynq.Config{
		Concurrency: 1, Queues: map[string]int{"q": 1}, LogLevel: asynq.FatalLevel, TaskCheckInterval: 10 * time.Millisecond,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
	})
	if err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return errors.New("jam") })); err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	info, err := c.Enqueue(t.Context(), Task{Queue: "q", Type: "x", Payload: json.RawMessage("1")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var retries []Retry
	_, err = c.Wait(ctx, "q", info.ID, Watch{Retry: func(r Retry) { retries = append(retries, r); cancel() }})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "it stays in the queue") {
		t.Errorf("error %v", err)
	}
	if len(retries) != 1 || retries[0].Reason != "jam" || retries[0].Retried != 1 || retries[0].MaxRetry != 25 {
		t.Errorf("retries %+v", retries)
	}
}

func TestEnqueueFreshKeepsTheResultOfATaskThatIsThere(t *testing.T) {
	client := embedded(t)
	c := New(client)
	task := Task{Queue: "q", Type: "x", Payload: json.RawMessage("1"), ID: "a"}
	if _, err := c.Enqueue(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	client.Set(t.Context(), resultKey("a"), "1", 0)
	if _, err := c.EnqueueFresh(t.Context(), task); !errors.Is(err, ErrExists) {
		t.Errorf("error %v", err)
	}
	if client.Exists(t.Context(), resultKey("a")).Val() != 1 {
		t.Error("the result is gone")
	}
}

// pending lists the types on the queue, the next one first.
func pending(t *testing.T, client redis.UniversalClient, queue string) (types []string) {
	t.Helper()
	inspector := asynq.NewInspectorFromRedisClient(client)
	for page := 1; ; page++ {
		tasks, err := inspector.ListPendingTasks(queue, asynq.PageSize(1000), asynq.Page(page))
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			types = append(types, task.Type)
		}
		if len(tasks) < 1000 {
			return types
		}
	}
}

func TestBulkKeepsTheOrder(t *testing.T) {
	client := redistest.Start(t).Client
	const n = 1234
	var b strings.Builder
	var want []string
	for i := range n {
		fmt.Fprintf(&b, "{\"type\":\"t%04d\",\"payload\":%d}\n\n", i, i)
		want = append(want, fmt.Sprintf("t%04d", i))
	}
	var progress int64
	var counted int
	summary, err := New(client).Bulk(t.Context(), strings.NewReader(b.String()), Task{Queue: "q"}, Report{Progress: func(n int64, tasks int) {
		progress += n
		counted = tasks
	}})
	if err != nil || summary.Enqueued != n || summary.Bad != 0 || summary.LastLine != 2*n {
		t.Fatalf("%+v, %v", summary, err)
	}
	if progress != int64(b.Len()) || counted != n {
		t.Errorf("progress %d of %d bytes, %d of %d tasks", progress, b.Len(), counted, n)
	}
	if got := pending(t, client, "q"); !slices.Equal(got, want) {
		t.Errorf("%d pending tasks, not in the order of the file", len(got))
	}
}

func TestBulkNamesBadLines(t *testing.T) {
	client := embedded(t)
	file := strings.Join([]string{
		`{"payload":1}`,
		`{"payload":`,
		`{"payload":2,"tipe":"x"}`,
		`{}`,
		`{"payload":3} {"payload":4}`,
		`{"payload":5,"timeout":30}`,
		`{"payload":6,"queue":"result"}`,
		`{"payload":7,"id":"same"}`,
		`{"payload":8,"id":"same"}`,
		`{"payload":null,"in":"1h","queue":"other","max_retry":0,"headers":{"a":"b"}}`,
	}, "\r\n")
	bad := map[int]string{}
	summary, err := New(client).Bulk(t.Context(), strings.NewReader(file), Task{Queue: "q", Type: "x"},
		Report{BadLine: func(n int, err error) { bad[n] = err.Error() }})
	if err != nil || summary.Enqueued != 3 || summary.Bad != 7 || summary.Unknown != 0 {
		t.Fatalf("%+v, %v", summary, err)
	}
	for n, want := range map[int]string{
		2: "not JSON", 3: `"tipe"`, 4: `no "payload"`, 5: "more than one JSON value", 6: `write "30s"`, 7: "reserved", 9: `id "same": a task with this id exists already`,
	} {
		if !strings.Contains(bad[n], want) {
			t.Errorf("line %d: %q, want %q", n, bad[n], want)
		}
	}
	if n := client.ZCard(t.Context(), "asynq:{other}:scheduled").Val(); n != 1 {
		t.Errorf("%d scheduled tasks in the other queue", n)
	}
}

func TestBulkOverABreakingConnection(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.StartProxy(t, s.Addr)
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr, MaxRetries: 10, MinRetryBackoff: time.Millisecond, MaxRetryBackoff: 2 * time.Millisecond})
	defer client.Close()
	proxy.CutEveryMatching(701, redistest.CutReply, func(name string) bool { return name == "EVALSHA" })
	const n = 2000
	summary, err := New(client).Bulk(t.Context(), strings.NewReader(strings.Repeat(`{"payload":1}`+"\n", n)), Task{Queue: "q", Type: "x"}, Report{})
	if err != nil || summary.Enqueued != n {
		t.Fatalf("%+v, %v", summary, err)
	}
	if proxy.Cuts() == 0 {
		t.Fatal("no connection was cut")
	}
	if got := s.Client.LLen(t.Context(), "asynq:{q}:pending").Val(); got != n {
		t.Errorf("%d tasks are pending, want %d: each once", got, n)
	}
}

func TestBulkTellsWhatItDoesNotKnow(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.StartProxy(t, s.Addr)
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	c := New(client)
	if _, err := c.Enqueue(t.Context(), Task{Queue: "q", Type: "x", Payload: json.RawMessage("1")}); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	first, done := make(chan struct{}), make(chan struct{})
	go func() { // ends when Bulk has read all of it, or the pipe is closed
		defer close(done)
		fmt.Fprintln(w, `{"payload":1}`)
		<-first
		fmt.Fprintln(w, `{"payload":2}`)
		w.Close()
	}()
	stop := sync.OnceFunc(func() { proxy.Stop(); close(first) })
	summary, err := c.Bulk(t.Context(), r, Task{Queue: "q", Type: "x"}, Report{Progress: func(int64, int) { stop() }})
	r.Close()
	<-done
	if err == nil || summary != (Summary{Enqueued: 1, Unknown: 1, LastLine: 2}) {
		t.Errorf("%+v, %v", summary, err)
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`{"payload":{"a":[1]},"type":"x","in":"1s"}`))
	f.Add([]byte(`{"payload":null,"queue":"{q}"}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, data []byte) {
		task, err := parseLine(data, Task{Queue: "q", Type: "t"})
		if err == nil && task.Validate() != nil {
			t.Fatalf("%q became the invalid task %+v", data, task)
		}
	})
}

func TestWaitTellsOnceThatNobodyTakesTheTask(t *testing.T) {
	client := embedded(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := New(client)
	info, err := c.Enqueue(ctx, Task{Queue: "q", Type: "t", Payload: json.RawMessage("1")})
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	if _, err := c.Wait(ctx, "q", info.ID, Watch{Pending: func() { told++; cancel() }}); !errors.Is(err, context.Canceled) || told != 1 {
		t.Errorf("told %d times, %v", told, err)
	}
}

func TestWaitShowsProgress(t *testing.T) {
	client := embedded(t)
	ctx := t.Context()
	set := func(key string, fields ...any) {
		if err := client.HSet(ctx, key, fields...).Err(); err != nil {
			t.Error(err)
		}
	}
	task := func(state string) { set(taskKey("q", "a"), "state", state) }
	view := func(queue, state, progress, message string) {
		set(viewKey("a"), "queue", queue, "state", state, "progress", progress, "progress_message", message)
	}
	task("active")
	// Each report that is told leads to the next step.
	steps := []struct {
		set  func()
		want Progress // what is told then
	}{
		{func() { view("q", "active", "0.4", "epoch 4") }, Progress{0.4, "epoch 4"}},
		{func() { view("q", "active", "0.4", "epoch 5") }, Progress{0.4, "epoch 5"}},
		{func() { view("q", "active", "7", "") }, Progress{1, ""}},
		{func() { view("q", "active", "nonsense", "words") }, Progress{-1, "words"}},
		{func() { task("scheduled") }, Progress{-1, ""}},
		{func() { view("q", "active", "0.5", "second attempt"); task("active") }, Progress{0.5, "second attempt"}},
		{func() { view("other", "active", "0.9", "") }, Progress{-1, ""}},
		{func() { view("q", "active", "0.8", "") }, Progress{0.8, ""}},
		{func() { view("q", "retry", "0.8", "") }, Progress{-1, ""}},
	}
	told := 0
	steps[0].set()
	result, err := New(client).Wait(ctx, "q", "a", Watch{Progress: func(p Progress) {
		if told == len(steps) || p != steps[told].want {
			t.Errorf("told %+v at step %d", p, told)
			client.Set(ctx, resultKey("a"), "0", 0)
			return
		}
		if told++; told < len(steps) {
			steps[told].set()
			return
		}
		client.Set(ctx, resultKey("a"), "1", 0)
	}})
	if err != nil || string(result) != "1" || told != len(steps) {
		t.Errorf("%s, %v, told %d times", result, err, told)
	}
}
