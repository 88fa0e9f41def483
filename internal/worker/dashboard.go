package worker

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/internal/dashboard"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/queue"
	"github.com/runqy/runqy-worker/supervisor"
)

// This file turns the worker's health, and what else the worker knows, into what the dashboard shows.

// maxShownStack bounds the stacks on the page, in bytes.
const maxShownStack = 16 << 10

func (w *Worker) newDashboard() (*dashboard.Dashboard, error) {
	sources := dashboard.Sources{
		Name: w.cfg.Worker.ID, Version: w.version, Environment: w.cfg.Environment, Host: w.identity.Host,
		ShowPayloads: w.cfg.Dashboard.ShowPayloads,
		Health:       func() dashboard.Health { return dashboardHealth(w.report()) },
		Changed:      w.monitor.Changed,
		Process:      w.dashboardProcess, Active: w.dashboardActive,
		Totals:  func() (int64, int64) { return w.processed.Load(), w.failed.Load() },
		Queues:  dashboardQueues(w.depths),
		Fleet:   dashboardWorkers(w.workers, w.cfg.Worker.ID),
		System:  dashboardSystem(w.fleet.queues, w.cfg.Worker.Queues),
		Trusted: health.NewAccess(w.cfg.Health.WebConfig).Trusted,
		Logger:  w.logger,
	}
	queues := func(context.Context) ([]string, error) { return queue.ByPriority(w.cfg.Worker.Queues), nil }
	addTaskActions(&sources, queue.NewAdmin(w.client), queues)
	sources.Actions.Restart = w.restartFromDashboard
	sources.Actions.Stack = func(ctx context.Context, id string) (where, stacks string, err error) {
		s, err := w.stack(ctx, id)
		return s.Where, s.Text, err
	}
	return dashboard.New(sources)
}

// addTaskActions lets the dashboard show, retry and delete failed tasks, and pause and resume queues.
func addTaskActions(s *dashboard.Sources, admin *queue.Admin, queues func(context.Context) ([]string, error)) {
	s.Failures = func(ctx context.Context, limit int) ([]dashboard.Failure, error) {
		names, err := queues(ctx)
		if err != nil {
			return nil, err
		}
		failed, err := admin.Failures(ctx, names, limit)
		if err != nil {
			return nil, err
		}
		out := make([]dashboard.Failure, len(failed))
		for i, f := range failed {
			out[i] = dashboardFailure(f)
		}
		return out, nil
	}
	s.Actions = dashboard.Actions{Retry: admin.Retry, Delete: admin.Delete, Pause: admin.Pause, Resume: admin.Resume}
}

// restartFromDashboard restarts the Python process for a visitor of the dashboard, with the timeout of the restart
// command.
func (w *Worker) restartFromDashboard(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.restartTimeout())
	defer cancel()
	return w.RestartProcess(ctx)
}

// dashboardHealth gives the health a label and a tone. What is planned is quiet; only what an operator should look at
// is bad.
func dashboardHealth(h status.Report) dashboard.Health {
	out := dashboard.Health{Health: h.Public(), Report: h.Mark, Tone: dashboard.Bad}
	switch {
	case !h.StoodSince.IsZero():
		out.Label = "Wedged"
	case h.Status == status.Draining:
		out.Tone, out.Label = dashboard.Quiet, "Draining"
	case h.Worker != status.Healthy && h.Status == status.Degraded:
		out.Label = "Degraded"
	case h.Stalled:
		out.Label = "Stalled"
	case h.Broker == status.Unhealthy || h.Database == status.Unhealthy:
		out.Label = "Unhealthy"
	case h.Status == status.Starting:
		out.Tone, out.Label = dashboard.Quiet, "Starting"
	case h.Status == status.Restarting:
		if out.Label = "Restarting"; h.Healthy {
			out.Tone = dashboard.Quiet
		}
	case h.Healthy:
		out.Tone, out.Label = dashboard.Good, "Healthy"
	default:
		out.Label = "Unhealthy"
	}
	return out
}

func (w *Worker) dashboardProcess() dashboard.Process {
	snap := w.supervisor.Snapshot()
	p := dashboard.Process{
		Tone: dashboard.Bad, Status: string(snap.Status), PID: snap.PID, Handlers: snap.Handlers, Started: snap.ProcessStarted,
		Python: strings.TrimSpace(snap.Python.Implementation + " " + snap.Python.Version),
		Lag:    snap.Lag, LagLimit: w.cfg.Health.EventLoopBlockThreshold,
		Crashes: snap.Crashes, Restarts: snap.Restarts, OnCrash: w.cfg.Python.OnCrash, MemoryMax: w.cfg.Python.MaxMemory,
		TooLarge: snap.RecyclingSuspended,
		Stderr:   snap.Stderr,
	}
	if s := snap.Stack; s != nil {
		p.Stack, p.StackAt = s.Brief(maxShownStack), s.At
	}
	switch {
	case snap.Healthy && snap.Status == supervisor.StatusRunning:
		p.Tone = dashboard.Good
	case snap.Healthy, snap.Status == supervisor.StatusStarting, snap.Status == supervisor.StatusDraining, snap.Status == supervisor.StatusStopped:
		p.Tone = dashboard.Quiet
	}
	p.Memory, p.CPU = w.usage.sample(w.supervisor)
	return p
}

func (w *Worker) dashboardActive() dashboard.Active {
	a := dashboard.Active{Concurrency: w.cfg.Worker.Concurrency}
	idle := w.supervisor.Snapshot().Idle
	for _, t := range w.consumer.Active() {
		shown := dashboard.ActiveTask{
			ID: t.ID, Queue: t.Queue, Type: t.Type, Running: time.Since(t.Since), Progress: t.Progress, Message: t.ProgressMessage,
		}
		if since, ok := idle[t.ID]; ok {
			shown.Idle = time.Since(since)
		}
		if w.cfg.Dashboard.ShowPayloads {
			shown.Payload = queue.PayloadText(t.Payload)
		}
		a.Tasks = append(a.Tasks, shown)
	}
	return a
}

func dashboardQueues(r depthReader) func(context.Context) ([]dashboard.Queue, error) {
	return func(ctx context.Context) ([]dashboard.Queue, error) {
		depths, err := r.Read(ctx)
		if err != nil {
			return nil, err
		}
		out := make([]dashboard.Queue, 0, len(depths))
		for name, d := range depths {
			q := dashboard.Queue{Name: name, Tone: dashboard.Good, Depth: d}
			switch {
			case d.Err != nil:
				q.Tone = dashboard.Bad
			case d.Paused:
				q.Tone = dashboard.Warn
			}
			out = append(out, q)
		}
		slices.SortFunc(out, func(a, b dashboard.Queue) int { return strings.Compare(a.Name, b.Name) })
		return out, nil
	}
}

// dashboardSystem returns what the page shows of the whole system beside its own queues, which are left out.
func dashboardSystem(s *systemQueues, own map[string]int) func(context.Context) (dashboard.System, error) {
	return func(ctx context.Context) (dashboard.System, error) {
		queues, err := dashboardQueues(s)(ctx)
		if err != nil {
			return dashboard.System{}, err
		}
		servers, err := s.asynqServers(ctx)
		if err != nil {
			return dashboard.System{}, err
		}
		deaths, err := s.store.Deaths(ctx)
		if err != nil {
			return dashboard.System{}, err
		}
		out := dashboard.System{Unread: s.unread(), Asynq: servers}
		if own != nil {
			out.Elsewhere = slices.DeleteFunc(queues, func(q dashboard.Queue) bool { _, mine := own[q.Name]; return mine })
		}
		for _, d := range deaths {
			out.Deaths = append(out.Deaths, dashboard.Death{
				Key: d.Nonce, ID: d.ID, At: time.Now().Add(-d.Age), Cause: d.Cause, Reason: d.Reason, Queues: d.Queues, Address: d.Address, Host: d.Host, Tasks: d.Tasks,
			})
		}
		return out, nil
	}
}

func dashboardFailure(f queue.Failure) dashboard.Failure {
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

// dashboardWorkers returns the workers of the list; self is the id of the worker in this process, empty when there is
// none.
func dashboardWorkers(l *workerList, self string) func(context.Context) ([]dashboard.Worker, time.Time, error) {
	return func(ctx context.Context) ([]dashboard.Worker, time.Time, error) {
		workers, read, err := l.list(ctx)
		if err != nil {
			return nil, time.Time{}, err
		}
		out := make([]dashboard.Worker, len(workers))
		for i, w := range workers {
			age := time.Since(w.Seen)
			out[i] = dashboardWorker(w, age)
			if w.ID == self {
				out[i] = dashboardSelf(w, age)
			}
		}
		return out, read, nil
	}
}

// dashboardSelf shows the worker in this process. That it cannot ping itself does not make it dead: its own heartbeat
// counts.
func dashboardSelf(w fleet.Worker, age time.Duration) dashboard.Worker {
	unreachable := ""
	if w.State == status.Dead && w.Alive {
		unreachable = w.Reason
		w.State, w.Reason, w.DeadSince = w.Beat.State, "", time.Time{}
	}
	out := dashboardWorker(w, age)
	out.Self, out.Unreachable = true, unreachable
	if unreachable != "" && out.Tone == dashboard.Good {
		out.Tone = dashboard.Warn
	}
	return out
}

// dashboardWorker shows a worker as it was observed age ago.
func dashboardWorker(w fleet.Worker, age time.Duration) dashboard.Worker {
	b := w.Beat
	out := dashboard.Worker{
		ID: w.ID, State: w.State, Status: b.Status, Reason: w.Reason, Queues: b.Queues,
		Address: b.Address, Host: b.Host, Active: len(b.ActiveTasks), Concurrency: b.Concurrency,
		Processed: b.Processed, Failed: b.Failed, Started: b.Started, Version: b.Version, BeatAge: w.Age + age,
		Serving: w.Serving(), Starting: w.Starting(), DeadSince: w.DeadSince,
	}
	if out.Reason == "" {
		out.Reason = b.Reason.Summary
	}
	switch {
	case !w.Alive:
		out.Tone, out.Status, out.BeatAge = dashboard.Bad, status.Gone, -1
	case w.State == status.Dead:
		out.Tone = dashboard.Bad
	case b.Status == status.Starting, b.Status == status.Draining:
		out.Tone = dashboard.Quiet
	case !b.Healthy:
		out.Tone = dashboard.Bad
	case w.Err != nil:
		out.Tone = dashboard.Warn
	default:
		out.Tone = dashboard.Good
	}
	return out
}
