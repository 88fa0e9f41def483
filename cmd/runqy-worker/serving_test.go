package main

import (
	"bytes"
	"context"
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
	for _, tc := range []struct {
		workers []heartbeat.Worker
		want    string
	}{
		{nil, "no live worker serves queue q (see 'runqy-worker workers')"},
		{[]heartbeat.Worker{other, dead}, "no live worker serves queue q (see 'runqy-worker workers')"},
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

func TestEnqueueSaysThatNobodyServesTheQueue(t *testing.T) {
	s := redistest.Start(t)
	for flag, stopped := range map[string]string{"--wait": "it stays in the queue", "--any-free": "the task is not enqueued"} {
		t.Run(flag, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			errOut := &untilText{text: "no live worker serves queue noqueue", seen: cancel}
			a := &app{in: strings.NewReader(""), out: &bytes.Buffer{}, errOut: errOut}
			code := a.run(ctx, []string{"enqueue", "noqueue", "t", flag, "--redis", s.URL})
			got := errOut.String()
			if code != exitFailure || strings.Count(got, errOut.text) != 1 || !strings.Contains(got, stopped) || strings.Contains(got, "context canceled") {
				t.Errorf("exit code %d with the standard error %q, want 1 and one warning", code, got)
			}
		})
	}
}

// The workers of a paused queue are as healthy as those of any other.
func TestEnqueueSaysThatTheQueueIsPaused(t *testing.T) {
	s := redistest.Start(t)
	if err := asynq.NewInspectorFromRedisClient(s.Client).PauseQueue("q"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	errOut := &untilText{text: "queue q is paused: Resume on the dashboard, or 'asynq queue unpause q', lets it go on", seen: cancel}
	a := &app{in: strings.NewReader(""), out: &bytes.Buffer{}, errOut: errOut}
	code := a.run(ctx, []string{"enqueue", "q", "t", "--wait", "--redis", s.URL})
	if got := errOut.String(); code != exitFailure || strings.Count(got, errOut.text) != 1 {
		t.Errorf("exit code %d with the standard error %q, want 1 and one warning", code, got)
	}
}

// untilText calls seen when the text has been written.
type untilText struct {
	bytes.Buffer
	text string
	seen func()
}

func (u *untilText) Write(p []byte) (int, error) {
	n, err := u.Buffer.Write(p)
	if strings.Contains(u.String(), u.text) {
		u.seen()
	}
	return n, err
}
