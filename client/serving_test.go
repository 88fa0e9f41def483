package client

import (
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/internal/status"
)

func TestWhyUnserved(t *testing.T) {
	worker := func(id string, does status.Status, reason, queue string) heartbeat.Worker {
		return heartbeat.Worker{ID: id, Alive: true, Beat: heartbeat.Beat{
			Status: does, Healthy: does == status.Running, Reason: status.ParseReason(reason), Queues: []string{"a", queue},
		}}
	}
	well, other := worker("w1", "running", "", "q"), worker("w2", "running", "", "r")
	broken := worker("worker-abc123", "degraded", "The Python process is gone: exit status 1.\nTraceback", "q")
	starting := worker("w4", "starting", "", "q")
	dead := well
	dead.Alive = false
	many := worker("w5", "running", "", "b")
	many.Beat.Queues = append(many.Beat.Queues, "c", "d", "e", "f")
	replaced := worker("w6", "restarting", "", "q")
	replaced.Beat.Healthy = true // by a planned replacement
	for _, tc := range []struct {
		workers []heartbeat.Worker
		want    string
	}{
		{nil, "no live worker serves queue q (see 'runqy-worker workers')"},
		{[]heartbeat.Worker{other, dead}, "no live worker serves queue q (see 'runqy-worker workers'); they serve a, r"},
		{[]heartbeat.Worker{many}, "no live worker serves queue q (see 'runqy-worker workers'); they serve a, b, c, d, e and 1 more"},
		{[]heartbeat.Worker{replaced}, ""},
		{[]heartbeat.Worker{broken, other}, "the only worker of queue q, worker-abc123, takes no tasks now " +
			"(degraded: The Python process is gone: exit status 1); 'runqy-worker restart worker-abc123' brings it back"},
		{[]heartbeat.Worker{starting}, "the only worker of queue q, w4, takes no tasks now (starting)"},
		{[]heartbeat.Worker{starting, broken}, "none of the 2 workers of queue q takes tasks now (see 'runqy-worker workers'); " +
			"'runqy-worker restart --degraded' brings back those that are degraded"},
		{[]heartbeat.Worker{broken, well}, ""},
	} {
		if got := whyUnserved(tc.workers, "q"); got != tc.want {
			t.Errorf("whyUnserved says\n     %s\nwant %s", got, tc.want)
		}
	}
}

// A program with plain asynq serves a queue too.
func TestUnservedBesideAsynq(t *testing.T) {
	server := redistest.Start(t)
	c, err := NewFromRedis(server.Client, Options{HeartbeatsOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if text, err := c.Unserved(t.Context(), "q"); err != nil || !strings.Contains(text, "no live worker serves queue q") {
		t.Errorf("without workers: %q, %v", text, err)
	}
	plain := asynq.NewServerFromRedisClient(server.Client, asynq.Config{Queues: map[string]int{"q": 1}, LogLevel: asynq.FatalLevel})
	if err := plain.Start(asynq.NewServeMux()); err != nil {
		t.Fatal(err)
	}
	defer plain.Shutdown()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		text, err := c.Unserved(t.Context(), "q")
		if err == nil && text == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("beside an asynq server: %q, %v, want nothing", text, err)
		}
	}
}
