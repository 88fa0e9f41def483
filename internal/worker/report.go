package worker

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/metrics"
	"github.com/runqy/runqy-worker/queue"
	"github.com/runqy/runqy-worker/supervisor"
)

// This file turns the report of the monitor into what each place shows: the heartbeat, the metrics and the probes. Each
// reads the report once for an answer, and decides nothing by itself.

// report is the present report, with the state of this moment. It never blocks.
func (w *Worker) report() status.Report {
	h := w.monitor.report()
	h.State = state(busyReason(h.Health, w.consumer.Free(), w.consumer.ActiveCount(), w.cfg.Worker.Concurrency))
	return h
}

// counts are the numbers of the healthcheck command. The depth of the queues is read only where Redis answers.
func (w *Worker) counts(h status.Health) health.Counts {
	processing, failed := int64(w.consumer.ActiveCount()), w.failed.Load()
	return health.Counts{QueueDepth: depthOf(w.depths, h), Processing: &processing, Failed: &failed}
}

// currentBeat is the heartbeat's source.
func (w *Worker) currentBeat() heartbeat.Beat {
	h := w.report()
	snap := w.supervisor.Snapshot()
	reason := h.Reason()
	if h.Healthy {
		reason = h.Awaits
	}
	b := heartbeat.Beat{
		Report:  h.Mark,
		Started: w.started, Healthy: h.Healthy, Queues: queue.ByPriority(w.cfg.Worker.Queues),
		Status: h.Status, State: h.State, Reason: reason, Concurrency: w.cfg.Worker.Concurrency,
		Processed: w.processed.Load(), Failed: w.failed.Load(),
		Restarts: int64(snap.Restarts), Crashes: int64(snap.Crashes), EventLoopLag: snap.Lag, PythonPID: snap.PID,
		Version: w.version, Environment: w.cfg.Environment, Address: w.address,
	}
	for _, t := range w.consumer.Active() {
		b.ActiveTasks = append(b.ActiveTasks, t.ID)
	}
	if len(b.ActiveTasks) > 0 {
		b.ActiveTask = b.ActiveTasks[0]
	}
	return b
}

func (w *Worker) beatNow() { w.beat.WriteNow() }

func (w *Worker) metricSources(logLinesDropped func() int64) metrics.Sources {
	return metrics.Sources{
		Info: metrics.Info{
			WorkerID: w.cfg.Worker.ID, Version: w.version, Environment: w.cfg.Environment, Started: w.started,
		},
		QueueNames:  queue.ByPriority(w.cfg.Worker.Queues),
		CrashCauses: supervisor.CrashCauses(), RestartCauses: supervisor.RestartCauses(),
		Worker: func() metrics.Worker {
			h, snap, idle := w.report(), w.supervisor.Snapshot(), -1
			if snap.Idle != nil {
				idle = len(snap.Idle)
			}
			consumption := w.consumer.Consumption()
			return metrics.Worker{
				Healthy: h.Healthy, Report: h.Mark, Lag: snap.Lag, RecyclingSuspended: snap.RecyclingSuspended != "",
				ActiveTasks: w.consumer.ActiveCount(), IdleTasks: idle,
				Concurrency: w.cfg.Worker.Concurrency, LastBeat: w.beat.LastBeat(),
				LastCycle: consumption.Answered, LastTake: consumption.Taken,
			}
		},
		Queues: w.depths.Read,
		Python: func() metrics.Python {
			snap := w.supervisor.Snapshot()
			if snap.PID == 0 {
				return metrics.Python{}
			}
			p := metrics.Python{
				Implementation: snap.Python.Implementation, Version: snap.Python.Version,
				Major: snap.Python.Major, Minor: snap.Python.Minor, Patch: snap.Python.Patch,
			}
			for _, g := range snap.GC {
				p.GC = append(p.GC, metrics.GC(g))
			}
			return p
		},
		ChildPID:        func() int { return w.supervisor.Snapshot().PID },
		LogLinesDropped: logLinesDropped,
	}
}

// probeSources are what the HTTP server answers from, the dashboard included.
func (w *Worker) probeSources(metricsHandler http.Handler) health.Sources {
	return health.Sources{
		Report: w.report, Environment: w.cfg.Environment, Counts: w.counts,
		Queues: w.depths.Read, States: w.queueStates, Broker: health.InfoSource(w.client), Metrics: metricsHandler,
		RPC: rpc.Handlers(w.rpcSources()), Dashboard: w.dashboard.Handlers(),
		Trusted: health.NewAccess(w.cfg.Health.WebConfig).Trusted,
	}
}

// queueStates says by the report whether this worker serves its queues, and which have tasks that are to be aggregated: no
// worker does that. Whether another worker serves them while this one does not is for the page and for the fleet's checker
// to tell.
func (w *Worker) queueStates(ctx context.Context, report status.Report, depths map[string]status.Depth) map[string]health.QueueState {
	self := fleet.Worker{State: report.State}
	self.Alive, self.Beat = true, heartbeat.Beat{Healthy: report.Healthy, Status: report.Status, Queues: queue.ByPriority(w.cfg.Worker.Queues)}
	if self.Serving() {
		return w.fleet.queues.states(ctx, []fleet.Worker{self}, nil, depths)
	}
	states := make(map[string]health.QueueState, len(depths))
	for q := range depths {
		states[q] = health.QueueState{Fault: "this worker does not serve it now: " + health.NotReady(report.Health)}
	}
	return states
}

func newServer(cfg *config.Config, sources health.Sources, log *slog.Logger) (*health.Server, error) {
	server, err := health.NewServer(health.ServerOptions{
		Listen: cfg.Health.Listen, WebConfig: cfg.Health.WebConfig, Handler: health.Handler(sources),
		Socket: cfg.SocketPath(), SocketHandler: health.SocketHandler(sources), Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("serve health: %w", err)
	}
	return server, nil
}
