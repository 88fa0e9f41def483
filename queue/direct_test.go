package queue_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/queue"
)

func directOf(worker string) string { return fmt.Sprintf("runqy:{%s}:direct:%s", testQueue, worker) }

func directs() string { return fmt.Sprintf("runqy:{%s}:directs", testQueue) }

// claim moves the next task to a worker's list, as the worker's blocked connection does.
func (b *bench) claim(worker string) {
	b.t.Helper()
	ctx := b.t.Context()
	b.redis.SAdd(ctx, directs(), worker)
	if err := b.redis.LMove(ctx, key("pending"), directOf(worker), "RIGHT", "LEFT").Err(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) assign(id, worker string) {
	b.t.Helper()
	b.enqueue(id, asynq.ProcessIn(time.Hour))
	if err := queue.NewDirects(b.redis).Assign(b.t.Context(), testQueue, id, worker); err != nil {
		b.t.Fatal(err)
	}
}

// inOrder returns the ids of a list from the first to be taken to the last.
func (b *bench) inOrder(list string) []string {
	ids := b.redis.LRange(b.t.Context(), list, 0, -1).Val()
	slices.Reverse(ids)
	return ids
}

func always(f queue.DirectFate) func(string) queue.DirectFate {
	return func(string) queue.DirectFate { return f }
}

func TestWhatADeadWorkerHasNotTakenGoesBackInOrder(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	for _, id := range []string{"p1", "p2", "p3", "p4"} {
		b.enqueue(id)
	}
	b.claim("worker-dead")
	b.assign("a1", "worker-dead")
	b.claim("worker-dead")
	b.assign("a2", "worker-dead")
	if got := b.redis.HGet(ctx, key("t:a1"), "assigned_to").Val(); got != "worker-dead" {
		t.Errorf("a1 is assigned to %q", got)
	}
	if b.redis.HExists(ctx, key("t:p1"), "assigned_to").Val() {
		t.Error("a claim counts as assigned")
	}
	d := queue.NewDirects(b.redis)
	if n, err := d.Return(ctx, testQueue, always(queue.DirectKept)); err != nil || n != 0 {
		t.Fatalf("kept: %d went back, %v", n, err)
	}
	if n, err := d.Return(ctx, testQueue, always(queue.DirectReturned)); err != nil || n != 4 {
		t.Fatalf("%d went back, %v; want 4", n, err)
	}
	if got, want := b.inOrder(key("pending")), []string{"p1", "a1", "p2", "a2", "p3", "p4"}; !slices.Equal(got, want) {
		t.Errorf("pending in order %v, want %v", got, want)
	}
	if b.redis.HExists(ctx, key("t:a1"), "assigned_to").Val() {
		t.Error("a task that went back is assigned still")
	}
	if !b.redis.SIsMember(ctx, directs(), "worker-dead").Val() {
		t.Error("the worker has left directs, while it may claim")
	}
}

// A worker is killed while its connection waits: Redis serves that connection until it notices.
func TestAClaimByADeadConnectionIsReturned(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	d := queue.NewDirects(b.redis)
	b.redis.SAdd(ctx, directs(), "worker-dead")
	// Raw, so that nothing but the server ends the wait: the process behind it does nothing any more.
	conn, err := net.Dial("tcp", b.redis.Options().Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "BLMOVE %s %s RIGHT LEFT 60\r\n", key("pending"), directOf("worker-dead")); err != nil {
		t.Fatal(err)
	}
	b.eventually(func() string {
		if !strings.Contains(b.redis.Info(ctx, "clients").Val(), "blocked_clients:1\r\n") {
			return "the connection does not wait"
		}
		return ""
	})
	if n, err := d.Return(ctx, testQueue, always(queue.DirectReturned)); err != nil || n != 0 {
		t.Fatalf("the recovery: %d went back, %v", n, err)
	}
	b.enqueue("late")
	if got := b.inOrder(directOf("worker-dead")); !slices.Equal(got, []string{"late"}) {
		t.Fatalf("the dead connection has claimed %v, want the task", got)
	}
	if n, err := d.Return(ctx, testQueue, always(queue.DirectClosed)); err != nil || n != 1 {
		t.Fatalf("the next sweep: %d went back, %v; want the claim", n, err)
	}
	b.eventuallyState("late", "pending")
	if got := b.inOrder(key("pending")); !slices.Equal(got, []string{"late"}) {
		t.Errorf("pending is %v, want the task", got)
	}
	if b.redis.SIsMember(ctx, directs(), "worker-dead").Val() {
		t.Error("the worker stands in directs for ever")
	}
}

func TestAWorkerThatLeavesTakesNothingAlong(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	const many = 2500 // more than one script gives back
	pipe := b.redis.Pipeline()
	want := make([]string, 0, many)
	for i := range many {
		id := fmt.Sprint("t", i)
		want = append(want, id)
		pipe.LPush(ctx, directOf("worker-stops"), id)
	}
	pipe.SAdd(ctx, directs(), "worker-stops", "worker-goes-on")
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	n, err := queue.NewDirects(b.redis).Leave(ctx, testQueue, "worker-stops", "n1")
	if err != nil || n != many {
		t.Fatalf("%d went back, %v; want %d", n, err, many)
	}
	if got := b.inOrder(key("pending")); !slices.Equal(got, want) {
		t.Errorf("%d pending, or in another order; want %d", len(got), many)
	}
	if got := b.redis.SMembers(ctx, directs()).Val(); !slices.Equal(got, []string{"worker-goes-on"}) {
		t.Errorf("directs is %v, want the other worker alone", got)
	}
}

func TestAssigningTwiceIsOnce(t *testing.T) {
	b := newBench(t)
	b.assign("a", "worker-1")
	d := queue.NewDirects(b.redis)
	if err := d.Assign(t.Context(), testQueue, "a", "worker-1"); err != nil {
		t.Errorf("the same once more, as after a lost answer: %v", err)
	}
	if err := d.Assign(t.Context(), testQueue, "a", "worker-2"); err == nil {
		t.Error("another worker was given the task as well")
	}
	if got := b.inOrder(directOf("worker-1")); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the list is %v, want the task once", got)
	}
}

// everything returns what stands in Redis.
func everything(t *testing.T, c *redis.Client) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, k := range c.Keys(context.Background(), "*").Val() {
		out[k] = c.Dump(t.Context(), k).Val()
	}
	return out
}
