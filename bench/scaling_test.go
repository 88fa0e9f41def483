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
// between the first and the last, the processor time that Redis spends on a task, and the memory that a finished task
// takes until its result and its readable hash expire, with a payload of 100 bytes and the same as its result.
func BenchmarkThroughput(b *testing.B) {
	const tasks, warm = 20_000, 2_000
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			program := buildProgram(b)
			server := redistest.Start(b)
			for b.Loop() {
				empty := number(b, server.Client.Info(b.Context(), "memory").Val(), "used_memory")
				fill(b, server.Client, "ours", tasks, 100)
				for range workers {
					runWorker(b, program, server.URL, "ours", "RUNQY_CONCURRENCY=16", "RUNQY_LOG_LEVEL=warn")
				}
				left(b, server.Client, "ours", tasks-warm)
				begun, cpu := time.Now(), usage(b, server.Client)
				connections := server.Client.Info(b.Context(), "clients").Val()
				left(b, server.Client, "ours", 0)
				took := time.Since(begun)
				kept := number(b, server.Client.Info(b.Context(), "memory").Val(), "used_memory") - empty
				b.ReportMetric(0, "ns/op")
				b.ReportMetric((tasks-warm)/took.Seconds(), "tasks/s")
				b.ReportMetric(float64((usage(b, server.Client)-cpu).Microseconds())/(tasks-warm), "redis-us/task")
				b.ReportMetric(kept/tasks, "bytes/finished-task")
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
// processor time, connections and memory. Then a task comes every 50 ms, and each wakes all that are idle.
func BenchmarkIdleWorkers(b *testing.B) {
	for _, workers := range []int{1, 20} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			for b.Loop() {
				idleWorkers(b, workers)
			}
		})
	}
}

func idleWorkers(b *testing.B, workers int) {
	b.Helper()
	const window, tasks, gap = 20 * time.Second, 200, 50 * time.Millisecond
	program := buildProgram(b)
	server := redistest.Start(b)
	client := server.Client
	before := number(b, client.Info(b.Context(), "memory").Val(), "used_memory")
	cpu := usage(b, client)
	time.Sleep(window)
	alone := usage(b, client) - cpu // what Redis takes for itself
	for i := range workers {
		runWorker(b, program, server.URL, "ours", fmt.Sprint("RUNQY_WORKER_ID=w", i))
	}
	for begun := time.Now(); client.ZCard(b.Context(), "runqy:workers").Val() < int64(workers); time.Sleep(100 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			b.Fatal("not all workers have started")
		}
	}
	latencies(b, client, "ours", 5*workers, 0)

	clients := number(b, client.Info(b.Context(), "clients").Val(), "connected_clients") - 1
	memory := number(b, client.Info(b.Context(), "memory").Val(), "used_memory") - before
	cpu = usage(b, client)
	time.Sleep(window)
	idle := usage(b, client) - cpu - alone
	commands := len(monitor(b, server.Addr, window)) // in a window of its own: MONITOR costs Redis more than the commands

	cpu = usage(b, client)
	producer := asynq.NewClientFromRedisClient(client)
	for begun, i := time.Now(), 0; i < tasks; i++ {
		if _, err := producer.Enqueue(asynq.NewTask("echo", []byte("1")), asynq.Queue("ours")); err != nil {
			b.Fatalf("enqueue: %v", err)
		}
		time.Sleep(time.Until(begun.Add(time.Duration(i+1) * gap)))
	}
	busy := usage(b, client) - cpu - time.Duration(float64(alone+idle)*float64(tasks*gap)/float64(window))

	n := float64(workers)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(commands)/window.Seconds()/n, "commands/s/worker")
	b.ReportMetric(idle.Seconds()/window.Seconds()/n*1000*100, "redis-cpu-%/1000-workers")
	b.ReportMetric(float64(busy.Microseconds())/tasks, "redis-us/task")
	b.ReportMetric(clients/n, "connections/worker")
	b.ReportMetric(memory/n/1024, "KiB/worker")
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
					b.Errorf("enqueue: %v", err)
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
