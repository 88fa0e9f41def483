package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/queue"
	"github.com/runqy/runqy-worker/supervisor"
)

// Run works until ctx is over and then drains: no new task is taken, those in flight get worker.shutdown_timeout, what
// has not ended then goes back to pending, and the heartbeat is deleted. The error is nil after a drain. It wraps
// [ErrCrashed] when the Python process crashed under python.on_crash: exit, and [heartbeat.ErrTakenOver] or a
// [*heartbeat.LiveError] when another process has this worker's id.
//
// From the end of ctx on Run takes no longer than worker.shutdown_timeout, python.stop_timeout and a second, whoever does
// not answer. When it returns nothing of the worker is left running, but for what the log or the error then names: the
// program should end.
func (w *Worker) Run(ctx context.Context) error {
	defer w.closeClients()
	// working ends with ctx, or with the first failure of a part.
	working, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	// serving outlives it: the probes answer, and the heartbeat is written, until the drain has ended.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	parts := newParts()
	start := func(name string, run func(context.Context) error) {
		parts.start(name, func() {
			err := run(serving)
			switch {
			case err == nil:
			case working.Err() != nil:
				w.log.Warn("component failed during shutdown", "part", name, "error", err)
			default:
				fail(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	ended := make(chan error, 1)
	go func() { // awaited below
		err := w.work(ctx, working, start)
		stopServing()
		parts.wait()
		ended <- err
	}()
	return shutdown{
		limit: w.cfg.Worker.ShutdownTimeout + w.cfg.Python.StopTimeout, parts: parts, log: w.log,
		close: func() {
			w.closeRedis()
			stopServing()
		},
	}.await(ctx, working, ended)
}

// work starts the parts of the worker, waits until working is over, and drains.
func (w *Worker) work(ctx, working context.Context, start func(name string, run func(context.Context) error)) error {
	start("health server", w.server.Run)
	start("watch over pauses", w.pauses.Run)
	start("dependencies", w.dependencies.Run)
	start("service manager", w.notifier.Run)
	start("dashboard", w.dashboard.Run)
	start("worker list", w.workers.run)
	start("health report", func(ctx context.Context) error { return w.monitor.run(ctx, w.beatNow) })
	if w.Addr() != nil {
		w.log.Info("http server listening", "address", w.Addr().String())
	}

	if err := w.retrier().waitForRedis(working, w.client); err != nil {
		return runError(ctx, working, err)
	}
	w.warnOfLosses(working)
	w.address = w.reachableAt(working)
	if err := w.register(working); err != nil {
		return runError(ctx, working, err)
	}
	w.log.Info("worker started", "worker_id", w.cfg.Worker.ID, "queues", queue.ByPriority(w.cfg.Worker.Queues),
		"concurrency", w.cfg.Worker.Concurrency, "redis", w.target.String(), "version", w.version)
	start("heartbeat", w.beat.Run)
	if w.cfg.Fleet.Enabled {
		start("fleet", w.fleet.service.Run)
	}
	start("watch over the fleet", w.fleet.service.Watch)
	if err := w.recoverPredecessors(working); err != nil {
		return runError(ctx, working, err)
	}
	start("control", w.runCommands)
	start(supervisorPart, w.supervisor.Run)
	start("abort", w.killOnAbort)
	w.monitor.begin()
	// A worker is not ready from the first moment of its drain on.
	stop := context.AfterFunc(working, func() {
		w.monitor.drain()
		w.supervisor.Drain()
	})
	defer stop()

	queues, process, consumed := make(chan error, 1), make(chan error, 1), make(chan struct{})
	start("queues", func(context.Context) error {
		queues <- w.consumer.Run(working, w.killOverdue)
		return nil
	})
	start("drain", func(context.Context) error {
		process <- w.stopWhenDrained(ctx, consumed)
		return nil
	})
	err := <-queues
	close(consumed)
	if err == nil {
		err = context.Cause(working)
		if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			err = nil
		}
	}
	w.log.Info("worker drained", "worker_id", w.cfg.Worker.ID)
	if stopErr := <-process; stopErr != nil {
		err = errors.Join(err, stopErr)
	}
	return err
}

// stopWhenDrained stops the Python process once it has no tasks any more, while the last outcomes may still be on their
// way: a Redis that does not answer and a process that does not end are not waited for one after the other.
func (w *Worker) stopWhenDrained(ctx context.Context, consumed <-chan struct{}) error {
	select {
	case <-w.consumer.Drained():
	case <-consumed: // it could not begin
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*w.cfg.Python.StopTimeout)
	defer cancel()
	return w.supervisor.Stop(stopping) //nolint:wrapcheck // it says all there is to say
}

// runError is what Run returns when it did not get as far as working: nil if it was told to stop, or the failure of a
// component instead of the cancelled context that this failure caused elsewhere.
func runError(ctx, working context.Context, err error) error {
	if told := ctx.Err() != nil; told {
		return nil //nolint:nilerr // the error is the stop itself
	}
	if working.Err() != nil {
		return context.Cause(working)
	}
	return err
}

// RestartProcess replaces the Python process, or starts one when the worker is degraded, and waits until it is ready or
// ctx is over. Tasks in flight get python.stop_timeout to finish; what has not finished goes back to pending. It may be
// called from any goroutine while Run runs.
func (w *Worker) RestartProcess(ctx context.Context) error {
	w.log.Info("restart requested")
	if err := w.supervisor.Restart(ctx, supervisor.RestartManual); err != nil {
		return fmt.Errorf("restart the Python process: %w", err)
	}
	return nil
}

// Abort ends a drain that is under way now: the Python process is killed and its tasks go back to pending. It is for a
// second signal, may be called at any time and more than once, and returns at once.
func (w *Worker) Abort() { w.abortOnce.Do(func() { close(w.aborted) }) }

// kill ends the Python process at once and everything it started. Its tasks are given back.
func (w *Worker) kill() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.supervisor.Stop(now); err != nil {
		w.log.Error("python process not killed", "error", err)
	}
}

// killOverdue kills the Python process, whose tasks have outlasted worker.shutdown_timeout, after it has said where it is.
// Of what is left of the shutdown that may take half at most: the outcomes have to be written, too.
func (w *Worker) killOverdue() {
	asking, cancel := context.WithTimeout(context.Background(), w.cfg.Python.StopTimeout/2)
	defer cancel()
	w.supervisor.LogStack(asking, "its tasks have not ended within worker.shutdown_timeout")
	w.kill()
}

// killOnAbort kills the Python process when Abort is called.
func (w *Worker) killOnAbort(ctx context.Context) error {
	select {
	case <-w.aborted:
		w.kill()
	case <-ctx.Done():
	}
	return nil
}

// retrier repeats what needs Redis; the probes say meanwhile what the worker waits for.
func (w *Worker) retrier() retrier {
	return retrier{log: w.log, target: w.target, failed: w.monitor.waiting}
}

// register makes this process the one that has the worker's id.
func (w *Worker) register(ctx context.Context) error {
	return w.retrier().do(ctx, "registering the worker id", func() error {
		err := w.beat.Register(ctx)
		var live *heartbeat.LiveError
		if errors.As(err, &live) {
			return permanentError{err}
		}
		return err
	})
}
