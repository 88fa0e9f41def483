package worker

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/runqy/runqy-worker/queue"
	"github.com/runqy/runqy-worker/supervisor"
)

// taskHandler is the queue's handler: it gives each task to the Python process.
type taskHandler struct {
	supervisor *supervisor.Supervisor
	touch      func() // a task has started or ended
}

// Submit implements queue.Handler.
func (h taskHandler) Submit(t *queue.Task, a queue.Attempt) {
	h.supervisor.Submit(supervisor.Request{
		TaskID: t.ID, Queue: t.Queue, Type: t.Type, Payload: t.Payload, Headers: t.Headers,
		RetryCount: t.RetryCount, MaxRetry: t.MaxRetry, Crashes: t.Crashes, Suspicions: t.Suspicions,
		Timeout: t.Timeout, Deadline: t.Deadline, Caller: caller{attempt: a, touch: h.touch},
	})
}

// Cancel implements queue.Handler.
func (h taskHandler) Cancel(t *queue.Task) { h.supervisor.Cancel(t.ID) }

// Room implements queue.Handler.
func (h taskHandler) Room() queue.Room { return queue.Room(h.supervisor.Room()) }

// caller tells an attempt of the queue what becomes of a request.
type caller struct {
	attempt queue.Attempt
	touch   func()
}

// Began implements supervisor.Caller.
func (c caller) Began(at time.Time) {
	c.touch()
	c.attempt.Began(at)
}

// Progress implements supervisor.Caller.
func (c caller) Progress(fraction float64, message string) { c.attempt.Progress(fraction, message) }

// Ended implements supervisor.Caller.
func (c caller) Ended(reply supervisor.Reply, err error) {
	c.touch()
	if err != nil {
		c.attempt.Ended(nil, reply.Took, attemptError(err))
		return
	}
	result, err := outcome(reply)
	c.attempt.Ended(result, reply.Took, err)
}

// outcome maps a reply to what the queue makes of it.
func outcome(reply supervisor.Reply) (json.RawMessage, error) {
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
	var (
		crash     *supervisor.CrashError
		suspicion *supervisor.SuspicionError
	)
	switch {
	case errors.As(err, &suspicion):
		return &queue.SuspicionError{Err: err}
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
	w.dashboard.Finished(max(0, took), failed)
	w.metrics.TaskFinished(t.Queue, t.Type, t.ID, took, failed)
	// A failure is logged where the retries are known. Not at info: at thousands of tasks a second a line for each would be
	// a good part of the worker's CPU time.
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
		CheckInterval: c.CheckInterval, CheckTimeout: c.CheckTimeout, CheckFailures: c.CheckFailures,
		MaxConsecutiveFailures: c.MaxConsecutiveFailures, ReplaceTimeout: c.ReplaceTimeout,
		MaxTasks: c.MaxTasks, MaxMemory: c.MaxMemory, MaxMessage: c.MaxMessage,
		BlockThreshold: w.cfg.Health.EventLoopBlockThreshold, StallTimeout: c.StallTimeout,
		StackSignal: c.StackSignalNumber(), IdleWarning: w.cfg.Health.TaskIdleWarning,
		Guardian: opts.Guardian, Logger: w.logger,
		// The metrics and the consumer are built after the supervisor, which calls these only while it runs.
		Events: supervisor.Events{
			Crashed:   func(cause string) { w.metrics.Crashed(cause) },
			Restarted: func(cause string) { w.metrics.Restarted(cause) },
			// The types are those of the process that has become ready.
			RoomChanged: func() {
				w.metrics.Types(namedTypes(w.supervisor.Snapshot().Types))
				w.consumer.Wake()
			},
		},
	}
}

// namedTypes returns the types that an announcement names.
func namedTypes(announced map[string]string) []string {
	names := slices.Sorted(maps.Keys(announced))
	return slices.DeleteFunc(names, func(name string) bool { return name == supervisor.AnyType })
}
