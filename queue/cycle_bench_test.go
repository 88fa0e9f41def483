package queue

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// BenchmarkCycle runs cycles that end 100 tasks and take 100. It also reports what a task costs inside Redis, and how
// many commands it is there.
func BenchmarkCycle(b *testing.B) {
	const n = 100
	for _, views := range []bool{true, false} {
		b.Run(fmt.Sprintf("views=%v", views), func(b *testing.B) {
			server := redistest.Start(b)
			ctx := context.Background()
			c := &cycles{
				client: server.Client, scripts: newScripts(), queue: "q", worker: "worker-abc123", nonce: "0123456789abcdef",
				resultTTL: time.Hour, views: views, checksums: newDumpChecksums(),
			}
			producer := asynq.NewClientFromRedisClient(server.Client)
			if _, err := producer.Enqueue(asynq.NewTask("echo", []byte(`{"a":1}`)), asynq.Queue("q"), asynq.TaskID("t")); err != nil {
				b.Fatal(err)
			}
			raw := server.Client.HGet(ctx, taskKey("q", "t"), "msg").Val()
			fill := func(from int) {
				pipe := server.Client.Pipeline()
				for i := range n {
					id := fmt.Sprintf("0a1b2c3d-0000-0000-0000-%012d", from+i)
					pipe.HSet(ctx, taskKey("q", id), "msg", raw, "state", "pending", "pending_since", "1700000000000000000")
					pipe.LPush(ctx, pendingKey("q"), id)
				}
				if _, err := pipe.Exec(ctx); err != nil {
					b.Fatal(err)
				}
			}
			view := []string{
				"id", "0a1b2c3d", "type", "echo", "queue", "q", "state", "completed", "payload", `{"a":1}`, "started", "2026-11-27T21:00:00.000Z",
				"completed", "2026-11-27T21:00:00.000Z", "duration_seconds", "0.000123", "worker", "worker-abc123",
			}
			var items []item
			number, busy := uint64(0), 0.0
			server.Client.Del(ctx, pendingKey("q"))
			b.ReportAllocs()
			b.ResetTimer()
			server.Client.ConfigResetStat(ctx)
			for range b.N {
				b.StopTimer()
				fill(int(number) * n)
				number++
				before := cpuOf(b, server.Client)
				b.StartTimer()
				reply, err := c.run(ctx, cycleRequest{number: number, items: items, take: n})
				b.StopTimer()
				busy += cpuOf(b, server.Client) - before
				b.StartTimer()
				if err != nil || len(reply.taken) != n {
					b.Fatal(len(reply.taken), err)
				}
				items = items[:0]
				for _, t := range reply.taken {
					it := item{id: t.id, owner: t.owner, result: []byte("null"), crashes: -1, suspicions: -1, recoveries: -1, postponed: -1}
					if views {
						it.view, it.viewAnew = view, true
					}
					items = append(items, it)
				}
			}
			b.StopTimer()
			calls := 0.0
			stats := server.Client.Info(ctx, "commandstats").Val()
			for _, m := range regexp.MustCompile(`cmdstat_[^:]*:calls=(\d+)`).FindAllStringSubmatch(stats, -1) {
				count, _ := strconv.ParseFloat(m[1], 64)
				calls += count
			}
			tasks := float64(b.N * n)
			b.ReportMetric(busy/tasks*1e6, "redis-cpu-µs/task")
			b.ReportMetric(calls/tasks-2, "redis-calls/task") // without the two of fill
		})
	}
}

// cpuOf returns the CPU time that a Redis has used, in seconds.
func cpuOf(b *testing.B, client *redis.Client) float64 {
	b.Helper()
	total := 0.0
	info := client.Info(context.Background(), "cpu").Val()
	for _, m := range regexp.MustCompile(`used_cpu_(?:user|sys)_main_thread:([\d.]+)`).FindAllStringSubmatch(info, -1) {
		seconds, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			b.Fatal(err)
		}
		total += seconds
	}
	return total
}
