package queue_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/queue"
)

// taken makes a pending task look as if a worker process had taken it.
func (b *bench) taken(id, owner string, lease time.Time, opts ...asynq.Option) {
	b.t.Helper()
	b.enqueue(id, opts...)
	ctx := b.t.Context()
	since := b.redis.HGet(ctx, key("t:"+id), "pending_since").Val()
	b.redis.HDel(ctx, key("t:"+id), "pending_since")
	b.redis.HSet(ctx, key("t:"+id), "state", "active", "since", since)
	if owner != "" {
		b.redis.HSet(ctx, key("t:"+id), "owner", owner)
	}
	b.redis.LRem(ctx, key("pending"), 0, id)
	b.redis.LPush(ctx, key("active"), id)
	if !lease.IsZero() {
		b.redis.Do(ctx, "ZADD", key("lease"), lease.Unix(), id)
	}
}

func (b *bench) recoverer(maxRecoveries int) *queue.Recoverer {
	return queue.NewRecoverer(b.redis, queue.RecovererOptions{MaxRecoveries: maxRecoveries, ViewTTL: time.Hour, Logger: slog.New(slog.DiscardHandler)})
}

func TestRecoverOfADeadProcess(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	soon := time.Now().Add(time.Hour)
	b.taken("mine", "worker-dead|n1|7", soon, asynq.MaxRetry(0))
	b.redis.HSet(ctx, key("t:mine"), "crashes", 2, "suspicions", 1)
	b.taken("later", "worker-dead|n2|1", soon)
	b.taken("other", "worker-live|n1|7", soon)
	since := b.redis.HGet(ctx, key("t:mine"), "since").Val()

	got, err := b.recoverer(3).OfProcess(ctx, testQueue, "worker-dead", "n1")
	if err != nil || got != (queue.Recovered{Requeued: 1}) {
		t.Fatalf("recovered %+v, %v; want 1 requeued", got, err)
	}
	if info := b.eventuallyState("mine", "pending"); info.Retried != 0 {
		t.Errorf("the recovered task was retried %d times, want 0", info.Retried)
	}
	hash := b.redis.HGetAll(ctx, key("t:mine")).Val()
	if hash["recoveries"] != "1" || hash["pending_since"] != since || hash["owner"] != "" {
		t.Errorf("the recovered task is %v, want 1 recovery, its age and no owner", hash)
	}
	if hash["crashes"] != "2" || hash["suspicions"] != "1" {
		t.Errorf("the recovered task is %v, want what its process did left alone", hash)
	}
	b.eventuallyState("later", "active")
	b.eventuallyState("other", "active")

	if got, err = b.recoverer(3).OfPredecessors(ctx, testQueue, "worker-dead", "n3"); err != nil || got.Requeued != 1 {
		t.Fatalf("recovered of predecessors %+v, %v; want 1 requeued", got, err)
	}
	b.eventuallyState("later", "pending")
	b.start(echo)
	b.waitFinished("later")
	b.waitFinished("mine")
}

// What a dead process has left beside its tasks goes too, but not what its successor has written.
func TestRecoverOfADeadProcessRemovesItsRecord(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	const record = "runqy:{" + testQueue + "}:cycle:worker-dead"
	b.redis.HSet(ctx, record, "nonce", "n2", "number", 7)
	for _, c := range []struct {
		nonce string
		left  int64
	}{{"n1", 1}, {"n2", 0}} {
		if _, err := b.recoverer(3).OfProcess(ctx, testQueue, "worker-dead", c.nonce); err != nil {
			t.Fatal(err)
		}
		if got := b.redis.Exists(ctx, record).Val(); got != c.left {
			t.Errorf("after the recovery of %s there are %d records of n2, want %d", c.nonce, got, c.left)
		}
	}
}

func TestRecoverArchivesWhatLosesItsWorkerTooOften(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	b.taken("poison", "worker-dead|n1|7", time.Now().Add(time.Hour), asynq.MaxRetry(9))
	b.redis.HSet(ctx, key("t:poison"), "recoveries", 2, "crashes", 1)
	b.redis.HSet(ctx, queue.ViewKey("poison"), "queue", testQueue, "state", "active", "type", "echo")
	got, err := b.recoverer(3).OfProcess(ctx, testQueue, "worker-dead", "n1")
	if err != nil || got != (queue.Recovered{Archived: 1}) {
		t.Fatalf("recovered %+v, %v", got, err)
	}
	info := b.eventuallyState("poison", "archived")
	const text = "archived: its worker vanished for the 3rd time (worker.max_recoveries is 3); last worker: worker-dead"
	if info.LastErr != text || time.Since(info.LastFailedAt).Abs() > time.Minute || info.MaxRetry != 9 || string(info.Payload) != `{"n":"poison"}` {
		t.Errorf("archived as %+v", info)
	}
	view := b.redis.HGetAll(ctx, queue.ViewKey("poison")).Val()
	if view["state"] != "archived" || view["error"] != text || view["recoveries"] != "3" || view["type"] != "echo" {
		t.Errorf("its view is %v, want it archived with the error", view)
	}
	if ttl := b.redis.TTL(ctx, queue.ViewKey("poison")).Val(); ttl <= 0 {
		t.Errorf("its view lives for %v", ttl)
	}
}

// Three preemptions say nothing about a task, whatever it did to its process before.
func TestRecoveriesAreNoCrashes(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	for _, c := range []struct {
		id               string
		most, before     int
		archivedOrQueued string
	}{
		{"few", 10, 8, "pending"}, {"many", 10, 9, "archived"}, {"unlimited", 0, 1000, "pending"},
	} {
		b.taken(c.id, "worker-dead|"+c.id+"|1", time.Now().Add(time.Hour), asynq.MaxRetry(25))
		b.redis.HSet(ctx, key("t:"+c.id), "recoveries", c.before, "crashes", 2, "suspicions", 50)
		if _, err := b.recoverer(c.most).OfProcess(ctx, testQueue, "worker-dead", c.id); err != nil {
			t.Fatal(err)
		}
		b.eventuallyState(c.id, c.archivedOrQueued)
	}
}

func TestRecoverLapsedLeavesTheLivingAlone(t *testing.T) {
	b := newBench(t)
	past, future := time.Now().Add(-time.Minute), time.Now().Add(time.Minute)
	b.taken("silent-lapsed", "worker-silent|n|1", past)
	b.taken("silent-leased", "worker-silent|n|2", future)
	b.taken("silent-none", "worker-silent|n|3", time.Time{})
	b.taken("live-lapsed", "worker-live|n|1", past)
	b.taken("live-none", "worker-live|n|2", time.Time{})
	b.taken("unknown-none", "", time.Time{})
	b.taken("unknown-leased", "", future)
	alive := func(worker, nonce string) bool { return worker == "worker-live" && nonce == "n" }
	got, err := b.recoverer(3).Lapsed(t.Context(), testQueue, alive, 5*time.Second)
	if err != nil || got.Requeued != 3 {
		t.Fatalf("recovered %+v, %v", got, err)
	}
	for id, state := range map[string]string{
		"silent-lapsed": "pending", "silent-leased": "active", "silent-none": "pending",
		"live-lapsed": "active", "live-none": "active", "unknown-none": "pending", "unknown-leased": "active",
	} {
		b.eventuallyState(id, state)
	}
}

// Two recoverers at once, and the old worker still working: one more run, nothing twice.
func TestRecoveredTaskRunsOnceMoreAndTheOldRunIsFenced(t *testing.T) {
	b := newBench(t)
	entered, release := b.startHeld(`"old"`, nil)
	b.enqueue("r1", asynq.MaxRetry(0))
	<-entered
	b.gate.set(false)
	results := make(chan int, 2)
	for range 2 {
		go func() {
			got, err := b.recoverer(3).OfProcess(context.Background(), testQueue, "worker-abc123", "nonce1")
			if err != nil {
				t.Errorf("recover: %v", err)
			}
			results <- got.Requeued
		}()
	}
	if n := <-results + <-results; n != 1 {
		t.Errorf("requeued %d times", n)
	}
	close(release)
	<-b.fenced
	b.eventuallyState("r1", "pending")
	if b.redis.Exists(t.Context(), "asynq:result:r1").Val() != 0 {
		t.Error("the old run left its result")
	}
}

func TestAssignedTasksRunFirstAndOnTheirWorkerOnly(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	directs := queue.NewDirects(b.redis)
	assign := func(id, worker string) {
		t.Helper()
		b.enqueue(id, asynq.ProcessIn(time.Hour))
		if err := directs.Assign(ctx, testQueue, id, worker); err != nil {
			t.Fatal(err)
		}
	}
	b.gate.set(false)
	b.start(echo)
	b.enqueue("shared")
	assign("direct", "worker-abc123")
	assign("elsewhere1", "worker-other")
	assign("elsewhere2", "worker-other")
	if got, err := queue.NewDepths(b.redis, []string{testQueue}, 0).Read(ctx); err != nil || got[testQueue].Pending != 4 {
		t.Errorf("depth %+v, %v; want 4 pending, those for one worker included", got, err)
	}
	b.gate.set(true)
	b.waitFinished("direct")
	b.waitFinished("shared")
	assign("wakes", "worker-abc123") // the worker is idle now
	b.waitFinished("wakes")
	b.eventuallyState("elsewhere1", "pending")

	fate := func(id string) queue.DirectFate {
		if id == "worker-abc123" {
			return queue.DirectKept
		}
		return queue.DirectReturned
	}
	if n, err := directs.Return(ctx, testQueue, fate); err != nil || n != 2 {
		t.Fatalf("returned %d, %v", n, err)
	}
	b.waitFinished("elsewhere1")
	b.waitFinished("elsewhere2")
	if err := directs.Assign(ctx, testQueue, "elsewhere1", "worker-abc123"); err == nil {
		t.Error("a task that is gone was assigned")
	}
	if n := b.redis.Exists(ctx, fmt.Sprintf("runqy:{%s}:direct:worker-other", testQueue)).Val(); n != 0 {
		t.Error("the other worker's list is left")
	}
}
