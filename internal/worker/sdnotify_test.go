package worker

import (
	"errors"
	"testing"

	"github.com/runqy/runqy-worker/internal/status"
)

func TestServiceText(t *testing.T) {
	for _, c := range []struct {
		health status.Health
		want   string
	}{
		{status.Health{Healthy: true, Status: status.Running}, "Running: takes the tasks of gpu, cpu."},
		{status.Health{Status: status.Running, Reasons: reasons("Redis does not answer.", "Nor does the database.")},
			"Running, but takes no tasks: Redis does not answer. Nor does the database."},
		{status.Health{Status: status.Degraded, Reasons: reasons("It was killed by signal 9.")}, "Degraded: It was killed by signal 9."},
		{status.Health{Healthy: true, Status: status.Restarting}, "Restarting."},
		{status.Health{Status: status.Draining, Reasons: reasons("It drains.")},
			"Draining: takes no more tasks, and ends when those that run are done."},
	} {
		if got := serviceText(c.health, []string{"gpu", "cpu"}); got != c.want {
			t.Errorf("the text of %+v is %q, want %q", c.health, got, c.want)
		}
	}
}

// The start is over when Redis has refused once, though nothing has begun.
func TestAStartThatIsHeldIsOver(t *testing.T) {
	m := idleMonitor(t)
	if m.held() {
		t.Error("the start counts as held before anything has been tried")
	}
	m.waiting("waiting for Redis", errors.New("refused"))
	if !m.held() {
		t.Error("Redis has refused, and the start counts as under way")
	}
	m.begin()
	if m.held() {
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
