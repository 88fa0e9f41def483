package bench

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
)

const (
	idleTasks = 200
	idleGap   = 20 * time.Millisecond
	echoFile  = `from runqy import task, run

@task
def echo(payload):
    return payload

run()
`
)

// BenchmarkIdleLatency enqueues 200 tasks 20 ms apart to an idle worker, one at a time, and measures from just before
// the enqueue until the result is in Redis. Beside it, in the same run, asynq's own server with a handler in Go that
// writes the same result: what its polling costs.
func BenchmarkIdleLatency(b *testing.B) {
	server := redistest.Start(b)
	startWorker(b, server.URL, "ours")
	ours := make([]time.Duration, 0, idleTasks*b.N)
	for b.Loop() {
		ours = append(ours, latencies(b, server.Client, "ours", idleTasks, idleGap)...)
	}
	startAsynq(b, server.Client, "peer")
	// The peer is idle at each enqueue, or its polling would not show.
	peer := latencies(b, server.Client, "peer", idleTasks/10, 1100*time.Millisecond)

	b.ReportMetric(0, "ns/op") // the loop's own figure says nothing
	b.ReportMetric(milliseconds(percentile(ours, 50)), "p50-ms")
	b.ReportMetric(milliseconds(percentile(ours, 99)), "p99-ms")
	b.ReportMetric(milliseconds(percentile(peer, 50)), "asynq-p50-ms")
	b.ReportMetric(float64(percentile(peer, 50))/float64(percentile(ours, 50)), "times-faster")
}

// BenchmarkIdleCommands counts what an idle worker sends to Redis, as MONITOR shows it, and how much of it is the
// heartbeat's and asynq's own.
func BenchmarkIdleCommands(b *testing.B) {
	server := redistest.Start(b)
	startWorker(b, server.URL, "ours")
	latencies(b, server.Client, "ours", 1, 0) // it has started
	const window = 20 * time.Second
	all, queueOnly := 0, 0
	for b.Loop() {
		for _, line := range monitor(b, server.Addr, window) {
			all++
			if strings.Contains(line, "{ours}") {
				queueOnly++
			}
		}
	}
	total := window.Seconds() * float64(b.N)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(queueOnly)/total, "queue-commands/s")
	b.ReportMetric(float64(all)/total, "all-commands/s")
}

// startWorker builds and starts the program with one echo handler, and stops it at the end.
func startWorker(b *testing.B, redisURL, queue string) {
	b.Helper()
	runWorker(b, buildProgram(b), redisURL, queue)
}

// buildProgram builds the program and returns its path.
func buildProgram(b *testing.B) string {
	b.Helper()
	program := filepath.Join(b.TempDir(), "runqy-worker")
	if out, err := exec.Command("go", "build", "-o", program, "../cmd/runqy-worker").CombinedOutput(); err != nil {
		b.Fatalf("build the program: %v\n%s", err, out)
	}
	return program
}

// runWorker starts a worker with one echo handler and further settings, and stops it at the end.
func runWorker(b *testing.B, program, redisURL, queue string, settings ...string) {
	b.Helper()
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.py"), []byte(echoFile), 0o600); err != nil {
		b.Fatalf("write the handler: %v", err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		b.Fatalf("make the log file: %v", err)
	}
	cmd := exec.Command(program, "run", "--redis", redisURL)
	cmd.Env = append(os.Environ(), "RUNQY_QUEUES="+queue, "RUNQY_PYTHON_DIR="+dir,
		"RUNQY_HEALTH_LISTEN=127.0.0.1:0", "RUNQY_HEALTH_SOCKET="+filepath.Join(dir, "s"))
	cmd.Env = append(cmd.Env, settings...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		b.Fatalf("start the worker: %v", err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			text, _ := os.ReadFile(log.Name())
			b.Errorf("the worker: %v\n%s", err, text)
		}
	})
}

// startAsynq runs asynq's server with its defaults in this process.
func startAsynq(b *testing.B, client *redis.Client, queue string) {
	b.Helper()
	server := asynq.NewServerFromRedisClient(client, asynq.Config{
		Concurrency: 1, Queues: map[string]int{queue: 1}, LogLevel: asynq.FatalLevel,
	})
	handler := asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		return client.Set(ctx, "asynq:result:"+id, t.Payload(), time.Hour).Err()
	})
	if err := server.Start(handler); err != nil {
		b.Fatalf("start asynq's server: %v", err)
	}
	b.Cleanup(server.Shutdown)
}

// latencies enqueues tasks with a gap between the result of one and the next, and waits for each result by polling
// Redis as fast as it answers.
func latencies(b *testing.B, client *redis.Client, queue string, n int, gap time.Duration) []time.Duration {
	b.Helper()
	producer := asynq.NewClientFromRedisClient(client)
	out := make([]time.Duration, 0, n)
	for i := range n {
		id := fmt.Sprintf("%s-%d-%d", queue, i, time.Now().UnixNano())
		begun := time.Now()
		if _, err := producer.Enqueue(asynq.NewTask("echo", []byte(`{"n":1}`)), asynq.Queue(queue), asynq.TaskID(id)); err != nil {
			b.Fatalf("enqueue: %v", err)
		}
		for client.Exists(b.Context(), "asynq:result:"+id).Val() == 0 {
			if time.Since(begun) > 30*time.Second {
				b.Fatalf("task %s has no result after 30 s", id)
			}
		}
		out = append(out, time.Since(begun))
		time.Sleep(gap)
	}
	return out
}

// monitor returns the commands that clients send to the server within a time; what runs inside scripts is left out.
func monitor(b *testing.B, addr string, window time.Duration) []string {
	b.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatalf("connect to Redis: %v", err)
	}
	stop := time.AfterFunc(window, sync.OnceFunc(func() { _ = conn.Close() }))
	defer stop.Stop()
	if _, err := fmt.Fprint(conn, "MONITOR\r\n"); err != nil {
		b.Fatalf("send MONITOR: %v", err)
	}
	var lines []string
	for scanner := bufio.NewScanner(conn); scanner.Scan(); {
		if line := scanner.Text(); line != "+OK" && !strings.Contains(line, " lua]") {
			lines = append(lines, line)
		}
	}
	return lines
}

func percentile(d []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
