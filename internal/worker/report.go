package worker

import (
	"fmt"
	"net/http"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/metrics"
	"github.com/runqy/runqy-worker/queue"
	"github.com/runqy/runqy-worker/supervisor"
)

// This file turns the one truth into the words of each place that shows it.

// report is the worker's health with the numbers that are known here. It never blocks.
func (w *Worker) report() health.Report {
	r := w.monitor.report()
	r.Environment = w.cfg.Environment
	active := w.consumer.Active()
	r.State = w.state(r, len(active))
	r.Processing = int64(len(active))
	r.Failed = w.failed.Load()
	return r
}

// state is BUSY when this worker would not take a task now: all slots are taken, or it takes none.
func (w *Worker) state(r health.Report, active int) status.State {
	if w.busyReason(r, active) != "" {
		return status.Busy
	}
	return status.Free
}

// currentBeat is the heartbeat's source.
func (w *Worker) currentBeat() heartbeat.Beat {
	r := w.report()
	snap := w.supervisor.Snapshot()
	b := heartbeat.Beat{
		Started: w.started, Healthy: r.Healthy, Queues: queue.ByPriority(w.cfg.Worker.Queues),
		Status: r.Status, State: r.State, Reason: r.Reason(), Concurrency: w.cfg.Worker.Concurrency,
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
			return metrics.Worker{
				Healthy: w.monitor.report().Healthy, Lag: w.supervisor.Snapshot().Lag, ActiveTasks: len(w.consumer.Active()),
				Concurrency: w.cfg.Worker.Concurrency, LastBeat: w.beat.LastBeat(),
			}
		},
		Queues: metricQueues(w.depths),
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

func (w *Worker) newServer(metricsHandler http.Handler) (*health.Server, error) {
	sources := health.Sources{
		Report:   w.report,
		LoopTick: w.loopTick,
		Queues:   w.depths.Read,
		Broker:   health.InfoSource(w.client),
		Metrics:  metricsHandler,
	}
	sources.RPC = rpc.Handlers(w.rpcSources(sources))
	sources.Trusted = health.NewAccess(w.cfg.Health.WebConfig).Trusted
	// Only the healthcheck command shows the depth: nobody else waits for Redis.
	withDepth := sources
	withDepth.Report, withDepth.Trusted = w.reportWithDepth, nil
	sources.Dashboard = w.dashboard.Handlers()
	server, err := health.NewServer(health.ServerOptions{
		Listen: w.cfg.Health.Listen, WebConfig: w.cfg.Health.WebConfig, Handler: health.Handler(sources),
		Socket: w.cfg.SocketPath(), SocketHandler: health.SocketHandler(withDepth), Logger: w.log,
	})
	if err != nil {
		return nil, fmt.Errorf("serve health: %w", err)
	}
	return server, nil
}

// reportWithDepth is the report with the number of pending tasks, where Redis tells it in time.
func (w *Worker) reportWithDepth() health.Report { return withDepth(w.report(), w.depths) }

// loopTick is the supervisor's; before it runs there is no loop that could be wedged.
func (w *Worker) loopTick() time.Time {
	if w.monitor.process().Status == status.Starting && w.supervisor.Snapshot().PID == 0 {
		return time.Time{}
	}
	return w.supervisor.Snapshot().LoopTick
}
