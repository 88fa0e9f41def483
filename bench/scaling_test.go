package bench

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// Figures for docs/scaling.md: what tasks and workers cost Redis.

// BenchmarkThroughput has one and then two workers empty a queue of echo tasks that is full when they start: tasks/s
// between the first and the last, and the processor time that Redis spends on a task.
func BenchmarkThroughput(b *testing.B) {
	const tasks, warm = 20_000, 2_000
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			program := buildProgram(b)
			server := redistest.Start(b)
			for b.Loop() {
				fill(b, server.Client, "ours", tasks, 100)
				for range workers {
					runWorker(b, program, server.URL, "ours", "RUNQY_CONCURRENCY=16", "RUNQY_LOG_LEVEL=warn")
				}
				left(b, server.Client, "ours", tasks-warm)
				begun, cpu := time.Now(), usage(b, server.Client)
				connections := server.Client.Info(b.Context(), "clients").Val()
				left(b, server.Client, "ours", 0)
				took := time.Since(begun)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric((tasks-warm)/took.Seconds(), "tasks/s")
				b.ReportMetric(float64((usage(b, server.Client)-cpu).Microseconds())/(tasks-warm), "redis-us/task")
				b.ReportMetric(number(b, connections, "connected_clients"), "connections")
			}
		})
	}
}

// BenchmarkPendingMemory measures what a pending task takes of Redis' memory, with a payload of 100 bytes and of 1,000.
func BenchmarkPendingMemory(b *testing.B) {
	const tasks = 50_000
	for _, size := range []int{100, 1000} {
		b.Run(fmt.Sprintf("payload=%d", size), func(b *testing.B) {
			for b.Loop() {
				server := redistest.Start(b)
				before := number(b, server.Client.Info(b.Context(), "memory").Val(), "used_memory")
				fill(b, server.Client, "ours", tasks, size)
				after := number(b, server.Client.Info(b.Context(), "memory").Val(), "used_memory")
				b.ReportMetric(0, "ns/op")
				b.ReportMetric((after-before)/tasks, "bytes/task")
			}
		})
	}
}

// BenchmarkIdleWorkers measures what idle workers on one queue cost Redis, each: commands as MONITOR shows them,
// processor time, connections and memory.
func BenchmarkIdleWorkers(b *testing.B) {
	const workers, window = 20, 20 * time.Second
	program := buildProgram(b)
	server := redistest.Start(b)
	before := number(b, server.Client.Info(b.Context(), "memory").Val(), "used_memory")
	for i := range workers {
		runWorker(b, program, server.URL, "ours", fmt.Sprint("RUNQY_WORKER_ID=w", i))
	}
	for begun := time.Now(); server.Client.ZCard(b.Context(), "runqy:workers").Val() < workers; time.Sleep(100 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			b.Fatal("not all workers have started")
		}
	}
	latencies(b, server.Client, "ours", 20, 0)
	for b.Loop() {
		clients := number(b, server.Client.Info(b.Context(), "clients").Val(), "connected_clients") - 1
		cpu := usage(b, server.Client)
		lines := monitor(b, server.Addr, window)
		used := usage(b, server.Client) - cpu
		memory := number(b, server.Client.Info(b.Context(), "memory").Val(), "used_memory") - before
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(len(lines))/window.Seconds()/workers, "commands/s/worker")
		b.ReportMetric(used.Seconds()/window.Seconds()/workers*1000*100, "redis-cpu-%/1000-workers")
		b.ReportMetric(clients/workers, "connections/worker")
		b.ReportMetric(memory/workers/1024, "KiB/worker")
	}
}

// fill enqueues n tasks with a payload of so many bytes.
func fill(b *testing.B, client *redis.Client, queue string, n, size int) {
	b.Helper()
	payload := []byte(`{"data":"` + string(bytes.Repeat([]byte("x"), size-len(`{"data":""}`))) + `"}`)
	var running sync.WaitGroup
	const producers = 8
	for range producers {
		running.Go(func() {
			producer := asynq.NewClientFromRedisClient(client)
			for range n / producers {
				if _, err := producer.Enqueue(asynq.NewTask("echo", payload), asynq.Queue(queue)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
}

// left waits until no more than n tasks are pending, and none active where n is 0.
func left(b *testing.B, client *redis.Client, queue string, n int64) {
	b.Helper()
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		pending := client.LLen(b.Context(), "asynq:{"+queue+"}:pending").Val()
		if pending <= n && (n > 0 || client.LLen(b.Context(), "asynq:{"+queue+"}:active").Val() == 0) {
			return
		}
		if time.Since(begun) > 2*time.Minute {
			b.Fatalf("%d tasks are left after 2 minutes", pending)
		}
	}
}

// usage is the processor time that the server has taken so far.
func usage(b *testing.B, client *redis.Client) time.Duration {
	b.Helper()
	info := client.Info(b.Context(), "cpu").Val()
	return time.Duration((number(b, info, "used_cpu_user") + number(b, info, "used_cpu_sys")) * float64(time.Second))
}

// number reads one figure of INFO.
func number(b *testing.B, info, name string) float64 {
	b.Helper()
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				b.Fatalf("INFO %s: %v", name, err)
			}
			return v
		}
	}
	b.Fatalf("INFO does not tell %s", name)
	return 0
}
