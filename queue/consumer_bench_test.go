package queue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/queue"
)

// BenchmarkConsumer is what a task costs from pending to its end, with a handler that does nothing: the worker without
// its Python process, and Redis.
func BenchmarkConsumer(b *testing.B) {
	for _, queues := range []int{1, 20} {
		b.Run(fmt.Sprintf("queues=%d", queues), func(b *testing.B) {
			bench := newBench(b)
			bench.opts.Concurrency = 100
			bench.opts.Queues = make(map[string]int)
			for i := range queues {
				bench.opts.Queues[fmt.Sprint(testQueue, i)] = 1
			}
			bench.finished = make(chan string, b.N)
			bench.gate.set(false)
			bench.start(func(context.Context, *queue.Task) (json.RawMessage, error) { return json.RawMessage("null"), nil })
			task := asynq.NewTask("echo", []byte(`{"a":1}`))
			for i := range b.N {
				if _, err := bench.asynq.Enqueue(task, asynq.Queue(fmt.Sprint(testQueue, i%queues)), asynq.TaskID(fmt.Sprint("task-", i))); err != nil {
					b.Fatal(err)
				}
			}
			bench.redis.ConfigResetStat(b.Context())
			b.ReportAllocs()
			b.ResetTimer()
			bench.gate.set(true)
			for range b.N {
				<-bench.finished
			}
			b.StopTimer()
			b.ReportMetric(float64(scripts(b, bench))/float64(b.N), "scripts/task")
			bench.stop()
		})
	}
}

// scripts is how many scripts Redis has run.
func scripts(b *testing.B, bench *bench) (n int) {
	b.Helper()
	stats := bench.redis.Info(b.Context(), "commandstats").Val()
	for _, m := range regexp.MustCompile(`cmdstat_eval(?:sha)?:calls=(\d+)`).FindAllStringSubmatch(stats, -1) {
		calls, err := strconv.Atoi(m[1])
		if err != nil {
			b.Fatal(err)
		}
		n += calls
	}
	return n
}
