package queue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/queue"
)

// Leases, ages and due times are Redis' own, so a machine whose clock is wrong by ten minutes takes nothing from a
// healthy worker and leaves nothing with a dead one.
func TestOnlyRedisTellsTheTime(t *testing.T) {
	for _, shift := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		t.Run(fmt.Sprint(shift), func(t *testing.T) {
			b := newBench(t)
			server := redistest.StartShifted(t, shift)
			b.redis = server.Client
			b.asynq, b.inspect = asynq.NewClientFromRedisClient(server.Client), asynq.NewInspectorFromRedisClient(server.Client)
			ctx := t.Context()
			theirs := b.redis.Time(ctx).Val()
			b.taken("leased", "worker-dead|n|1", theirs.Add(25*time.Second))
			b.taken("lapsed", "worker-dead|n|2", theirs.Add(-6*time.Second))
			b.taken("beats", "worker-live|n|1", theirs.Add(-time.Hour))
			b.taken("last", "worker-dead|n|3", theirs.Add(-time.Hour))
			b.redis.HSet(ctx, key("t:lapsed"), "since", "")
			b.redis.HSet(ctx, key("t:last"), "recoveries", 2)
			alive := func(worker, _ string) bool { return worker == "worker-live" }
			got, err := b.recoverer(3).Lapsed(ctx, testQueue, alive, 5*time.Second)
			if err != nil || got != (queue.Recovered{Requeued: 1, Archived: 1}) {
				t.Fatalf("recovered %+v, %v; want one requeued and one archived", got, err)
			}
			b.eventuallyState("leased", "active")
			b.eventuallyState("beats", "active")
			near := func(what string, at time.Time) {
				t.Helper()
				if at.Sub(theirs).Abs() > 2*time.Minute {
					t.Errorf("%s: %v, want about %v", what, at, theirs)
				}
			}
			sinceOf := func(id string) time.Time {
				ns, _ := strconv.ParseInt(b.redis.HGet(ctx, key("t:"+id), "pending_since").Val(), 10, 64)
				return time.Unix(0, ns)
			}
			near("the age of a recovered task", sinceOf("lapsed"))
			near("the archived task's failure", b.eventuallyState("last", "archived").LastFailedAt)
			near("the archive's entry", time.Unix(int64(b.redis.ZScore(ctx, key("archived"), "last").Val()), 0))

			b.enqueue("assigned", asynq.ProcessIn(time.Hour))
			if err := queue.NewDirects(b.redis).Assign(ctx, testQueue, "assigned", "worker-abc123"); err != nil {
				t.Fatal(err)
			}
			near("the age of an assigned task", sinceOf("assigned"))
			if err := queue.NewAdmin(b.redis).Retry(ctx, testQueue, "last"); err != nil {
				t.Fatal(err)
			}
			near("the age of a task that is run again", sinceOf("last"))
		})
	}
}

// For how long a task has waited is told by Redis' clock too, whatever that of the worker says.
func TestTheWaitIsByRedisClock(t *testing.T) {
	for _, shift := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		t.Run(fmt.Sprint(shift), func(t *testing.T) {
			b := newBench(t)
			server := redistest.StartShifted(t, shift)
			b.redis, b.url = server.Client, server.URL
			b.asynq = asynq.NewClientFromRedisClient(server.Client)
			ctx := t.Context()
			waited := make(chan time.Duration, 1)
			b.opts.Observer.Began = func(_ *queue.Task, d time.Duration) { waited <- d }
			b.enqueue("t")
			b.redis.HSet(ctx, key("t:t"), "pending_since", b.redis.Time(ctx).Val().Add(-2*time.Minute).UnixNano())
			b.start(func(context.Context, *queue.Task) (json.RawMessage, error) { return nil, nil })
			b.waitFinished("t")
			if d := <-waited; d < 2*time.Minute || d > 3*time.Minute {
				t.Errorf("it has waited for %v, want about 2m", d)
			}
		})
	}
}
