package worker

import (
	"fmt"

	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/queue"
)

// rpcSources answer remote procedures with what the probes answer.
func (w *Worker) rpcSources(probes health.Sources) rpc.Sources {
	return rpc.Sources{
		Ping:    w.pong,
		Healthy: func() bool { return w.report().Healthy },
		Ready:   func() bool { return w.report().Ready() },
		Live:    func() bool { live, _ := probes.Live(); return live },
	}
}

// pong answers a ping. It never blocks.
func (w *Worker) pong() rpc.Pong {
	r := w.report()
	active := w.consumer.Active()
	p := rpc.Pong{
		WorkerID: w.cfg.Worker.ID, Nonce: w.identity.Nonce, Reason: w.busyReason(r, len(active)),
		Queues: queue.ByPriority(w.cfg.Worker.Queues), Concurrency: w.cfg.Worker.Concurrency,
		Load:   float64(len(active)) / float64(w.cfg.Worker.Concurrency),
		Status: r.Status, Healthy: r.Healthy, Version: w.version,
	}
	p.State = status.Free
	if p.Reason != "" {
		p.State = status.Busy
	}
	for _, t := range active {
		p.ActiveTasks = append(p.ActiveTasks, t.ID)
	}
	return p
}

// busyReason says why this worker would not take a task now; empty when it would.
func (w *Worker) busyReason(r health.Report, active int) string {
	switch {
	case !r.Healthy && len(r.Reasons) > 0:
		return r.Reason().Summary
	case !r.Ready():
		return fmt.Sprintf("The worker is %s.", r.Status)
	case active >= w.cfg.Worker.Concurrency:
		return fmt.Sprintf("All slots are taken (%d of %d).", active, w.cfg.Worker.Concurrency)
	}
	return ""
}
