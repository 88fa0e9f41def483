package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/queue"
)

func TestAdmin(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	fail := true
	b.start(func(_ context.Context, task *queue.Task) (json.RawMessage, error) {
		if fail {
			return nil, errors.New("ValueError: no " + task.ID + "\nTraceback of it")
		}
		return json.RawMessage(`1`), nil
	})
	admin := queue.NewAdmin(b.redis)
	queues := []string{testQueue, "never_used"}
	if list, err := admin.Failures(ctx, queues, 10); err != nil || len(list) != 0 {
		t.Fatalf("before any failure: %v, %v", list, err)
	}
	b.enqueue("archived", asynq.MaxRetry(0))
	b.waitFinished("!archived")
	b.eventuallyState("archived", "archived")
	b.enqueue("retried", asynq.MaxRetry(3))
	b.waitFinished("!retried")
	b.eventuallyState("retried", "retry")

	list, err := admin.Failures(ctx, queues, 10)
	if err != nil || len(list) != 2 {
		t.Fatalf("Failures = %v, %v; want the two that failed", list, err)
	}
	by := map[string]queue.Failure{list[0].ID: list[0], list[1].ID: list[1]}
	a, r := by["archived"], by["retried"]
	if a.State != status.Archived || a.Retried != 0 || a.MaxRetry != 0 || !a.NextAt.IsZero() || a.Type != "echo" || a.Queue != testQueue {
		t.Errorf("the archived task is %+v, want it archived without retries", a)
	}
	if a.Error != "ValueError: no archived\nTraceback of it" || a.Payload != `{"n":"archived"}` || time.Since(a.FailedAt) > time.Minute {
		t.Errorf("the archived task is %+v, want its whole error, its payload and when it failed", a)
	}
	if r.State != status.Retry || r.Retried != 1 || r.MaxRetry != 3 || r.NextAt.Before(r.FailedAt) {
		t.Errorf("the retried task is %+v, want it in retry after 1 of 3 retries", r)
	}
	if one, err := admin.Failures(ctx, queues, 1); err != nil || len(one) != 1 {
		t.Errorf("Failures of at most one = %v, %v; want one", one, err)
	}

	fail = false
	if err := admin.Retry(ctx, testQueue, "archived"); err != nil {
		t.Fatal(err)
	}
	b.waitFinished("archived")
	if err := admin.Delete(ctx, testQueue, "retried"); err != nil {
		t.Fatal(err)
	}
	if n := b.redis.Exists(ctx, queue.ViewKey("retried")).Val(); n != 0 {
		t.Error("the view of a deleted task is still there")
	}
	b.eventually(func() string {
		if list, err := admin.Failures(ctx, queues, 10); err != nil || len(list) != 0 {
			return "failures are left"
		}
		return ""
	})
	for name, err := range map[string]error{
		"retry of a task that is not there":  admin.Retry(ctx, testQueue, "retried"),
		"delete of a task that is not there": admin.Delete(ctx, testQueue, "retried"),
		"retry in a queue that is not there": admin.Retry(ctx, "never_used", "x"),
	} {
		if err == nil || !strings.Contains(err.Error(), "task") {
			t.Errorf("%s: error %v, want one that names the task", name, err)
		}
	}
}

func TestATaskThatWaitsIsNotDeletedAsFailed(t *testing.T) {
	b := newBench(t)
	b.enqueue("waits")
	admin := queue.NewAdmin(b.redis)
	if err := admin.Delete(t.Context(), testQueue, "waits"); err == nil || !strings.Contains(err.Error(), "it is pending, not failed") {
		t.Errorf("delete of a pending task: %v, want it refused", err)
	}
	if _, err := b.inspect.GetTaskInfo(testQueue, "waits"); err != nil {
		t.Errorf("the pending task is gone: %v", err)
	}
}

// asynq looks for pending tasks in the shared list alone.
func TestTasksForOneWorkerCanBeDeletedAndArchived(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	for _, id := range []string{"deleted", "archived", "stays"} {
		b.assign(id, "worker-1")
	}
	b.enqueue("claimed", asynq.Unique(time.Hour))
	unique := b.redis.HGet(ctx, key("t:claimed"), "unique_key").Val()
	if b.redis.Exists(ctx, unique).Val() != 1 {
		t.Fatalf("the task has no lock %q", unique)
	}
	b.claim("worker-2")
	before := everything(t, b.redis)
	if b.inspect.DeleteTask(testQueue, "deleted") == nil || b.inspect.ArchiveTask(testQueue, "archived") == nil {
		t.Error("asynq's own tools found a task for one worker: the docs say otherwise")
	}
	if after := everything(t, b.redis); !maps.Equal(before, after) {
		t.Error("asynq's own tools changed something")
	}

	admin := queue.NewAdmin(b.redis)
	for name, err := range map[string]error{
		"delete": admin.Delete(ctx, testQueue, "deleted"), "archive": admin.Archive(ctx, testQueue, "archived"),
		"delete of a claim": admin.Delete(ctx, testQueue, "claimed"),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.eventuallyState("deleted", "")
	b.eventuallyState("claimed", "")
	b.eventuallyState("archived", "archived")
	b.eventuallyState("stays", "pending")
	if n := b.redis.Exists(ctx, unique).Val(); n != 0 {
		t.Error("the lock of a deleted task is held")
	}
	if b.redis.HExists(ctx, key("t:archived"), "assigned_to").Val() {
		t.Error("an archived task is assigned still")
	}
	if got := b.inOrder(directOf("worker-1")); !slices.Equal(got, []string{"stays"}) {
		t.Errorf("the worker's list is %v, want what stays", got)
	}
	if admin.Archive(ctx, testQueue, "archived") == nil {
		t.Error("what is archived was archived again")
	}
	b.enqueue("shared")
	if err := admin.Archive(ctx, testQueue, "shared"); err != nil {
		t.Errorf("archive of a task of the shared list: %v", err)
	}
	b.eventuallyState("shared", "archived")
}

// Ours has asynq's effect, sets the age, and forgets the counts.
func TestRunAgainAgreesWithAsynq(t *testing.T) {
	one, two := newBench(t), newBench(t)
	admin := queue.NewAdmin(two.redis)
	counts := []string{"crashes", "suspicions", "recoveries", "postponed"}
	for _, state := range []string{"archived", "scheduled", "retry", "completed", "aggregating"} {
		for _, b := range []*bench{one, two} {
			ctx := t.Context()
			opts := []asynq.Option{asynq.Queue(testQueue), asynq.TaskID(state), asynq.ProcessIn(time.Hour)}
			if state == "aggregating" {
				opts = []asynq.Option{asynq.Queue(testQueue), asynq.TaskID(state), asynq.Group("g")}
			}
			if _, err := b.asynq.Enqueue(asynq.NewTask("t", nil), opts...); err != nil {
				t.Fatal(err)
			}
			if state != "aggregating" && state != "scheduled" {
				b.redis.ZRem(ctx, key("scheduled"), state)
				b.redis.ZAdd(ctx, key(state), redis.Z{Score: 1, Member: state})
				b.redis.HSet(ctx, key("t:"+state), "state", state)
			}
			for _, c := range counts {
				b.redis.HSet(ctx, key("t:"+state), c, 3)
			}
		}
		if err := one.inspect.RunTask(testQueue, state); err != nil {
			t.Fatal(err)
		}
		if err := admin.Retry(t.Context(), testQueue, state); err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	for _, k := range two.redis.Keys(ctx, key("t:*")).Val() {
		ours, theirs := two.redis.HGetAll(ctx, k).Val(), one.redis.HGetAll(ctx, k).Val()
		if ours["pending_since"] == "" {
			t.Errorf("%s has no age", k)
		}
		delete(ours, "pending_since")
		for _, c := range counts {
			delete(theirs, c)
		}
		if !maps.Equal(ours, theirs) {
			t.Errorf("%s is %v, want %v without an age and the counts", k, ours, theirs)
		}
		two.redis.Del(ctx, k)
		one.redis.Del(ctx, k)
	}
	if !maps.Equal(everything(t, two.redis), everything(t, one.redis)) {
		t.Error("the other keys differ from what asynq leaves")
	}
	for _, state := range []string{"archived", "nobody"} {
		if err := admin.Retry(t.Context(), testQueue, state); err == nil {
			t.Errorf("%s was run again, while it is pending or not there", state)
		}
	}
}

func TestPauseAndResume(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	b.start(func(context.Context, *queue.Task) (json.RawMessage, error) { return json.RawMessage(`1`), nil })
	b.enqueue("first")
	b.waitFinished("first")
	admin := queue.NewAdmin(b.redis)
	depths := queue.NewDepths(b.redis, []string{testQueue}, 0)
	for range 2 {
		if err := admin.Pause(ctx, testQueue); err != nil {
			t.Fatal(err)
		}
	}
	b.enqueue("second")
	if d, err := depths.Read(ctx); err != nil || !d[testQueue].Paused || d[testQueue].Pending != 1 {
		t.Errorf("depths %+v, %v; want the queue paused with 1 pending", d, err)
	}
	for range 2 {
		if err := admin.Resume(ctx, testQueue); err != nil {
			t.Fatal(err)
		}
	}
	b.waitFinished("second")
}

func TestAHugeFailureIsShownFromItsView(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	b.start(func(context.Context, *queue.Task) (json.RawMessage, error) { return nil, errors.New("too much") })
	huge := asynq.NewTask("huge", []byte(strings.Repeat("x", 300<<10)))
	if _, err := b.asynq.Enqueue(huge, asynq.Queue(testQueue), asynq.TaskID("h"), asynq.MaxRetry(0)); err != nil {
		t.Fatal(err)
	}
	b.waitFinished("!h")
	b.eventuallyState("h", "archived")
	b.eventually(func() string {
		// A new Admin each time: what was read once is not read again.
		list, err := queue.NewAdmin(b.redis).Failures(ctx, []string{testQueue}, 10)
		if err != nil || len(list) != 1 || list[0].Error != "too much" || list[0].Type != "huge" || len(list[0].Payload) > 5<<10 || list[0].FailedAt.IsZero() {
			return "the failure is not shown"
		}
		return ""
	})
}

func TestFewFailuresAreReadOfManyQueues(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	const most = 5
	var queues []string
	for q := range 20 {
		name := fmt.Sprintf("q%d", q)
		queues = append(queues, name)
		for i := range most {
			id := fmt.Sprintf("%s-%d", name, i)
			if _, err := b.asynq.Enqueue(asynq.NewTask("t", nil), asynq.Queue(name), asynq.TaskID(id)); err != nil {
				t.Fatal(err)
			}
			if err := b.inspect.ArchiveTask(name, id); err != nil {
				t.Fatal(err)
			}
		}
	}
	newest := float64(time.Now().Add(time.Minute).Unix())
	if err := b.redis.ZAddXX(ctx, "asynq:{q7}:archived", redis.Z{Score: newest, Member: "q7-0"}).Err(); err != nil {
		t.Fatal(err)
	}
	monitored := b.redis.ConfigResetStat(ctx).Err()
	list, err := queue.NewAdmin(b.redis).Failures(ctx, queues, most)
	if err != nil || monitored != nil || len(list) != most {
		t.Fatalf("%d failures, %v, %v", len(list), err, monitored)
	}
	if !slices.ContainsFunc(list, func(f queue.Failure) bool { return f.ID == "q7-0" }) {
		t.Errorf("the newest is not among them: %v", list)
	}
	stats := b.redis.Info(ctx, "commandstats").Val()
	if want := fmt.Sprintf("cmdstat_hstrlen:calls=%d,", most); !strings.Contains(stats, want) {
		t.Errorf("more tasks were read than are wanted:\n%s", stats)
	}
}
