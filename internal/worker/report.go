package worker

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/metrics"
	"github.com/runqy/runqy-worker/queue"
	"github.com/runqy/runqy-worker/supervisor"
)

// This file turns the worker's health into what each place shows: the heartbeat, the metrics and the probes.

// health is the worker's health. It never blocks.
func (w *Worker) health() status.Health {
	h := w.monitor.health()
	h.State = state(busyReason(h, w.consumer.Free(), w.consumer.ActiveCount(), w.cfg.Worker.Concurrency))
	return h
}

// counts are the numbers of the healthcheck command. The depth of the queues is read only where Redis answers.
func (w *Worker) counts() health.Counts {
	c := health.Counts{Processing: int64(w.consumer.ActiveCount()), Failed: w.failed.Load()}
	if w.monitor.health().Broker == status.Healthy {
		c.QueueDepth = pendingTasks(w.depths)
	}
	return c
}

// currentBeat is the heartbeat's source.
func (w *Worker) currentBeat() heartbeat.Beat {
	h := w.health()
	snap := w.supervisor.Snapshot()
	b := heartbeat.Beat{
		Started: w.started, Healthy: h.Healthy, Queues: queue.ByPriority(w.cfg.Worker.Queues),
		Status: h.Status, State: h.State, Reason: h.Reason(), Concurrency: w.cfg.Worker.Concurrency,
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

func (w *Worker) metricSources() metrics.Sources {
	return metrics.Sources{
		Info: metrics.Info{
			WorkerID: w.cfg.Worker.ID, Version: w.version, Environment: w.cfg.Environment, Started: w.started,
		},
		QueueNames:  queue.ByPriority(w.cfg.Worker.Queues),
		CrashCauses: supervisor.CrashCauses(), RestartCauses: supervisor.RestartCauses(),
		Worker: func() metrics.Worker {
			snap, idle := w.supervisor.Snapshot(), -1
			if snap.Idle != nil {
				idle = len(snap.Idle)
			}
			return metrics.Worker{
				Healthy: w.monitor.health().Healthy, Lag: snap.Lag, ActiveTasks: w.consumer.ActiveCount(), IdleTasks: idle,
				Concurrency: w.cfg.Worker.Concurrency, LastBeat: w.beat.LastBeat(),
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
		ChildPID: func() int { return w.supervisor.Snapshot().PID },
	}
}

// probeSources are what the HTTP server answers from, the dashboard included.
func (w *Worker) probeSources(metricsHandler http.Handler) health.Sources {
	return health.Sources{
		Health: w.health, Environment: w.cfg.Environment, LoopTick: w.loopTick, Counts: w.counts,
		Queues: w.depths.Read, Broker: health.InfoSource(w.client), Metrics: metricsHandler,
		RPC: rpc.Handlers(w.rpcSources()), Dashboard: w.dashboard.Handlers(),
		Trusted: health.NewAccess(w.cfg.Health.WebConfig).Trusted,
	}
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

// loopTick is the time of the last pass of the supervisor's event loop; before it runs there is no loop that could be
// wedged.
func (w *Worker) loopTick() time.Time {
	if w.monitor.process().Status == status.Starting && w.supervisor.Snapshot().PID == 0 {
		return time.Time{}
	}
	return w.supervisor.Snapshot().LoopTick
}
