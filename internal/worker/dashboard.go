package worker

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/internal/dashboard"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/queue"
	"github.com/runqy/runqy-worker/supervisor"
)

// This file turns the one truth into the dashboard's words.

func (w *Worker) newDashboard() (*dashboard.Dashboard, error) {
	sources := dashboard.Sources{
		Name: w.cfg.Worker.ID, Version: w.version, Environment: w.cfg.Environment, Host: w.identity.Host,
		ShowPayloads: w.cfg.Dashboard.ShowPayloads,
		Health:       w.shownHealth,
		Changed:      w.monitor.Changed,
		Process:      w.shownProcess, Active: w.shownActive,
		Totals:  func() (int64, int64) { return w.processed.Load(), w.failed.Load() },
		Queues:  shownQueues(w.depths),
		Fleet:   shownFleet(w.peers, w.cfg.Worker.ID),
		Trusted: health.NewAccess(w.cfg.Health.WebConfig).Trusted,
		Logger:  w.log,
	}
	queues := func(context.Context) ([]string, error) { return queue.ByPriority(w.cfg.Worker.Queues), nil }
	operate(&sources, queue.NewAdmin(w.client), queues)
	sources.Actions.Restart = w.restartShown
	return dashboard.New(sources)
}

// operate lets the dashboard see and mend failed tasks and pause queues.
func operate(s *dashboard.Sources, o *queue.Admin, queues func(context.Context) ([]string, error)) {
	s.Failures = func(ctx context.Context, most int) ([]dashboard.Failure, error) {
		names, err := queues(ctx)
		if err != nil {
			return nil, err
		}
		failed, err := o.Failures(ctx, names, most)
		if err != nil {
			return nil, err
		}
		out := make([]dashboard.Failure, len(failed))
		for i, f := range failed {
			out[i] = shownFailure(f)
		}
		return out, nil
	}
	s.Actions = dashboard.Actions{Retry: o.Retry, Delete: o.Delete, Pause: o.Pause, Resume: o.Resume}
}

// restartShown restarts the Python process for a visitor of the dashboard, within the limit that the restart command has.
func (w *Worker) restartShown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.restartLimit())
	defer cancel()
	return w.RestartProcess(ctx)
}

// shownHealth is the worker's health in a word, unless what it is taken from has stood still.
func (w *Worker) shownHealth() dashboard.Health {
	h := shownHealth(w.report(), w.supervisor.Snapshot())
	if live, why := (health.Sources{LoopTick: w.loopTick}).Live(); !live {
		h.Tone, h.Word, h.Worker = dashboard.Bad, "Wedged", status.Unhealthy
		h.Reasons = append([]string{why + " What is shown of the process is as old."}, h.Reasons...)
	}
	return h
}

// shownHealth gives the report a word and a tone. What is planned is quiet; only what somebody should look at is bad.
func shownHealth(r health.Report, snap supervisor.Snapshot) dashboard.Health {
	h := dashboard.Health{
		Tone: dashboard.Bad, Worker: r.Worker, Broker: r.Broker, Database: r.Database,
		Busy: r.State == status.Busy,
	}
	for _, reason := range r.Reasons {
		h.Reasons = append(h.Reasons, reason.Summary)
	}
	switch {
	case r.Status == status.Draining:
		h.Tone, h.Word = dashboard.Quiet, "Draining"
	case r.Worker != status.Healthy && r.Status == status.Degraded:
		h.Word = "Degraded"
	case r.Worker != status.Healthy && snap.Status == supervisor.StatusStalled:
		h.Word = "Stalled"
	case r.Broker == status.Unhealthy || r.Database == status.Unhealthy:
		h.Word = "Unhealthy"
	case r.Status == status.Starting:
		h.Tone, h.Word = dashboard.Quiet, "Starting"
	case r.Status == status.Restarting:
		if h.Word = "Restarting"; r.Healthy {
			h.Tone = dashboard.Quiet
		}
	case r.Healthy:
		h.Tone, h.Word = dashboard.Good, "Healthy"
	default:
		h.Word = "Unhealthy"
	}
	return h
}

func (w *Worker) shownProcess() dashboard.Process {
	snap := w.supervisor.Snapshot()
	p := dashboard.Process{
		Tone: dashboard.Bad, Status: string(snap.Status), PID: snap.PID, Handlers: snap.Handlers, Started: snap.ProcessStarted,
		Python: strings.TrimSpace(snap.Python.Implementation + " " + snap.Python.Version),
		Lag:    snap.Lag, LagLimit: w.cfg.Health.EventLoopBlockThreshold,
		Crashes: snap.Crashes, Restarts: snap.Restarts, OnCrash: w.cfg.Python.OnCrash, MemoryMax: w.cfg.Python.MaxMemory,
		Stderr: snap.Stderr,
	}
	switch {
	case snap.Healthy && snap.Status == supervisor.StatusRunning:
		p.Tone = dashboard.Good
	case snap.Healthy, snap.Status == supervisor.StatusStarting, snap.Status == supervisor.StatusDraining, snap.Status == supervisor.StatusStopped:
		p.Tone = dashboard.Quiet
	}
	p.Memory, p.CPU = w.usage.of(w.supervisor)
	return p
}

// usageGauge turns CPU time into a share of a core.
type usageGauge struct {
	mu    sync.Mutex // guards the rest
	at    time.Time
	last  supervisor.Usage
	share float64 // between the last two looks; negative while there was one only
}

// of looks at most once a second, so that several pages see the same.
func (g *usageGauge) of(s interface {
	Usage() (supervisor.Usage, bool)
}) (resident int64, share float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, ok := s.Usage()
	if !ok {
		g.at = time.Time{}
		return -1, -1
	}
	elapsed := time.Since(g.at)
	switch {
	case g.at.IsZero() || now.PID != g.last.PID:
		g.at, g.last, g.share = time.Now(), now, -1
	case elapsed >= time.Second:
		g.share = max(0, (now.CPU-g.last.CPU).Seconds()/elapsed.Seconds())
		g.at, g.last = time.Now(), now
	}
	return now.Resident, g.share
}

func (w *Worker) shownActive() dashboard.Active {
	a := dashboard.Active{Concurrency: w.cfg.Worker.Concurrency}
	for _, t := range w.consumer.Active() {
		shown := dashboard.ActiveTask{
			ID: t.ID, Queue: t.Queue, Type: t.Type, Running: time.Since(t.Since), Progress: t.Progress, Message: t.ProgressMessage,
		}
		if w.cfg.Dashboard.ShowPayloads {
			shown.Payload = queue.PayloadText(t.Payload)
		}
		a.Tasks = append(a.Tasks, shown)
	}
	return a
}

func shownQueues(r depthReader) func(context.Context) ([]dashboard.Queue, error) {
	return func(ctx context.Context) ([]dashboard.Queue, error) {
		depths, err := r.Read(ctx)
		if err != nil {
			return nil, err
		}
		out := make([]dashboard.Queue, 0, len(depths))
		for name, d := range depths {
			q := dashboard.Queue{
				Name: name, Tone: dashboard.Good, Paused: d.Paused, Pending: d.Pending, Active: d.Active, Scheduled: d.Scheduled,
				Retry: d.Retry, Archived: d.Archived, Latency: d.Latency,
			}
			switch {
			case d.Err != nil:
				q.Tone, q.Err = dashboard.Bad, d.Err.Error()
			case d.Paused:
				q.Tone = dashboard.Warn
			}
			out = append(out, q)
		}
		slices.SortFunc(out, func(a, b dashboard.Queue) int { return strings.Compare(a.Name, b.Name) })
		return out, nil
	}
}

func shownFailure(f queue.Failure) dashboard.Failure {
	text, traceback, _ := strings.Cut(strings.TrimSpace(f.Error), "\n")
	out := dashboard.Failure{
		ID: f.ID, Queue: f.Queue, Type: f.Type, State: f.State, Attempts: f.Retried, MaxAttempts: f.MaxRetry + 1,
		FailedAt: f.FailedAt, NextAt: f.NextAt, Error: text, Traceback: traceback, Payload: f.Payload,
	}
	if f.State == status.Archived {
		out.Attempts++ // the last one was not followed by another
	}
	return out
}

func shownFleet(p *peers, self string) func(context.Context) ([]dashboard.Peer, error) {
	return func(ctx context.Context) ([]dashboard.Peer, error) {
		workers, err := p.list(ctx)
		if err != nil {
			return nil, err
		}
		out := make([]dashboard.Peer, len(workers))
		for i, w := range workers {
			age := time.Since(w.Seen)
			out[i] = shownPeer(w, age)
			if w.ID == self {
				out[i] = shownSelf(w, age)
			}
		}
		return out, nil
	}
}

// shownSelf shows the worker that shows the page. That it cannot be pinged does not make it dead: it knows how it is.
func shownSelf(w fleet.Worker, age time.Duration) dashboard.Peer {
	unreachable := ""
	if w.State == status.Dead && w.Alive {
		unreachable = w.Reason
		w.State, w.Reason = w.Beat.State, ""
	}
	p := shownPeer(w, age)
	p.Self, p.Unreachable = true, unreachable
	if unreachable != "" && p.Tone == dashboard.Good {
		p.Tone = dashboard.Warn
	}
	return p
}

// shownPeer shows a worker as it was judged so long ago.
func shownPeer(w fleet.Worker, age time.Duration) dashboard.Peer {
	b := w.Beat
	p := dashboard.Peer{
		ID: w.ID, State: w.State, Status: b.Status, Reason: w.Reason, Queues: b.Queues,
		Address: b.Address, Host: b.Host, Active: len(b.ActiveTasks), Concurrency: b.Concurrency,
		Processed: b.Processed, Failed: b.Failed, Started: b.Started, Version: b.Version, BeatAge: w.Age + age,
	}
	if p.Reason == "" {
		p.Reason = b.Reason.Summary
	}
	switch {
	case !w.Alive:
		p.Tone, p.Status, p.BeatAge = dashboard.Bad, status.Gone, -1
	case w.State == status.Dead:
		p.Tone = dashboard.Bad
	case b.Status == status.Starting, b.Status == status.Draining:
		p.Tone = dashboard.Quiet
	case !b.Healthy:
		p.Tone = dashboard.Bad
	case w.Err != nil:
		p.Tone = dashboard.Warn
	default:
		p.Tone = dashboard.Good
	}
	return p
}
