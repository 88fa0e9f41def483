package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/queue"
	"github.com/runqy/runqy-worker/supervisor"
)

// rpcSources answer remote procedures with what the probes answer.
func (w *Worker) rpcSources() rpc.Sources {
	return rpc.Sources{Ping: w.pong, Stack: w.stack, Report: w.report}
}

// stack says where the Python process is, for those who may see what tasks carry.
func (w *Worker) stack(ctx context.Context, taskID string) (rpc.Stack, error) {
	s, err := w.supervisor.Stack(ctx, taskID)
	switch {
	case errors.Is(err, supervisor.ErrUnknownTask):
		return rpc.Stack{}, fmt.Errorf("%w %.200q", rpc.ErrNotFound, taskID)
	case errors.Is(err, supervisor.ErrNoProcess):
		return rpc.Stack{}, fmt.Errorf("%w: the worker is %s", rpc.ErrNoStack, w.report().Status)
	case err != nil:
		return rpc.Stack{}, err //nolint:wrapcheck // it says all there is to say
	}
	return rpc.Stack{WorkerID: w.cfg.Worker.ID, PID: s.PID, Where: s.Where, Text: s.Text}, nil
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
