package queue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/queue"
)

// BenchmarkConsumer is what a task costs from pending to its end, with a handler that does nothing: the worker without
// its Python process, and Redis.
func BenchmarkConsumer(b *testing.B) {
	bench := newBench(b)
	bench.opts.Concurrency = 100
	bench.finished = make(chan string, b.N)
	bench.gate.set(false)
	bench.start(func(context.Context, *queue.Task) (json.RawMessage, error) { return json.RawMessage("null"), nil })
	task := asynq.NewTask("echo", []byte(`{"a":1}`))
	for i := range b.N {
		if _, err := bench.asynq.Enqueue(task, asynq.Queue(testQueue), asynq.TaskID(fmt.Sprint("task-", i))); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	bench.gate.set(true)
	for range b.N {
		<-bench.finished
	}
	b.StopTimer()
	bench.stop()
}
