package worker

import (
	"testing"

	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/status"
)

func TestBusyReason(t *testing.T) {
	healthy := status.Health{Healthy: true, Status: status.Running}
	failed := func(r status.Reason) status.Health {
		return status.Health{Status: status.Running, Reasons: []status.Reason{r}}
	}
	for name, c := range map[string]struct {
		health status.Health
		active int
		want   string // of a consumer that is free with no or one task
	}{
		"a free slot":     {healthy, 1, ""},
		"a task must end": {healthy, -1, "A task is running, and another one would wait for it."},
		"all slots taken": {healthy, 2, "All slots are taken (2 of 2)."},
		"draining":        {status.Health{Healthy: true, Status: status.Draining}, 0, "The worker is draining."},
		"being replaced": {health.OfProcess(status.Restarting, true, status.Reason{Summary: "it waits for a task"}), 0,
			"The worker is restarting: it waits for a task."},
		"an error of 2 lines": {failed(status.Reason{Summary: "Redis does not answer: one\ntwo."}), 0, "Redis does not answer: one"},
		"lines of stderr":     {failed(status.Reason{Summary: "exit status 3", Stderr: []string{"Traceback"}}), 0, "exit status 3"},
	} {
		got := busyReason(c.health, c.active == 0 || c.active == 1, max(c.active, -c.active), 2)
		if got != c.want {
			t.Errorf("%s: the reason is %q, want %q", name, got, c.want)
		}
		wantState := status.Busy
		if c.want == "" {
			wantState = status.Free
		}
		if s := state(got); s != wantState {
			t.Errorf("%s: the state is %s, want %s", name, s, wantState)
		}
	}
}
