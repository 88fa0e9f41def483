package worker

import (
	"testing"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/dashboard"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/queue"
)

func TestDashboardHealth(t *testing.T) {
	healthy := status.Health{
		Healthy: true, Status: status.Running, Worker: status.Healthy, Broker: status.Healthy, Database: status.NotConfigured,
	}
	with := func(change func(*status.Health)) status.Health { h := healthy; change(&h); return h }
	process := func(s status.Status) status.Health {
		return with(func(h *status.Health) { h.Healthy, h.Worker, h.Status = false, status.Unhealthy, s })
	}
	for _, c := range []struct {
		health status.Health
		label  string
		tone   dashboard.Tone
	}{
		{healthy, "Healthy", dashboard.Good},
		{process(status.Starting), "Starting", dashboard.Quiet},
		{process(status.Degraded), "Degraded", dashboard.Bad},
		{with(func(h *status.Health) { h.Healthy, h.Worker, h.Stalled = false, status.Unhealthy, true }), "Stalled", dashboard.Bad},
		{with(func(h *status.Health) { h.Status = status.Restarting }), "Restarting", dashboard.Quiet},
		{process(status.Restarting), "Restarting", dashboard.Bad},
		{with(func(h *status.Health) { h.Healthy, h.Broker = false, status.Unhealthy }), "Unhealthy", dashboard.Bad},
		{with(func(h *status.Health) { h.Healthy, h.Database = false, status.Unhealthy }), "Unhealthy", dashboard.Bad},
		{with(func(h *status.Health) {
			h.Healthy, h.Worker, h.Broker, h.Status = false, status.Unhealthy, status.Unhealthy, status.Starting
		}), "Unhealthy", dashboard.Bad},
		{with(func(h *status.Health) { h.Status = status.Draining }), "Draining", dashboard.Quiet},
		{health.StoodStill(process(status.Draining), "The loop", time.Now()), "Wedged", dashboard.Bad},
	} {
		h := dashboardHealth(status.Report{Health: c.health})
		if h.Label != c.label || h.Tone != c.tone {
			t.Errorf("%+v shows as %s with the tone %s, want %s and %s", c.health, h.Label, h.Tone, c.label, c.tone)
		}
		if h.Tone == dashboard.Good && !c.health.Healthy {
			t.Errorf("%+v, which is not healthy, has the tone good", c.health)
		}
	}
}

func TestDashboardWorker(t *testing.T) {
	beats := func(f func(*fleet.Worker)) fleet.Worker {
		w := fleet.Worker{State: status.Free}
		w.ID, w.Alive, w.Age = "w", true, time.Second
		w.Beat = heartbeat.Beat{Healthy: true, Status: "running"}
		f(&w)
		return w
	}
	for name, c := range map[string]struct {
		worker fleet.Worker
		tone   dashboard.Tone
		status status.Status
		age    time.Duration
	}{
		"free":      {beats(func(*fleet.Worker) {}), dashboard.Good, "running", 3 * time.Second},
		"starting":  {beats(func(w *fleet.Worker) { w.Beat.Healthy, w.Beat.Status = false, "starting" }), dashboard.Quiet, "starting", 3 * time.Second},
		"unhealthy": {beats(func(w *fleet.Worker) { w.State, w.Beat.Healthy = status.Busy, false }), dashboard.Bad, "running", 3 * time.Second},
		// Nothing of what a worker says of itself counts when it cannot be reached.
		"unreachable": {beats(func(w *fleet.Worker) { w.State = status.Dead }), dashboard.Bad, "running", 3 * time.Second},
		"gone":        {beats(func(w *fleet.Worker) { w.State, w.Alive = status.Dead, false }), dashboard.Bad, "gone", -1},
	} {
		c.worker.DeadSince = time.Unix(1, 0)
		if got := dashboardWorker(c.worker, 2*time.Second); got.Tone != c.tone || got.Status != c.status || got.BeatAge != c.age || !got.DeadSince.Equal(time.Unix(1, 0)) {
			t.Errorf("%s: shown as %+v", name, got)
		}
	}
}

func TestDashboardFailure(t *testing.T) {
	f := dashboardFailure(queue.Failure{State: status.Archived, Retried: 2, MaxRetry: 2, Error: "\nValueError: x\nTraceback\n  line\n"})
	if f.Error != "ValueError: x" || f.Traceback != "Traceback\n  line" || f.Attempts != 3 || f.MaxAttempts != 3 {
		t.Errorf("shown as %+v, want its last attempt of 3", f)
	}
	if f := dashboardFailure(queue.Failure{State: status.Retry, Retried: 1, MaxRetry: 2}); f.Attempts != 1 || f.MaxAttempts != 3 {
		t.Errorf("shown as %+v, want its last attempt of 3", f)
	}
}

// For the worker in this process its own state counts, and not whether it can be pinged.
func TestDashboardSelf(t *testing.T) {
	const refused = "401 Unauthorized (fleet.client.username and password_file must be among the worker's basic_auth_users)"
	for name, c := range map[string]struct {
		beat        heartbeat.Beat
		state       status.State
		alive       bool
		wantState   status.State
		wantTone    dashboard.Tone
		unreachable bool
	}{
		"well":                      {heartbeat.Beat{Healthy: true, Status: "running", State: "FREE"}, status.Free, true, "FREE", dashboard.Good, false},
		"may not ping itself":       {heartbeat.Beat{Healthy: true, Status: "running", State: "FREE"}, status.Dead, true, "FREE", dashboard.Warn, true},
		"nor when it is not well":   {heartbeat.Beat{Status: "degraded", State: "BUSY"}, status.Dead, true, "BUSY", dashboard.Bad, true},
		"its heartbeat has expired": {heartbeat.Beat{Healthy: true, Status: "running", State: "FREE"}, status.Dead, false, "DEAD", dashboard.Bad, false},
	} {
		w := fleet.Worker{State: c.state}
		w.ID, w.Alive, w.Beat = "w", c.alive, c.beat
		if c.state == status.Dead {
			w.Cause, w.Reason = fleet.CauseUnauthorised, refused
		}
		got := dashboardSelf(w, time.Second)
		if !got.Self || got.State != c.wantState || got.Tone != c.wantTone || (got.Unreachable == refused) != c.unreachable {
			t.Errorf("%s: shown as %+v", name, got)
		}
	}
}
