package worker

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/runqy/runqy-worker/queue"
	"github.com/runqy/runqy-worker/supervisor"
)

// taskHandler is the queue's handler: it gives each task to the Python process.
type taskHandler struct {
	supervisor *supervisor.Supervisor
	touch      func() // a task has started or ended
	progress   func(taskID string, fraction float64, message string)
}

// Process implements queue.Handler.
func (h taskHandler) Process(ctx context.Context, t *queue.Task) (json.RawMessage, error) {
	h.touch()
	defer h.touch()
	reply, err := h.supervisor.Do(ctx, supervisor.Request{
		TaskID: t.ID, Queue: t.Queue, Type: t.Type, Payload: t.Payload,
		RetryCount: t.RetryCount, MaxRetry: t.MaxRetry, Deadline: t.Deadline, Headers: t.Headers,
		Progress: func(fraction float64, message string) { h.progress(t.ID, fraction, message) },
	})
	if err != nil {
		return nil, attemptError(err)
	}
	switch {
	case reply.Error == "":
		return reply.Result, nil
	case !reply.Retry:
		return nil, &queue.PermanentError{Message: reply.Error}
	case reply.HasRetryDelay:
		return nil, &queue.RetryError{Delay: reply.RetryDelay, Message: reply.Error}
	}
	return nil, errors.New(reply.Error)
}

// attemptError maps the supervisor's error for a task without an answer to the queue's.
func attemptError(err error) error {
	var crash *supervisor.CrashError
	switch {
	case errors.As(err, &crash):
		return &queue.CrashError{Err: err}
	case errors.Is(err, supervisor.ErrNotRun), errors.Is(err, supervisor.ErrStopped), errors.Is(err, supervisor.ErrDuplicate):
		return queue.ErrUntouched
	}
	return err
}

func (w *Worker) taskFinished(t *queue.Task, took time.Duration, failed bool) {
	w.processed.Add(1)
	if failed {
		w.failed.Add(1)
	}
	w.dashboard.Finished(took, failed)
	w.metrics.TaskFinished(t.Queue, t.ID, took, failed)
	// A failure is logged where the retries are known. Not at info: at thousands of tasks a second a line for each
	// needs about a seventh of the worker's CPU time in addition.
	if !failed {
		w.log.LogAttrs(context.Background(), slog.LevelDebug, "task completed", slog.String("queue", t.Queue),
			slog.String("task_id", t.ID), slog.String("type", t.Type), slog.Duration("duration", took))
	}
}

func (w *Worker) supervisorOptions(opts Options) supervisor.Options {
	c := w.cfg.Python
	return supervisor.Options{
		Command: c.Command, Dir: c.Dir, Env: childEnviron(opts.Environ, opts.SDK, w.cfg),
		Concurrency: w.cfg.Worker.Concurrency, StartupTimeout: c.StartupTimeout, StopTimeout: c.StopTimeout,
		OnCrash: supervisor.Policy(c.OnCrash),
		Restart: supervisor.RestartPolicy{
			Max: c.Restart.Max, Window: c.Restart.Window, InitialDelay: c.Restart.InitialDelay, MaxDelay: c.Restart.MaxDelay,
		},
		MaxTasks: c.MaxTasks, MaxMemory: c.MaxMemory, MaxMessage: c.MaxMessage,
		BlockThreshold: w.cfg.Health.EventLoopBlockThreshold, StallTimeout: c.StallTimeout,
		Guardian: opts.Guardian, Logger: w.logger,
		// The metrics are built after the supervisor, which calls these only while it runs.
		Events: supervisor.Events{
			Crashed:   func(cause string) { w.metrics.Crashed(cause) },
			Restarted: func(cause string) { w.metrics.Restarted(cause) },
		},
	}
}
