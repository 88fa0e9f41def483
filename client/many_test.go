package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// pending lists the types on the queue, the next one first.
func pending(t *testing.T, client redis.UniversalClient, queue string) (types []string) {
	t.Helper()
	inspector := asynq.NewInspectorFromRedisClient(client)
	for page := 1; ; page++ {
		tasks, err := inspector.ListPendingTasks(queue, asynq.PageSize(1000), asynq.Page(page))
		if err != nil {
			t.Fatalf("list the pending tasks: %v", err)
		}
		for _, task := range tasks {
			types = append(types, task.Type)
		}
		if len(tasks) < 1000 {
			return types
		}
	}
}

func manyTasks(n int) []Task {
	tasks := make([]Task, n)
	for i := range tasks {
		tasks[i] = Task{Queue: "q", Type: fmt.Sprintf("t%04d", i), Payload: json.RawMessage("1")}
	}
	return tasks
}

func TestEnqueueManyKeepsTheOrder(t *testing.T) {
	client := redistest.Start(t).Client
	tasks := manyTasks(1234)
	outcomes, err := newTestClient(t, client).EnqueueMany(t.Context(), tasks)
	if err != nil || len(outcomes) != len(tasks) {
		t.Fatalf("%d outcomes, error %v", len(outcomes), err)
	}
	ids := map[string]bool{}
	var want []string
	for i, o := range outcomes {
		ids[o.Info.ID] = true
		want = append(want, tasks[i].Type)
		if o.Err != nil || o.Info.Queue != "q" || o.Info.Type != tasks[i].Type || o.Info.State != TaskPending {
			t.Errorf("outcome %d: %+v", i, o)
		}
	}
	if len(ids) != len(tasks) {
		t.Errorf("%d different ids of %d tasks", len(ids), len(tasks))
	}
	if got := pending(t, client, "q"); !slices.Equal(got, want) {
		t.Errorf("%d pending tasks, not in the order of the list", len(got))
	}
}

func TestEnqueueManyTellsEachOutcome(t *testing.T) {
	client := embedded(t)
	one := json.RawMessage("1")
	outcomes, err := newTestClient(t, client).EnqueueMany(t.Context(), []Task{
		{Queue: "q", Type: "x", Payload: one, ID: "same"},
		{Queue: "q", Type: "x", Payload: one, ID: "same"},
		{Queue: "q", Type: "x"},
		{Queue: "other", Type: "x", Payload: one, In: time.Hour},
	})
	if err != nil || len(outcomes) != 4 {
		t.Fatalf("%d outcomes, error %v", len(outcomes), err)
	}
	var invalid *InvalidTaskError
	if o := outcomes[0]; o.Err != nil || o.Info != (TaskInfo{ID: "same", Queue: "q", Type: "x", State: TaskPending}) {
		t.Errorf("a good task: %+v", o)
	}
	if o := outcomes[1]; !errors.Is(o.Err, ErrTaskExists) || o.Info != (TaskInfo{}) {
		t.Errorf("an id that exists: %+v, want ErrTaskExists", o)
	}
	if o := outcomes[2]; !errors.As(o.Err, &invalid) {
		t.Errorf("a task without a payload: %+v, want an InvalidTaskError", o)
	}
	if o := outcomes[3]; o.Err != nil || o.Info.State != TaskScheduled || client.ZCard(t.Context(), "asynq:{other}:scheduled").Val() != 1 {
		t.Errorf("a task for later: %+v", o)
	}
}

func TestEnqueueManyOverABreakingConnection(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.StartProxy(t, s.Addr)
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr, MaxRetries: 10, MinRetryBackoff: time.Millisecond, MaxRetryBackoff: 2 * time.Millisecond})
	defer client.Close()
	proxy.CutEveryMatching(701, redistest.CutReply, func(name string) bool { return name == "EVALSHA" })
	const n = 2000
	outcomes, err := newTestClient(t, client).EnqueueMany(t.Context(), manyTasks(n))
	if err != nil || slices.ContainsFunc(outcomes, func(o Outcome) bool { return o.Err != nil }) {
		t.Fatalf("error %v, or an outcome has one", err)
	}
	if proxy.Cuts() == 0 {
		t.Fatal("no connection was cut")
	}
	if got := s.Client.LLen(t.Context(), "asynq:{q}:pending").Val(); got != n {
		t.Errorf("%d tasks are pending, want %d: each once", got, n)
	}
}

// An answer that is lost makes go-redis send the task again: it exists then, and that is no conflict. An ID of the
// caller's may be another task's.
func TestEnqueueOverABreakingConnection(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.StartProxy(t, s.Addr)
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr, MaxRetries: 10, MinRetryBackoff: time.Millisecond, MaxRetryBackoff: 2 * time.Millisecond})
	defer client.Close()
	c := newTestClient(t, client)
	proxy.CutEveryMatching(3, redistest.CutReply, func(name string) bool { return name == "EVALSHA" })
	const n = 30
	ids := make(map[string]bool)
	for i := range n {
		task := manyTasks(1)[0]
		task.ID = ""
		want := TaskPending
		if i%2 == 0 {
			task.In, want = time.Hour, TaskScheduled
		}
		info, err := c.Enqueue(t.Context(), task)
		if err != nil || info.State != want || info.Queue != task.Queue || info.Type != task.Type {
			t.Fatalf("task %d: %+v, error %v; want it %s", i, info, err, want)
		}
		ids[info.ID] = true
	}
	if proxy.Cuts() == 0 {
		t.Fatal("no connection was cut")
	}
	pending, scheduled := s.Client.LLen(t.Context(), "asynq:{q}:pending").Val(), s.Client.ZCard(t.Context(), "asynq:{q}:scheduled").Val()
	if len(ids) != n || pending != n/2 || scheduled != n/2 {
		t.Errorf("%d ids, %d tasks pending and %d scheduled; want %d, and each once", len(ids), pending, scheduled, n)
	}
	proxy.CutEvery(0, redistest.CutReply)
	task := manyTasks(1)[0]
	task.ID = "mine"
	if _, err := c.Enqueue(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Enqueue(t.Context(), task); !errors.Is(err, ErrTaskExists) {
		t.Errorf("an id of the caller's that exists: error %v, want ErrTaskExists", err)
	}
}

// When the connection is lost for good, the outcomes tell apart what was sent and what was not.
func TestEnqueueManyTellsWhatIsUncertain(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.StartProxy(t, s.Addr)
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	c := newTestClient(t, client)
	tasks := manyTasks(batchTasks + 1)
	if _, err := c.EnqueueMany(t.Context(), tasks[:1]); err != nil {
		t.Fatalf("enqueue one: %v", err)
	}
	proxy.Stop()
	outcomes, err := c.EnqueueMany(t.Context(), tasks)
	var uncertain *UncertainError
	if !errors.As(err, &uncertain) {
		t.Errorf("error %v, want an UncertainError", err)
	}
	for i, o := range outcomes[:batchTasks] {
		if !errors.As(o.Err, &uncertain) || errors.Is(o.Err, ErrNotSent) {
			t.Fatalf("outcome %d of the pipeline that broke: %v, want an UncertainError", i, o.Err)
		}
	}
	if last := outcomes[batchTasks].Err; !errors.Is(last, ErrNotSent) || errors.As(last, &uncertain) {
		t.Errorf("the outcome behind it: %v, want ErrNotSent", last)
	}
}

func TestEnqueueManySendsNothingAfterItsContext(t *testing.T) {
	client := embedded(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	outcomes, err := newTestClient(t, client).EnqueueMany(ctx, manyTasks(2))
	if !errors.Is(err, context.Canceled) || !errors.Is(outcomes[0].Err, ErrNotSent) || !errors.Is(outcomes[1].Err, ErrNotSent) {
		t.Errorf("error %v, outcomes %+v, want context.Canceled and ErrNotSent", err, outcomes)
	}
	if n := client.Exists(t.Context(), "asynq:{q}:pending").Val(); n != 0 {
		t.Error("a task was sent")
	}
}
