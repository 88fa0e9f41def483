package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/queue"
)

func key(name string) string { return "asynq:{" + testQueue + "}:" + name }

// Every acknowledgement of a run whose owner stamp has changed is refused, and leaves the other run alone.
func TestLateOutcomesAreFenced(t *testing.T) {
	outcomes := map[string]struct {
		opts []asynq.Option
		err  error
	}{
		"done":      {nil, nil},
		"complete":  {[]asynq.Option{asynq.Retention(time.Hour)}, nil},
		"unique":    {[]asynq.Option{asynq.Unique(time.Hour)}, nil},
		"retry":     {nil, errors.New("boom")},
		"archive":   {nil, &queue.PermanentError{Message: "boom"}},
		"untouched": {nil, queue.ErrUntouched},
	}
	for name, c := range outcomes {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			entered, release := b.startHeld(`"late"`, c.err)
			b.enqueue("f1", c.opts...)
			<-entered
			ctx := t.Context()
			b.redis.HSet(ctx, key("t:f1"), "owner", "worker-other|n|1")
			close(release)
			select {
			case <-b.fenced:
			case <-time.After(30 * time.Second):
				t.Fatal("nothing was fenced")
			}
			b.stop()
			if info := b.eventuallyState("f1", "active"); info.LastErr != "" {
				t.Errorf("the other run's task has error %q", info.LastErr)
			}
			if b.redis.Exists(ctx, "asynq:result:f1").Val() != 0 {
				t.Error("a late result was stored")
			}
			if n := b.redis.ZCard(ctx, key("lease")).Val(); n != 1 {
				t.Errorf("%d leases", n)
			}
			if len(b.fenced) != 0 {
				t.Error("one late outcome was counted twice")
			}
		})
	}
}

// A run whose lease ended may have been moved to retry by asynq's recoverer, which knows no owners. Its result comes
// too late: the task will run again.
func TestResultOfALostRunIsNotKept(t *testing.T) {
	b := newBench(t)
	entered, release := b.startHeld(`"late"`, nil)
	b.enqueue("r1")
	<-entered
	ctx := t.Context()
	b.redis.LRem(ctx, key("active"), 0, "r1")
	b.redis.ZRem(ctx, key("lease"), "r1")
	b.redis.HSet(ctx, key("t:r1"), "state", "retry")
	b.redis.Do(ctx, "ZADD", key("retry"), time.Now().Add(time.Hour).Unix(), "r1")
	close(release)
	select {
	case <-b.fenced:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing was fenced")
	}
	b.eventuallyState("r1", "retry")
	if got, err := b.redis.Get(ctx, queue.ResultKey("r1")).Result(); err == nil {
		t.Errorf("the late result %s was stored", got)
	}
}

// A task without an owner was handed out by nobody we know: fenced too.
func TestMissingOwnerIsFenced(t *testing.T) {
	b := newBench(t)
	entered, release := b.startHeld(`null`, nil)
	b.enqueue("m1")
	<-entered
	b.redis.HDel(t.Context(), key("t:m1"), "owner")
	close(release)
	<-b.fenced
	b.eventuallyState("m1", "active")
}

// asynq's recoverer may touch only what no worker of ours has taken and what holds no valid lease.
func TestRecovererIsGuardedByTheLease(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	take := func(id string, lease time.Time) {
		b.enqueue(id, asynq.MaxRetry(3))
		b.redis.LRem(ctx, key("pending"), 0, id)
		b.redis.LPush(ctx, key("active"), id)
		b.redis.HSet(ctx, key("t:"+id), "state", "active")
		b.redis.Do(ctx, "ZADD", key("lease"), lease.Unix(), id)
	}
	take("lapsed", time.Now().Add(-time.Hour))
	take("valid", time.Now().Add(time.Hour))
	take("stamped", time.Now().Add(-time.Hour)) // is our own paths' to recover
	b.redis.HSet(ctx, key("t:stamped"), "owner", "worker-dead|n|1")
	b.gate.set(false)
	b.start(echo) // the recoverer runs at once
	if info := b.eventuallyState("lapsed", "retry"); info.Retried != 1 {
		t.Errorf("the lapsed task was retried %d times, want 1", info.Retried)
	}
	b.eventuallyState("valid", "active")
	b.eventuallyState("stamped", "active")
}

// A dequeue whose answer was lost leaves a task in active that nobody holds. The audit gives it back.
func TestLostDequeueIsFoundByTheAudit(t *testing.T) {
	b := newBench(t)
	b.opts.BeatInterval = 100 * time.Millisecond
	proxy := redistest.StartProxy(t, strings.TrimSuffix(strings.TrimPrefix(b.url, "redis://"), "/0"))
	b.url = proxy.URL
	b.gate.set(false)
	b.start(echo)
	b.enqueue("lost", asynq.MaxRetry(0))
	// The first EVALSHA is refused for an unknown script, the EVAL that follows pops the task.
	proxy.CutEveryMatching(1, redistest.CutReply, func(name string) bool { return strings.EqualFold(name, "eval") })
	b.gate.set(true)
	b.eventually(func() string {
		if proxy.Cuts() == 0 {
			return "no answer was lost"
		}
		return ""
	})
	proxy.CutEvery(0, redistest.CutReply)
	b.waitFinished("lost")
	b.eventuallyState("lost", "")
}

// Every tenth command breaks its connection, half of them after Redis has carried it out.
func TestBreakingConnectionLosesNothing(t *testing.T) {
	const tasks = 2000
	b := newBench(t)
	proxy := redistest.StartProxy(t, strings.TrimSuffix(strings.TrimPrefix(b.url, "redis://"), "/0"))
	b.url = proxy.URL
	b.opts.Concurrency = 8
	b.opts.BeatInterval = time.Second
	b.opts.BeatTTL = 3 * time.Second
	var mu sync.Mutex
	runs := make(map[string]int)
	b.opts.Observer.Finished = nil
	b.start(func(_ context.Context, task *queue.Task) (json.RawMessage, error) {
		mu.Lock()
		defer mu.Unlock()
		runs[task.ID]++
		return json.RawMessage(`1`), nil
	})
	proxy.CutEvery(10, redistest.CutAlternate)
	for i := range tasks {
		b.enqueue(fmt.Sprintf("t%04d", i), asynq.MaxRetry(0))
	}
	ctx := t.Context()
	deadline := time.Now().Add(3 * time.Minute)
	for b.redis.LLen(ctx, key("pending")).Val()+b.redis.LLen(ctx, key("active")).Val() > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d pending, %d active", b.redis.LLen(ctx, key("pending")).Val(), b.redis.LLen(ctx, key("active")).Val())
		}
		time.Sleep(20 * time.Millisecond)
	}
	if proxy.Cuts() < 20 {
		t.Errorf("only %d connections were broken", proxy.Cuts())
	}
	if n := b.redis.ZCard(ctx, key("lease")).Val(); n != 0 {
		t.Errorf("%d leases are left", n)
	}
	if n := b.redis.ZCard(ctx, key("archived")).Val() + b.redis.ZCard(ctx, key("retry")).Val(); n != 0 {
		t.Errorf("%d tasks were archived or are in retry", n)
	}
	again := 0
	mu.Lock()
	defer mu.Unlock()
	for i := range tasks {
		id := fmt.Sprintf("t%04d", i)
		if runs[id] == 0 {
			t.Errorf("%s never ran", id)
		}
		again += runs[id] - 1
		if b.redis.Get(ctx, "asynq:result:"+id).Val() != "1" {
			t.Errorf("%s has no result", id)
		}
	}
	t.Logf("%d broken connections, %d of %d tasks ran again", proxy.Cuts(), again, tasks)
}

// Redis goes away in the middle of a task and comes back within the lease: acknowledged once, by the re-send.
func TestAcknowledgementSurvivesAnOutage(t *testing.T) {
	b := newBench(t)
	proxy := redistest.StartProxy(t, strings.TrimSuffix(strings.TrimPrefix(b.url, "redis://"), "/0"))
	b.url = proxy.URL
	entered, release := b.startHeld(`1`, nil)
	b.enqueue("o1")
	<-entered
	proxy.Stop()
	close(release)
	time.Sleep(200 * time.Millisecond) // long enough for some tries to fail
	proxy.Resume()
	b.waitFinished("o1")
	b.eventuallyState("o1", "")
	if len(b.fenced) != 0 {
		t.Error("the acknowledgement counted as fenced")
	}
}

func TestIdleWorkerAsksLittle(t *testing.T) {
	b := newBench(t)
	b.opts.Queues = map[string]int{testQueue: 1, "other": 2}
	b.opts.BeatInterval = 5 * time.Second
	b.opts.BeatTTL = 15 * time.Second
	b.start(echo)
	b.eventually(func() string {
		if b.redis.Exists(t.Context(), "runqy:views:other").Val() == 0 {
			return "the consumer has not started"
		}
		return ""
	})
	total := func() (n int) {
		for name, calls := range commandCount(t, b.redis) {
			if name != "info" {
				n += calls
			}
		}
		return n
	}
	const window = 6 * time.Second // covers every timer once
	before := total()
	time.Sleep(window)
	perQueue := float64(total()-before) / window.Seconds() / 2
	t.Logf("%.1f commands a second and queue, those inside scripts included", perQueue)
	if calls := perQueue; calls > 20 {
		t.Errorf("an idle consumer runs %.1f commands a second and queue", calls)
	}
}

func TestUnreadableAndGhostTasksDoNotStopTheQueue(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	b.redis.LPush(ctx, key("pending"), "ghost")
	b.redis.HSet(ctx, key("t:garbled"), "msg", "\xff\xff\xff", "state", "pending", "pending_since", "1")
	b.redis.LPush(ctx, key("pending"), "garbled")
	b.start(echo)
	b.enqueue("sound")
	b.waitFinished("sound")
	if n := b.redis.LLen(ctx, key("active")).Val(); n > 1 {
		t.Errorf("%d active", n)
	}
	if state := b.redis.HGet(ctx, key("t:garbled"), "state").Val(); state != "archived" {
		t.Errorf("the unreadable task is %s", state)
	}
	if b.redis.Exists(ctx, key("t:ghost")).Val() != 0 {
		t.Error("a hash was made for an id without a task")
	}
}

func TestPlainListsMatchTheQueue(t *testing.T) {
	b := newBench(t)
	release := make(chan struct{})
	b.start(func(_ context.Context, _ *queue.Task) (json.RawMessage, error) {
		<-release
		return nil, nil
	})
	for i := range 4 {
		b.enqueue(fmt.Sprint("l", i))
	}
	ctx := t.Context()
	b.eventually(func() string {
		pending := b.redis.LRange(ctx, "asynq:"+testQueue+":pending", 0, -1).Val()
		active := b.redis.LRange(ctx, "asynq:"+testQueue+":active", 0, -1).Val()
		if fmt.Sprint(pending, active) != "[l3 l2 l1] [l0]" {
			return fmt.Sprintf("pending %v, active %v", pending, active)
		}
		if view := b.redis.HGetAll(ctx, "asynq:t:l2").Val(); view["state"] != "pending" || view["payload"] != `{"n":"l2"}` {
			return fmt.Sprintf("view of a pending task: %v", view)
		}
		return ""
	})
	if ttl := b.redis.PTTL(ctx, "asynq:"+testQueue+":pending").Val(); ttl <= 0 || ttl > time.Second {
		t.Errorf("the copy lives for %v", ttl)
	}
	close(release)
	b.eventually(func() string {
		if n := b.redis.Exists(ctx, "asynq:"+testQueue+":pending", "asynq:"+testQueue+":active").Val(); n != 0 {
			return "copies of empty lists are left"
		}
		return ""
	})
}

// Between two beats the copies follow what this worker does.
func TestPlainListsFollowATask(t *testing.T) {
	b := newBench(t)
	b.opts.BeatInterval, b.opts.BeatTTL = time.Hour, 3*time.Hour
	release := make(chan struct{})
	b.start(func(_ context.Context, _ *queue.Task) (json.RawMessage, error) {
		<-release
		return nil, nil
	})
	ctx := t.Context()
	b.eventually(func() string {
		if b.redis.Exists(ctx, "runqy:views:"+testQueue).Val() == 0 {
			return "the first beat has not been"
		}
		return ""
	})
	length := func(list string) int64 { return b.redis.LLen(ctx, "asynq:"+testQueue+":"+list).Val() }
	b.enqueue("f1")
	b.enqueue("f2")
	b.eventually(func() string {
		if length("active") != 1 || length("pending") != 1 {
			return fmt.Sprintf("%d active, %d pending", length("active"), length("pending"))
		}
		return ""
	})
	close(release)
	b.eventually(func() string {
		if n := length("active") + length("pending"); n != 0 {
			return fmt.Sprintf("%d entries are left", n)
		}
		return ""
	})
}

func TestDepths(t *testing.T) {
	b := newBench(t)
	depths := queue.NewDepths(b.redis, []string{testQueue, "unused"}, 0)
	b.enqueue("a")
	b.enqueue("b", asynq.ProcessIn(time.Hour))
	ctx := t.Context()
	b.redis.HSet(ctx, key("t:a"), "pending_since", time.Now().Add(-time.Minute).UnixNano())
	if err := b.inspect.PauseQueue(testQueue); err != nil {
		t.Fatal(err)
	}
	got, err := depths.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	d := got[testQueue]
	if d.Pending != 1 || d.Scheduled != 1 || !d.Paused || d.Latency < time.Minute || d.Latency > 2*time.Minute {
		t.Errorf("depth %+v, want 1 pending for a minute, 1 scheduled, paused", d)
	}
	if got["unused"] != (status.Depth{}) {
		t.Errorf("a queue nobody has used reads %+v, want zeros", got["unused"])
	}
	b.redis.Set(ctx, "asynq:{unused}:retry", "not a set", 0)
	if got, err = depths.Read(ctx); err != nil || got["unused"].Err == nil || got[testQueue].Err != nil {
		t.Errorf("one queue's failure: %+v, %v", got, err)
	}
}
