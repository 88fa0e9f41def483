package worker

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/internal/broadcast"
	"github.com/runqy/runqy-worker/queue"
	"github.com/runqy/runqy-worker/supervisor"
)

// taskHandler is the queue's handler: it gives each task to the Python process.
type taskHandler struct {
	supervisor *supervisor.Supervisor
	room       *broadcast.Notifier // the process may have room again
	touch      func()              // a task has started or ended
	progress   func(taskID string, fraction float64, message string)

	mu sync.Mutex // between a look at the room and a request that takes it
}

// attempt is the supervisor's caller for one task.
type attempt struct {
	handler *taskHandler
	taskID  string
	ended   chan attemptEnd // capacity 1
}

type attemptEnd struct {
	reply supervisor.Reply
	err   error
}

func (a *attempt) Began(time.Time) {}

func (a *attempt) Progress(fraction float64, message string) {
	a.handler.progress(a.taskID, fraction, message)
}

func (a *attempt) Ended(reply supervisor.Reply, err error) {
	a.ended <- attemptEnd{reply, err}
	a.handler.room.Notify()
}

// Process implements queue.Handler.
func (h *taskHandler) Process(ctx context.Context, t *queue.Task) (json.RawMessage, error) {
	h.touch()
	defer h.touch()
	a := &attempt{handler: h, taskID: t.ID, ended: make(chan attemptEnd, 1)}
	for {
		room, state := h.room.Next(), h.supervisor.Changed()
		if h.submit(t, a) {
			break
		}
		if s := h.supervisor.Snapshot(); !s.Healthy || s.Status == supervisor.StatusDraining {
			return nil, queue.ErrUntouched
		}
		select {
		case <-room:
		case <-state:
		case <-ctx.Done():
			return nil, queue.ErrUntouched
		}
	}
	select {
	case end := <-a.ended:
		return taskResult(end)
	case <-ctx.Done():
		h.supervisor.Cancel(t.ID)
	}
	return taskResult(<-a.ended)
}

// submit gives the task to the process if that has room.
func (h *taskHandler) submit(t *queue.Task, a *attempt) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.supervisor.Room().Free == 0 {
		return false
	}
	h.supervisor.Submit(supervisor.Request{
		TaskID: t.ID, Queue: t.Queue, Type: t.Type, Payload: t.Payload,
		RetryCount: t.RetryCount, MaxRetry: t.MaxRetry, Deadline: t.Deadline, Headers: t.Headers, Caller: a,
	})
	return true
}

func taskResult(end attemptEnd) (json.RawMessage, error) {
	reply := end.reply
	switch {
	case end.err != nil:
		return nil, attemptError(end.err)
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
	var suspicion *supervisor.SuspicionError
	switch {
	case errors.As(err, &crash), errors.As(err, &suspicion):
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

			RoomChanged: w.room.Notify,
		},
	}
}
