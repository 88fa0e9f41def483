package alerting

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// While workers take thousands of tasks a second, the age of the oldest is never read as 0, and the alert on it fires.
func TestAlertOnLatencyUnderLoad(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	// The one that is scraped takes none of them: its slot is taken.
	w := watched(t, server.URL, "loaded", harness.Settings{"worker.queues": []string{harness.QueueName, "loaded"}, "worker.shutdown_timeout": "100ms"})
	q.PythonPID(w.ID)
	q.AwaitHeartbeat(w.ID, "active_task="+q.Enqueue("sleep", map[string]any{"seconds": 600}))
	defer takeAndReturn(t, server.Client, "loaded")()

	prometheus := startPrometheus(t, prometheusConfig(t, []string{w.Addr()}, ""))
	prometheus.answers(t, `ALERTS{alertname="RunqyQueueLatencyHigh",alertstate="firing",queue="loaded"}`)
	// The scrapes since it has been pending.
	const age = `min_over_time(runqy_queue_latency_seconds{queue="loaded"}[5s])`
	lowest := fmt.Sprint(prometheus.answers(t, age)[0].Value[1])
	if v, err := strconv.ParseFloat(lowest, 64); err != nil || v < 60 {
		t.Errorf("%s is %s, want more than the minute that every task has waited", age, lowest)
	}
}

// takeAndReturn does to a queue what fast workers do, without an end: the oldest task is taken, by one script as a
// dequeue is, and another comes back. All have waited for a minute. It goes on until the function that it returns is
// called.
func takeAndReturn(t *testing.T, client *redis.Client, queue string) (stop func()) {
	t.Helper()
	prefix := "asynq:{" + queue + "}:"
	since := time.Now().Add(-time.Minute).UnixNano()
	for i := range 200 {
		id := strconv.Itoa(i)
		client.HSet(t.Context(), prefix+"t:"+id, "msg", "m", "state", "pending", "pending_since", since)
		client.LPush(t.Context(), prefix+"pending", id)
	}
	turn := redis.NewScript(`
		local id = redis.call("RPOPLPUSH", KEYS[1], KEYS[2])
		redis.call("HDEL", ARGV[1] .. id, "pending_since")
		if redis.call("LLEN", KEYS[2]) > 100 then
			local back = redis.call("RPOPLPUSH", KEYS[2], KEYS[1])
			redis.call("HSET", ARGV[1] .. back, "pending_since", ARGV[2])
		end
		return id`)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for {
			if err := turn.Run(ctx, client, []string{prefix + "pending", prefix + "active"}, prefix+"t:", since).Err(); err != nil {
				done <- err
				return
			}
		}
	}()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("take a task and return another: %v", err)
		}
	}
}
