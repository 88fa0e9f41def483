package queue

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// Not even a Redis that refuses one command of a take has a task twice.
func TestTakeThatRedisRefusesInTheMiddle(t *testing.T) {
	for _, command := range []string{"ltrim", "zadd", "lpush", "hset", "hmget", "hdel"} {
		t.Run(command, func(t *testing.T) {
			b, server := newRefusing(t)
			b.enqueue(3)
			server("-" + command)
			for range 3 {
				b.number++
				_, _ = b.run(t.Context(), cycleRequest{number: b.number, take: 2})
			}
			server("+" + command)
			pending := b.redis.LRange(t.Context(), "asynq:{q}:pending", 0, -1).Val()
			active := b.redis.LRange(t.Context(), "asynq:{q}:active", 0, -1).Val()
			all := slices.Sorted(slices.Values(slices.Concat(pending, active)))
			if !slices.Equal(all, []string{"t1", "t2", "t3"}) {
				t.Errorf("pending %v, active %v", pending, active)
			}
			for _, id := range pending {
				if state := b.redis.HGet(t.Context(), "asynq:{q}:t:"+id, "state").Val(); state != "pending" {
					t.Errorf("%s is pending, and its state %q", id, state)
				}
			}
		})
	}
}

func TestManyTasksInOneCycle(t *testing.T) {
	b := newCycleBench(t, redistest.Start(t).Client) // the embedded one takes half a minute for it
	const n = 9000
	b.enqueue(2)
	raw := b.redis.HGet(t.Context(), "asynq:{q}:t:t1", "msg").Val()
	pipe := b.redis.Pipeline()
	pipe.Del(t.Context(), "asynq:{q}:pending")
	for i := range n {
		id := fmt.Sprint("m", i)
		pipe.HSet(t.Context(), "asynq:{q}:t:"+id, "msg", raw, "state", "pending")
		pipe.LPush(t.Context(), "asynq:{q}:pending", id)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	reply := b.cycle(cycleRequest{take: n - 1})
	if len(reply.taken) != n-1 || reply.taken[0].id != "m0" || reply.taken[n-2].id != fmt.Sprint("m", n-2) || !reply.more {
		t.Errorf("%d taken", len(reply.taken))
	}
}

// newRefusing returns cycles of a user whose rules the test changes.
func newRefusing(t *testing.T) (*cycleBench, func(rules ...string)) {
	t.Helper()
	server := redistest.Start(t)
	set := func(rules ...string) {
		t.Helper()
		args := []any{"ACL", "SETUSER", "limited"}
		for _, r := range rules {
			args = append(args, r)
		}
		if err := server.Client.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set("on", "nopass", "~*", "&*", "+@all")
	b := newCycleBench(t, server.Client)
	o := *server.Client.Options()
	o.Username, o.Password, o.MaxRetries = "limited", "x", -1
	client := redis.NewClient(&o)
	t.Cleanup(func() { _ = client.Close() })
	b.client = client
	return b, set
}
