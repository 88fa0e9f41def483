package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/queue"
)

const testQueue = "inference_default"

// gate is a queue.Gate that a test opens and closes.
type gate struct {
	mu      sync.Mutex
	open    bool
	changed chan struct{}
}

func newGate(open bool) *gate { return &gate{open: open, changed: make(chan struct{})} }

func (g *gate) Open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func (g *gate) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = open
	close(g.changed)
	g.changed = make(chan struct{})
}

// bench is one consumer on one Redis, with what a test needs to look at it.
type bench struct {
	t        testing.TB
	redis    *redis.Client // straight to the server, whatever stands in front of the consumer
	asynq    *asynq.Client
	inspect  *asynq.Inspector
	opts     queue.Options
	url      string // what the consumer connects to
	open     func(mods ...func(*redis.UniversalOptions)) redis.UniversalClient
	gate     *gate
	fenced   chan string
	finished chan string // task id, and "!" in front when the attempt failed
	abort    func()
	handler  *handler
	consumer *queue.Consumer
	stop     func() // drains; called at the end of the test at the latest
}

func newBench(t testing.TB) *bench {
	t.Helper()
	server := redistest.Start(t)
	b := &bench{
		t: t, redis: server.Client, url: server.URL, gate: newGate(true),
		fenced: make(chan string, 100), finished: make(chan string, 10_000), abort: func() {},
	}
	b.open = func(mods ...func(*redis.UniversalOptions)) redis.UniversalClient {
		target, err := redisclient.Parse(b.url)
		if err != nil {
			t.Fatal(err)
		}
		return target.Open(mods...)
	}
	b.asynq = asynq.NewClientFromRedisClient(server.Client)
	b.inspect = asynq.NewInspectorFromRedisClient(server.Client)
	b.opts = queue.Options{
		WorkerID: "worker-abc123", Nonce: "nonce1", Queues: map[string]int{testQueue: 1}, Concurrency: 1,
		ShutdownTimeout: 20 * time.Second, MaxTaskCrashes: 3, ResultTTL: time.Hour, Views: true,
		BeatInterval: 200 * time.Millisecond, BeatTTL: time.Second, Logger: slog.New(slog.DiscardHandler),
		Observer: queue.Observer{
			Finished: func(t *queue.Task, _ time.Duration, failed bool) {
				mark := ""
				if failed {
					mark = "!"
				}
				b.finished <- mark + t.ID
			},
			Fenced: func(q string) { b.fenced <- q },
		},
	}
	return b
}

// start runs a consumer with the bench's options until stop.
func (b *bench) start(h handlerFunc) {
	b.t.Helper()
	clients := queue.Clients{Client: b.open(), NoRetry: b.open(queue.NoRetry), Blocking: b.open(queue.Blocking)}
	b.handler = newHandler(h, b.opts.Concurrency)
	var err error
	b.consumer, err = queue.NewConsumer(clients, b.handler, b.gate, b.opts)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- b.consumer.Run(ctx, func() { b.abort() }) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				b.t.Errorf("Run: %v", err)
			}
		case <-time.After(90 * time.Second):
			b.t.Error("Run does not return")
		}
		_ = clients.Client.Close()
		_ = clients.NoRetry.Close()
		b.handler.running.Wait()
	})
	b.t.Cleanup(b.stop)
}

// startHeld runs a consumer whose first task is with its handler from when entered is closed until release is, and then
// ends with that result or error.
func (b *bench) startHeld(result string, err error) (entered <-chan struct{}, release chan<- struct{}) {
	b.t.Helper()
	in, out := make(chan struct{}), make(chan struct{})
	b.start(func(_ context.Context, _ *queue.Task) (json.RawMessage, error) {
		close(in)
		<-out
		return json.RawMessage(result), err
	})
	return in, out
}

func (b *bench) enqueue(id string, opts ...asynq.Option) {
	b.t.Helper()
	opts = append([]asynq.Option{asynq.Queue(testQueue), asynq.TaskID(id)}, opts...)
	if _, err := b.asynq.Enqueue(asynq.NewTask("echo", []byte(`{"n":"`+id+`"}`), opts...)); err != nil {
		b.t.Fatalf("enqueue %s: %v", id, err)
	}
}

func (b *bench) waitFinished(want string) {
	b.t.Helper()
	select {
	case got := <-b.finished:
		if got != want {
			b.t.Fatalf("finished %s, want %s", got, want)
		}
	case <-time.After(30 * time.Second):
		b.t.Fatalf("%s does not finish", want)
	}
}

// eventually waits until check returns the empty string, which says what is still missing.
func (b *bench) eventually(check func() string) {
	b.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		missing := check()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatal(missing)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// eventuallyState waits until asynq sees the task in a state; "" means gone.
func (b *bench) eventuallyState(id, state string) *asynq.TaskInfo {
	b.t.Helper()
	var info *asynq.TaskInfo
	b.eventually(func() string {
		var err error
		info, err = b.inspect.GetTaskInfo(testQueue, id)
		switch {
		case errors.Is(err, asynq.ErrTaskNotFound) && state == "":
			return ""
		case err != nil:
			return fmt.Sprintf("task %s: %v, want state %q", id, err, state)
		case info.State.String() != state:
			return fmt.Sprintf("task %s is %s, want %q", id, info.State, state)
		}
		return ""
	})
	return info
}

func echo(_ context.Context, t *queue.Task) (json.RawMessage, error) { return t.Payload, nil }

func TestTaskRunsAndLeavesItsResult(t *testing.T) {
	b := newBench(t)
	b.enqueue("t1", asynq.MaxRetry(7), asynq.Timeout(time.Minute))
	seen := make(chan queue.Task, 1)
	b.start(func(_ context.Context, task *queue.Task) (json.RawMessage, error) {
		seen <- *task
		return json.RawMessage(`{"ok":true}`), nil
	})
	b.waitFinished("t1")
	b.eventuallyState("t1", "")
	task := <-seen
	if task.Type != "echo" || task.Queue != testQueue || task.MaxRetry != 7 || task.Timeout != time.Minute ||
		string(task.Payload) != `{"n":"t1"}` || time.Until(task.Deadline) > time.Minute || task.Enqueued.IsZero() {
		t.Errorf("the handler saw %+v, want the task as it was enqueued, with a deadline", task)
	}
	ctx := t.Context()
	if got := b.redis.Get(ctx, "asynq:result:t1").Val(); got != `{"ok":true}` {
		t.Errorf("result %q, want {\"ok\":true}", got)
	}
	if ttl := b.redis.TTL(ctx, "asynq:result:t1").Val(); ttl <= 0 || ttl > time.Hour {
		t.Errorf("the result lives for %v", ttl)
	}
	b.eventually(func() string {
		view := b.redis.HGetAll(ctx, "asynq:t:t1").Val()
		if view["state"] != "completed" {
			return fmt.Sprintf("view: %v", view)
		}
		for field, want := range map[string]string{
			"id": "t1", "type": "echo", "queue": testQueue, "payload": `{"n":"t1"}`, "retried": "0", "max_retry": "7",
			"timeout": "60", "worker": "worker-abc123", "error": "", "crashes": "0",
		} {
			if view[field] != want {
				t.Errorf("view %s is %q, want %q", field, view[field], want)
			}
		}
		for _, field := range []string{"enqueued", "started", "completed"} {
			if _, err := time.Parse(time.RFC3339, view[field]); err != nil {
				t.Errorf("view %s: %v", field, err)
			}
		}
		return ""
	})
	if ttl := b.redis.TTL(ctx, "asynq:t:t1").Val(); ttl <= 0 {
		t.Errorf("the view lives for %v", ttl)
	}
}

func TestRetentionKeepsTheTaskWithItsResult(t *testing.T) {
	b := newBench(t)
	b.enqueue("kept", asynq.Retention(time.Hour))
	b.start(echo)
	info := b.eventuallyState("kept", "completed")
	if string(info.Result) != `{"n":"kept"}` {
		t.Errorf("asynq's result is %q", info.Result)
	}
}

func TestFailuresRetryArchiveAndSayWhen(t *testing.T) {
	b := newBench(t)
	b.start(func(_ context.Context, task *queue.Task) (json.RawMessage, error) {
		switch task.ID {
		case "plain":
			return nil, errors.New("boom \xff\xfe")
		case "permanent":
			return nil, &queue.PermanentError{Message: "never again"}
		case "later":
			return nil, &queue.RetryError{Delay: 90 * time.Minute, Message: "come back"}
		case "long":
			return nil, errors.New(strings.Repeat("é", 1<<20))
		}
		return nil, nil
	})
	for _, id := range []string{"plain", "permanent", "later", "long"} {
		b.enqueue(id, asynq.MaxRetry(3))
	}
	b.enqueue("last", asynq.MaxRetry(0))
	if info := b.eventuallyState("plain", "retry"); info.LastErr != "boom \uFFFD" || info.Retried != 1 {
		t.Errorf("plain: error %q, retried %d; want boom, 1", info.LastErr, info.Retried)
	}
	if info := b.eventuallyState("permanent", "archived"); info.LastErr != "never again" {
		t.Errorf("permanent: error %q, want never again", info.LastErr)
	}
	if info := b.eventuallyState("later", "retry"); time.Until(info.NextProcessAt) < 89*time.Minute {
		t.Errorf("later: the next attempt is at %v, want 90 minutes from now", info.NextProcessAt)
	}
	if info := b.eventuallyState("long", "retry"); len(info.LastErr) > 16<<10 {
		t.Errorf("long: an error of %d bytes was kept, want 16 KiB at most", len(info.LastErr))
	}
	b.eventually(func() string {
		if view := b.redis.HGetAll(t.Context(), "asynq:t:permanent").Val(); view["state"] != "archived" || view["error"] != "never again" {
			return fmt.Sprintf("view of permanent: %v", view)
		}
		return ""
	})
}

func TestCrashesAreCountedAndThePoisonIsArchived(t *testing.T) {
	b := newBench(t)
	b.start(func(_ context.Context, _ *queue.Task) (json.RawMessage, error) {
		return nil, &queue.CrashError{Err: errors.New("exit code 139")}
	})
	b.enqueue("poison", asynq.MaxRetry(25))
	for n := 1; n < 3; n++ {
		b.waitFinished("!poison")
		info := b.eventuallyState("poison", "retry")
		if info.LastErr != "exit code 139" || info.Retried != n {
			t.Errorf("after crash %d: error %q, retried %d; want exit code 139, %d", n, info.LastErr, info.Retried, n)
		}
		if err := b.inspect.RunTask(testQueue, "poison"); err != nil {
			t.Fatal(err)
		}
	}
	b.waitFinished("!poison")
	if info := b.eventuallyState("poison", "archived"); !strings.Contains(info.LastErr, "3 times") {
		t.Errorf("archived with %q", info.LastErr)
	}
	if n := b.redis.HGet(t.Context(), "asynq:{"+testQueue+"}:t:poison", "crashes").Val(); n != "3" {
		t.Errorf("crashes is %q", n)
	}
}

func TestUntouchedTaskGoesBackAsItWas(t *testing.T) {
	b := newBench(t)
	b.opts.BeatInterval, b.opts.BeatTTL = time.Hour, 2*time.Hour // of its readable hashes there is one, at the start
	b.gate.set(false)
	var once sync.Once
	ran := make(chan int, 2)
	b.start(func(_ context.Context, task *queue.Task) (json.RawMessage, error) {
		first := false
		once.Do(func() { first = true })
		if first {
			b.gate.set(false)
			return nil, queue.ErrUntouched
		}
		ran <- task.RetryCount
		return nil, nil
	})
	b.enqueue("back", asynq.MaxRetry(0))
	ctx, key := t.Context(), "asynq:{"+testQueue+"}:t:back"
	since := b.redis.HGet(ctx, key, "pending_since").Val()
	b.gate.set(true)
	b.eventually(func() string {
		if b.gate.Open() || b.redis.HGet(ctx, key, "state").Val() != "pending" {
			return "the task is not pending again"
		}
		return ""
	})
	if got := b.redis.HGet(ctx, key, "pending_since").Val(); got != since {
		t.Errorf("pending since %s, was %s", got, since)
	}
	if b.redis.HExists(ctx, key, "owner").Val() || b.redis.ZCard(ctx, "asynq:{"+testQueue+"}:lease").Val() != 0 {
		t.Error("the task still has an owner or a lease")
	}
	view := b.redis.HGetAll(ctx, queue.ViewKey("back")).Val()
	for _, field := range []string{"enqueued", "suspicions", "recoveries", "error"} {
		delete(view, field)
	}
	if want := map[string]string{
		"id": "back", "queue": testQueue, "state": "pending", "type": "echo", "payload": `{"n":"back"}`,
		"retried": "0", "max_retry": "0", "timeout": "1800", "crashes": "0",
		"started": "", "worker": "", "completed": "", "duration_seconds": "", "progress": "", "progress_message": "",
	}; !maps.Equal(view, want) {
		t.Errorf("view: %v, want %v", view, want)
	}
	b.gate.set(true)
	if retried := <-ran; retried != 0 {
		t.Errorf("it ran with retry count %d", retried)
	}
	b.eventuallyState("back", "")
	if len(b.fenced) != 0 {
		t.Error("requeuing a task counted as fenced")
	}
}

func TestClosedGateLeavesTasksPending(t *testing.T) {
	b := newBench(t)
	b.gate.set(false)
	b.start(echo)
	b.enqueue("g1")
	commands := commandCount(t, b.redis)
	time.Sleep(300 * time.Millisecond) // that nothing happens has no event to wait for
	if n := b.redis.LLen(t.Context(), "asynq:{"+testQueue+"}:pending").Val(); n != 1 {
		t.Fatalf("%d pending", n)
	}
	if asked := commandCount(t, b.redis)["blmove"] - commands["blmove"]; asked != 0 {
		t.Errorf("a closed gate asked Redis %d times", asked)
	}
	b.gate.set(true)
	b.waitFinished("g1")
}

func TestPriorities(t *testing.T) {
	b := newBench(t)
	b.opts.Queues = map[string]int{"low": 1, "high": 9}
	b.opts.StrictPriority = true
	b.gate.set(false)
	for i := range 5 {
		for _, q := range []string{"low", "high"} {
			if _, err := b.asynq.Enqueue(asynq.NewTask("x", nil), asynq.Queue(q), asynq.TaskID(fmt.Sprint(q, i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.start(echo)
	b.gate.set(true)
	for i := range 5 {
		b.waitFinished(fmt.Sprint("high", i))
	}
	for i := range 5 {
		b.waitFinished(fmt.Sprint("low", i))
	}
	// Idle now: a task of either queue wakes it.
	for _, q := range []string{"low", "high"} {
		if _, err := b.asynq.Enqueue(asynq.NewTask("x", nil), asynq.Queue(q), asynq.TaskID("again-"+q)); err != nil {
			t.Fatal(err)
		}
		b.waitFinished("again-" + q)
	}
}

func TestPausedQueueNeitherRunsNorSpins(t *testing.T) {
	b := newBench(t)
	b.enqueue("p1")
	if err := b.inspect.PauseQueue(testQueue); err != nil {
		t.Fatal(err)
	}
	b.start(echo)
	b.eventually(func() string {
		if commandCount(t, b.redis)["evalsha"] == 0 {
			return "nothing was asked"
		}
		return ""
	})
	before := commandCount(t, b.redis)
	time.Sleep(time.Second)
	after := commandCount(t, b.redis)
	if n := after["evalsha"] - before["evalsha"] + after["blmove"] - before["blmove"]; n > 20 {
		t.Errorf("a paused queue cost %d commands in a second", n)
	}
	if err := b.inspect.UnpauseQueue(testQueue); err != nil {
		t.Fatal(err)
	}
	b.waitFinished("p1")
}

// A task whose time is over is cancelled. It holds its slot until the handler is back, whose answer counts.
func TestOverdueTaskHoldsItsSlotUntilTheHandlerIsBack(t *testing.T) {
	for name, c := range map[string]struct {
		opts          []asynq.Option
		answer        error
		state, failed string
	}{
		"result":    {[]asynq.Option{asynq.MaxRetry(0)}, nil, "", ""},
		"error":     {[]asynq.Option{asynq.MaxRetry(1)}, errors.New("boom"), "retry", "context deadline exceeded: boom"},
		"permanent": {[]asynq.Option{asynq.MaxRetry(1)}, &queue.PermanentError{Message: "never"}, "archived", "never"},
		"untouched": {[]asynq.Option{asynq.MaxRetry(0)}, queue.ErrUntouched, "pending", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			entered, cancelled, release := make(chan string, 10), make(chan struct{}), make(chan struct{})
			b.start(func(ctx context.Context, task *queue.Task) (json.RawMessage, error) {
				entered <- task.ID
				if task.ID != "slow" {
					return nil, nil
				}
				<-ctx.Done()
				close(cancelled)
				<-release
				b.gate.set(c.state != "pending")
				return json.RawMessage(`"late"`), c.answer
			})
			b.enqueue("slow", append(c.opts, asynq.Timeout(time.Second))...)
			<-entered
			b.enqueue("next")
			<-cancelled
			if got := b.consumer.Active(); len(got) != 1 || got[0].ID != "slow" {
				t.Errorf("active tasks %v, want slow alone", got)
			}
			if n := b.redis.LLen(t.Context(), key("pending")).Val(); n != 1 {
				t.Errorf("%d pending: the next task was taken although no slot was free", n)
			}
			close(release)
			info := b.eventuallyState("slow", c.state)
			if info != nil && info.LastErr != c.failed {
				t.Errorf("asynq keeps %q, want %q", info.LastErr, c.failed)
			}
			if got := b.redis.Get(t.Context(), queue.ResultKey("slow")).Val(); c.state == "" && got != `"late"` {
				t.Errorf("the result is %q", got)
			}
		})
	}
}

// An attempt that is over before it begins ends as asynq ends it, and leaves its slot.
func TestOverdueBeforeItBegins(t *testing.T) {
	b := newBench(t)
	b.start(func(_ context.Context, task *queue.Task) (json.RawMessage, error) {
		if strings.HasPrefix(task.ID, "over") {
			t.Errorf("the handler got %s", task.ID)
		}
		return nil, nil
	})
	b.enqueue("over-negative", asynq.Timeout(-time.Minute), asynq.MaxRetry(0))
	b.enqueue("over-deadline", asynq.Deadline(time.Now().Add(-time.Minute)), asynq.MaxRetry(2))
	b.enqueue("over-both", asynq.Timeout(time.Second), asynq.Deadline(time.Now().Add(-time.Second)), asynq.MaxRetry(0))
	b.enqueue("next")
	for id, state := range map[string]string{"over-negative": "archived", "over-deadline": "retry", "over-both": "archived"} {
		if info := b.eventuallyState(id, state); info.LastErr != context.DeadlineExceeded.Error() {
			t.Errorf("%s: error %q", id, info.LastErr)
		}
	}
	b.eventuallyState("next", "")
}

func TestSameIDIsNeverHandledTwiceAtOnce(t *testing.T) {
	b := newBench(t)
	b.opts.Concurrency = 2
	entered, release := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	inside, most, runs := 0, 0, 0
	b.start(func(_ context.Context, task *queue.Task) (json.RawMessage, error) {
		if task.ID == "other" {
			return nil, nil
		}
		mu.Lock()
		inside++
		runs++
		first := runs == 1
		most = max(most, inside)
		mu.Unlock()
		if first {
			close(entered)
			<-release
		}
		mu.Lock()
		inside--
		mu.Unlock()
		return nil, nil
	})
	b.enqueue("same", asynq.MaxRetry(5))
	<-entered
	// The task is taken away, and comes back while its handler still runs.
	ctx := t.Context()
	b.redis.LRem(ctx, key("active"), 0, "same")
	b.redis.HDel(ctx, key("t:same"), "owner")
	b.redis.HSet(ctx, key("t:same"), "state", "pending")
	b.redis.LPush(ctx, key("pending"), "same")
	b.enqueue("other")
	b.waitFinished("other")
	close(release)
	b.eventuallyState("same", "")
	mu.Lock()
	defer mu.Unlock()
	if most != 1 || runs != 2 {
		t.Errorf("%d runs, at most %d at once", runs, most)
	}
}

// asynq's ids are unique per queue, the protocol's among all that is with the process.
func TestSameIDInTwoQueuesRunsOneAfterTheOther(t *testing.T) {
	b := newBench(t)
	b.opts.Queues = map[string]int{testQueue: 1, "other": 1}
	b.opts.Concurrency = 3
	entered, release := make(chan string, 10), make(chan struct{})
	b.start(func(_ context.Context, task *queue.Task) (json.RawMessage, error) {
		entered <- task.Queue + "/" + task.ID
		if task.ID == "twin" {
			<-release
		}
		return nil, nil
	})
	end := sync.OnceFunc(func() { close(release) })
	t.Cleanup(end)
	b.enqueue("twin")
	<-entered
	b.enqueue("twin", asynq.Queue("other"))
	b.enqueue("single", asynq.Queue("other")) // is not held up by the one before it
	if got := <-entered; got != "other/single" {
		t.Fatalf("%s entered", got)
	}
	b.waitFinished("single")
	b.eventually(func() string {
		if info, err := b.inspect.GetTaskInfo("other", "twin"); err != nil || info.State != asynq.TaskStatePending {
			return fmt.Sprintf("the second twin is %+v, %v", info, err)
		}
		return ""
	})
	if n := b.redis.LLen(t.Context(), "asynq:{other}:active").Val(); n > 1 {
		t.Errorf("%d active in the other queue", n)
	}
	end()
	b.waitFinished("twin")
	b.waitFinished("twin")
	b.eventually(func() string {
		if n := b.redis.Exists(t.Context(), "asynq:{other}:t:twin", key("t:twin")).Val(); n != 0 {
			return "a twin is not done"
		}
		return ""
	})
}

func TestCancel(t *testing.T) {
	b := newBench(t)
	entered := make(chan struct{})
	b.start(func(ctx context.Context, _ *queue.Task) (json.RawMessage, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	b.enqueue("c1", asynq.MaxRetry(2))
	<-entered
	b.consumer.Cancel("another")
	b.consumer.Cancel("c1")
	b.waitFinished("!c1")
	if info := b.eventuallyState("c1", "retry"); info.LastErr != context.Canceled.Error() {
		t.Errorf("error %q", info.LastErr)
	}
}

func TestScheduledAndUniqueTasks(t *testing.T) {
	b := newBench(t)
	b.start(echo)
	b.enqueue("soon", asynq.ProcessIn(time.Second))
	b.waitFinished("soon")
	b.enqueue("u1", asynq.Unique(time.Hour))
	b.waitFinished("u1")
	b.eventuallyState("u1", "")
	b.enqueue("u1", asynq.Unique(time.Hour)) // the lock went with the task
	b.waitFinished("u1")
}

func TestDrainLetsTasksFinish(t *testing.T) {
	b := newBench(t)
	entered, release := b.startHeld(`1`, nil)
	b.enqueue("d1")
	<-entered
	go func() {
		b.enqueue("d2")
		close(release)
	}()
	b.stop()
	b.eventuallyState("d1", "")
	b.eventuallyState("d2", "pending")
}

func TestDrainLeavesNothingOfTheWorker(t *testing.T) {
	b := newBench(t)
	b.start(echo)
	b.enqueue("d1")
	b.waitFinished("d1")
	b.stop()
	if left := b.redis.Keys(t.Context(), "*"+b.opts.WorkerID+"*").Val(); len(left) > 0 {
		t.Errorf("after a clean stop there are %v", left)
	}
	if b.redis.SIsMember(t.Context(), directs(), b.opts.WorkerID).Val() {
		t.Error("the worker stands in directs")
	}
}

func TestDrainPastItsTimeoutRequeues(t *testing.T) {
	b := newBench(t)
	b.opts.ShutdownTimeout = 50 * time.Millisecond
	aborted := make(chan struct{})
	b.abort = func() { close(aborted) }
	entered := make(chan struct{})
	b.start(func(_ context.Context, _ *queue.Task) (json.RawMessage, error) {
		close(entered)
		<-aborted
		return nil, queue.ErrUntouched
	})
	b.enqueue("d0", asynq.MaxRetry(0))
	<-entered
	b.stop()
	if info := b.eventuallyState("d0", "pending"); info.Retried != 0 || info.LastErr != "" {
		t.Errorf("retried %d, error %q", info.Retried, info.LastErr)
	}
}

// commandCount returns how often each command was called, by the server's own statistics.
func commandCount(t *testing.T, client *redis.Client) map[string]int {
	t.Helper()
	info, err := client.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for line := range strings.Lines(info) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !ok {
			continue
		}
		var n int
		if _, err := fmt.Sscanf(rest, "%d", &n); err == nil {
			counts[name] = n
		}
	}
	return counts
}
