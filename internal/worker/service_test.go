package worker

import (
	"errors"
	"testing"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/health"
)

func TestServiceText(t *testing.T) {
	for _, c := range []struct {
		report health.Report
		want   string
	}{
		{health.Report{Healthy: true, Status: heartbeat.StatusRunning}, "Running: takes the tasks of gpu, cpu."},
		{health.Report{Status: heartbeat.StatusRunning, Reasons: []string{"Redis does not answer.", "Nor does the database."}},
			"Running, but takes no tasks: Redis does not answer. Nor does the database."},
		{health.Report{Status: heartbeat.StatusDegraded, Reasons: []string{"It was killed by signal 9."}}, "Degraded: It was killed by signal 9."},
		{health.Report{Healthy: true, Status: heartbeat.StatusRestarting}, "Restarting."},
		{health.Report{Status: heartbeat.StatusDraining, Reasons: []string{"It drains."}},
			"Draining: takes no more tasks, and ends when those that run are done."},
	} {
		if got := serviceText(c.report, []string{"gpu", "cpu"}); got != c.want {
			t.Errorf("%+v: %q, want %q", c.report, got, c.want)
		}
	}
}

// The start is over when Redis has refused once, though nothing has begun.
func TestAStartThatIsHeldIsOver(t *testing.T) {
	s := &status{changed: make(chan struct{})}
	if s.held() {
		t.Error("nothing has been tried yet")
	}
	s.waiting("waiting for Redis", errors.New("refused"))
	if !s.held() {
		t.Error("Redis has refused, and the start counts as under way")
	}
	s.begin()
	if s.held() {
		t.Error("it has begun, and counts as held")
	}
}
