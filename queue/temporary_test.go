package queue_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/queue"
)

// What Redis refuses for the moment is sent again: a task that succeeded stays one that succeeded.
func TestTemporaryRefusalsAreWaitedFor(t *testing.T) {
	refusals := map[string]struct {
		begin, end func(context.Context, *redis.Client) error
	}{
		"out of memory": {
			func(ctx context.Context, c *redis.Client) error { return c.ConfigSet(ctx, "maxmemory", "1").Err() },
			func(ctx context.Context, c *redis.Client) error { return c.ConfigSet(ctx, "maxmemory", "0").Err() },
		},
		"demoted": {
			func(ctx context.Context, c *redis.Client) error { return c.ReplicaOf(ctx, "127.0.0.1", "1").Err() },
			func(ctx context.Context, c *redis.Client) error { return c.ReplicaOf(ctx, "NO", "ONE").Err() },
		},
		"not enough replicas": {
			func(ctx context.Context, c *redis.Client) error {
				return c.ConfigSet(ctx, "min-replicas-to-write", "1").Err()
			},
			func(ctx context.Context, c *redis.Client) error {
				return c.ConfigSet(ctx, "min-replicas-to-write", "0").Err()
			},
		},
	}
	for name, refusal := range refusals {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			entered, release := b.startHeld(`"kept"`, nil)
			b.enqueue("p1")
			<-entered
			ctx := t.Context()
			if err := refusal.begin(ctx, b.redis); err != nil {
				t.Fatal(err)
			}
			before := commandCount(t, b.redis)["evalsha"]
			close(release)
			b.eventually(func() string {
				if commandCount(t, b.redis)["evalsha"] < before+5 && len(b.finished) == 0 {
					return "the outcome is not sent again"
				}
				return ""
			})
			if err := refusal.end(ctx, b.redis); err != nil {
				t.Fatal(err)
			}
			b.waitFinished("p1")
			b.eventuallyState("p1", "")
			if got := b.redis.Get(ctx, queue.ResultKey("p1")).Val(); got != `"kept"` {
				t.Errorf("result %q, want \"kept\"", got)
			}
		})
	}
}
