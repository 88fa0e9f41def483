package worker

import (
	"errors"
	"testing"

	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/status"
)

func TestServiceText(t *testing.T) {
	for _, c := range []struct {
		report health.Report
		want   string
	}{
		{health.Report{Health: status.Health{Healthy: true, Status: status.Running}}, "Running: takes the tasks of gpu, cpu."},
		{health.Report{Health: status.Health{Status: status.Running, Reasons: reasons("Redis does not answer.", "Nor does the database.")}},
			"Running, but takes no tasks: Redis does not answer. Nor does the database."},
		{health.Report{Health: status.Health{Status: status.Degraded, Reasons: reasons("It was killed by signal 9.")}}, "Degraded: It was killed by signal 9."},
		{health.Report{Health: status.Health{Healthy: true, Status: status.Restarting}}, "Restarting."},
		{health.Report{Health: status.Health{Status: status.Draining, Reasons: reasons("It drains.")}},
			"Draining: takes no more tasks, and ends when those that run are done."},
	} {
		if got := serviceText(c.report, []string{"gpu", "cpu"}); got != c.want {
			t.Errorf("%+v: %q, want %q", c.report, got, c.want)
		}
	}
}

// The start is over when Redis has refused once, though nothing has begun.
func TestAStartThatIsHeldIsOver(t *testing.T) {
	s := &monitor{changed: make(chan struct{})}
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

func reasons(summaries ...string) []status.Reason {
	var out []status.Reason
	for _, s := range summaries {
		out = append(out, status.Reason{Summary: s})
	}
	return out
}
