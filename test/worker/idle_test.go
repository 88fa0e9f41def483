package worker

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// An idle worker with its views on, everything included, costs Redis at most 8 commands a second and 6 connections.
func TestIdleCost(t *testing.T) {
	t.Parallel()
	const window = 10 * time.Second
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{ // the defaults, which the harness makes faster
		"heartbeat.interval": "5s", "heartbeat.ttl": "15s",
	})
	q.PythonPID(w.ID)
	q.Result(q.Enqueue("echo", 1))
	q.AwaitEmpty()
	q.AwaitHeartbeat(w.ID, "processed=1", "active_task=")
	time.Sleep(2 * time.Second) // what a task leaves to do is done
	before, _ := commands(t, q)
	time.Sleep(window) // what is measured
	after, connections := commands(t, q)
	rate := float64(after-before-1) / window.Seconds() // one was the first question's
	t.Logf("%.1f commands a second, %d connections", rate, connections)
	if rate > 8 {
		t.Errorf("an idle worker costs %.1f commands a second, want 8 at most", rate)
	}
	if connections > 6 {
		t.Errorf("an idle worker has %d connections, want 6 at most", connections)
	}
	w.Stop()
}

// commands returns how many commands Redis has done so far, those of scripts included, and how many connections others
// have.
func commands(t *testing.T, q *harness.Queue) (total int, others int) {
	t.Helper()
	info, err := q.Redis.Info(t.Context(), "all").Result()
	if err != nil {
		t.Fatalf("ask for the figures of Redis: %v", err)
	}
	for line := range strings.Lines(info) {
		line = strings.TrimSpace(line)
		if calls, found := strings.CutPrefix(line, "connected_clients:"); found {
			if others, err = strconv.Atoi(calls); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
		if !strings.HasPrefix(line, "cmdstat_") {
			continue
		}
		_, calls, _ := strings.Cut(line, ":calls=")
		calls, _, _ = strings.Cut(calls, ",")
		n, err := strconv.Atoi(calls)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		total += n
	}
	return total, others - int(q.Redis.PoolStats().TotalConns)
}
