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
	"github.com/runqy/runqy-worker/supervisor"
)

func TestShownHealth(t *testing.T) {
	well := health.Report{Health: status.Health{
		Healthy: true, Status: status.Running, Worker: status.Healthy, Broker: status.Healthy, Database: status.NotConfigured,
	}}
	change := func(f func(*health.Report)) health.Report { r := well; f(&r); return r }
	for _, c := range []struct {
		report health.Report
		status supervisor.Status
		word   string
		tone   dashboard.Tone
	}{
		{well, supervisor.StatusRunning, "Healthy", dashboard.Good},
		{change(func(r *health.Report) { r.Healthy, r.Worker, r.Status = false, status.Unhealthy, "starting" }), supervisor.StatusStarting, "Starting", dashboard.Quiet},
		{change(func(r *health.Report) { r.Healthy, r.Worker, r.Status = false, status.Unhealthy, "degraded" }), supervisor.StatusDegraded, "Degraded", dashboard.Bad},
		{change(func(r *health.Report) { r.Healthy, r.Worker = false, status.Unhealthy }), supervisor.StatusStalled, "Stalled", dashboard.Bad},
		{change(func(r *health.Report) { r.Status = "restarting" }), supervisor.StatusRestarting, "Restarting", dashboard.Quiet},
		{change(func(r *health.Report) { r.Healthy, r.Worker, r.Status = false, status.Unhealthy, "restarting" }), supervisor.StatusRestarting, "Restarting", dashboard.Bad},
		{change(func(r *health.Report) { r.Healthy, r.Broker = false, status.Unhealthy }), supervisor.StatusRunning, "Unhealthy", dashboard.Bad},
		{change(func(r *health.Report) { r.Healthy, r.Database = false, status.Unhealthy }), supervisor.StatusRunning, "Unhealthy", dashboard.Bad},
		{change(func(r *health.Report) {
			r.Healthy, r.Worker, r.Broker, r.Status = false, status.Unhealthy, status.Unhealthy, "starting"
		}), supervisor.StatusStarting, "Unhealthy", dashboard.Bad},
		{change(func(r *health.Report) { r.Status = "draining" }), supervisor.StatusDraining, "Draining", dashboard.Quiet},
	} {
		h := shownHealth(c.report, supervisor.Snapshot{Status: c.status})
		if h.Word != c.word || h.Tone != c.tone {
			t.Errorf("%+v: %s, %s", c.report, h.Word, h.Tone)
		}
		if h.Tone == dashboard.Good && !c.report.Healthy {
			t.Errorf("%+v: a green light", c.report)
		}
	}
}

func TestShownPeer(t *testing.T) {
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
		"free":     {beats(func(*fleet.Worker) {}), dashboard.Good, "running", 3 * time.Second},
		"starting": {beats(func(w *fleet.Worker) { w.Beat.Healthy, w.Beat.Status = false, "starting" }), dashboard.Quiet, "starting", 3 * time.Second},
		"sick":     {beats(func(w *fleet.Worker) { w.State, w.Beat.Healthy = status.Busy, false }), dashboard.Bad, "running", 3 * time.Second},
		// Nothing of what a worker says of itself counts when it cannot be reached.
		"unreachable": {beats(func(w *fleet.Worker) { w.State = status.Dead }), dashboard.Bad, "running", 3 * time.Second},
		"gone":        {beats(func(w *fleet.Worker) { w.State, w.Alive = status.Dead, false }), dashboard.Bad, "gone", -1},
	} {
		if p := shownPeer(c.worker, 2*time.Second); p.Tone != c.tone || p.Status != c.status || p.BeatAge != c.age {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestShownFailure(t *testing.T) {
	f := shownFailure(queue.Failure{State: status.Archived, Retried: 2, MaxRetry: 2, Error: "\nValueError: x\nTraceback\n  line\n"})
	if f.Error != "ValueError: x" || f.Traceback != "Traceback\n  line" || f.Attempts != 3 || f.MaxAttempts != 3 {
		t.Errorf("%+v", f)
	}
	if f := shownFailure(queue.Failure{State: status.Retry, Retried: 1, MaxRetry: 2}); f.Attempts != 1 || f.MaxAttempts != 3 {
		t.Errorf("%+v", f)
	}
}

// processUsage is what a process is said to use, one look after the other.
type processUsage []supervisor.Usage

func (u *processUsage) Usage() (supervisor.Usage, bool) {
	now := (*u)[0]
	*u = (*u)[1:]
	return now, now.PID != 0
}

func TestUsageOfAnotherProcessBeginsAnew(t *testing.T) {
	var g usageGauge
	looks := processUsage{{PID: 1, Resident: 5}, {PID: 2, CPU: time.Hour, Resident: 6}, {}}
	for _, want := range []int64{5, 6, -1} {
		if resident, share := g.of(&looks); resident != want || share >= 0 {
			t.Errorf("%d bytes, %v of a core", resident, share)
		}
	}
}

// A worker that may not ping itself knows better than its ping.
func TestShownSelf(t *testing.T) {
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
		p := shownSelf(w, time.Second)
		if !p.Self || p.State != c.wantState || p.Tone != c.wantTone || (p.Unreachable == refused) != c.unreachable {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
