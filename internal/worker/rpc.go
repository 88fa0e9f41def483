package worker

import (
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/queue"
)

// rpcSources answer remote procedures with what the probes answer.
func (w *Worker) rpcSources() rpc.Sources {
	return rpc.Sources{Ping: w.pong, Report: w.report}
}

// pong answers a ping. It never blocks.
func (w *Worker) pong() rpc.Pong {
	h, active := w.monitor.report(), w.consumer.Active()
	reason := busyReason(h.Health, w.consumer.Free(), len(active), w.cfg.Worker.Concurrency)
	p := rpc.Pong{
		WorkerID: w.cfg.Worker.ID, Nonce: w.identity.Nonce, State: state(reason), Reason: reason,
		Queues: queue.ByPriority(w.cfg.Worker.Queues), Concurrency: w.cfg.Worker.Concurrency,
		Load:   float64(len(active)) / float64(w.cfg.Worker.Concurrency),
		Status: h.Status, Healthy: h.Healthy, Version: w.version, Report: h.Mark,
	}
	for _, t := range active {
		p.ActiveTasks = append(p.ActiveTasks, t.ID)
	}
	return p
}
