package enqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// FailedError is a task that will not be tried again by itself.
type FailedError struct {
	ID, Queue string
	Reason    string // the last attempt's error
}

// Error names the task and its last error.
func (e *FailedError) Error() string {
	return fmt.Sprintf("task %s in queue %s failed for good: %s", e.ID, e.Queue, e.Reason)
}

// ErrGone says that the task ended and left no result: it was deleted, or a
// worker that writes none processed it.
var ErrGone = errors.New("the task is gone and left no result (was it deleted, or processed by another kind of worker?)")

// Retry is a failed attempt that will be followed by another.
type Retry struct {
	Retried, MaxRetry int
	Reason            string
	Next              time.Time
}

// Watch is told, by Wait itself, what happens meanwhile. Each function may be
// nil; Wait goes on when it has returned.
type Watch struct {
	Retry func(Retry) // an attempt failed and will be followed by another
	// Pending is called once, when no worker has taken the task for about two
	// seconds although it was due.
	Pending func()
	// Progress is called when what the task's handler reports has changed, and
	// at the end of an attempt that reported something, with nothing.
	Progress func(Progress)
}

// Progress is how far a task's handler says it is.
type Progress struct {
	Fraction float64 // the share that is done, 0 to 1; negative: none is known
	Message  string
}

// stoppedError is a Wait whose context ended.
type stoppedError struct {
	id    string
	cause error
}

func (e *stoppedError) Error() string {
	return fmt.Sprintf("stopped waiting for task %s: it stays in the queue", e.id)
}

func (e *stoppedError) Unwrap() error { return e.cause }

// patience is how long a task may be pending before Watch.Pending is called.
const patience = 2 * time.Second

const (
	minPoll = 5 * time.Millisecond
	maxPoll = 250 * time.Millisecond
	// maxOutage is how long Wait goes on when Redis does not answer.
	maxOutage = time.Minute
)

// Wait blocks until the task has a result, has failed for good (*FailedError),
// is gone (ErrGone), or ctx ends. It rides out a Redis that is away for up to
// a minute.
func (c *Client) Wait(ctx context.Context, queue, id string, watch Watch) (json.RawMessage, error) {
	w := waiter{client: c, queue: queue, id: id, watch: watch, progress: Progress{Fraction: -1}}
	pause := minPoll
	lastAnswer := time.Now()
	for {
		result, done, err := w.look(ctx)
		switch {
		case done:
			return result, err
		case err == nil:
			lastAnswer = time.Now()
		case time.Since(lastAnswer) > maxOutage:
			return nil, fmt.Errorf("wait for task %s: %w", id, err)
		}
		select {
		case <-ctx.Done():
			return nil, &stoppedError{id: id, cause: ctx.Err()}
		case <-time.After(pause):
			pause = min(pause*2, maxPoll)
		}
	}
}

type waiter struct {
	client    *Client
	queue, id string
	watch     Watch
	retried   int // already told to watch.Retry
	missing   bool
	pending   time.Time // since when no worker has taken it; zero: it is not pending
	told      bool      // watch.Pending was called
	progress  Progress  // the last that watch.Progress was told
}

// look asks once. An error without done is one of the connection.
func (w *waiter) look(ctx context.Context) (result json.RawMessage, done bool, err error) {
	pipe := w.client.redis.Pipeline()
	value := pipe.Get(ctx, resultKey(w.id))
	state := pipe.HGet(ctx, taskKey(w.queue, w.id), "state")
	var view *redis.SliceCmd
	if w.watch.Progress != nil {
		view = pipe.HMGet(ctx, viewKey(w.id), "queue", "state", "progress", "progress_message")
	}
	_, _ = pipe.Exec(ctx) // the commands carry their errors
	if err := value.Err(); err == nil {
		return json.RawMessage(value.Val()), true, nil
	} else if !errors.Is(err, redis.Nil) {
		return nil, false, err
	}
	if err := state.Err(); errors.Is(err, redis.Nil) {
		// On Cluster the two answers are from two moments: a task that ended in
		// between has its result by the next look.
		if w.missing {
			return nil, true, fmt.Errorf("task %s in queue %s: %w", w.id, w.queue, ErrGone)
		}
		w.missing = true
		return nil, false, nil
	} else if err != nil {
		return nil, false, err
	}
	w.notePending(state.Val() == "pending")
	w.noteProgress(state.Val() == "active", view)
	switch state.Val() {
	case "retry", "archived", "completed":
		return w.inspect()
	}
	return nil, false, nil
}

func (w *waiter) notePending(pending bool) {
	switch {
	case !pending:
		w.pending = time.Time{}
	case w.pending.IsZero():
		w.pending = time.Now()
	case !w.told && w.watch.Pending != nil && time.Since(w.pending) >= patience:
		w.told = true
		w.watch.Pending()
	}
}

// noteProgress reads the task's readable hash. It is written a little later
// than the task's own, and under an id that another queue may use as well.
func (w *waiter) noteProgress(active bool, view *redis.SliceCmd) {
	if view == nil || view.Err() != nil {
		return
	}
	var field [4]string
	for i, v := range view.Val() {
		field[i], _ = v.(string) // nil when it is not there
	}
	now := Progress{Fraction: -1}
	if active && field[0] == w.queue && field[1] == "active" {
		if f, err := strconv.ParseFloat(field[2], 64); err == nil && f >= 0 {
			now.Fraction = min(f, 1)
		}
		now.Message = field[3]
	}
	if now != w.progress {
		w.progress = now
		w.watch.Progress(now)
	}
}

// inspect reads what only asynq can decode, for a task that has been tried.
func (w *waiter) inspect() (result json.RawMessage, done bool, err error) {
	info, err := w.client.inspector.GetTaskInfo(w.queue, w.id)
	if err != nil {
		return nil, false, err // also when it has just gone: the next look tells
	}
	switch info.State {
	case asynq.TaskStateArchived:
		reason := info.LastErr
		if reason == "" {
			reason = "it was archived"
		}
		return nil, true, &FailedError{ID: w.id, Queue: w.queue, Reason: reason}
	case asynq.TaskStateCompleted:
		if len(info.Result) > 0 {
			return info.Result, true, nil
		}
		if w.missing { // completed, and the result has not come since
			return nil, true, fmt.Errorf("task %s in queue %s: %w", w.id, w.queue, ErrGone)
		}
		w.missing = true
	case asynq.TaskStateRetry:
		if info.Retried > w.retried && w.watch.Retry != nil {
			w.watch.Retry(Retry{Retried: info.Retried, MaxRetry: info.MaxRetry, Reason: info.LastErr, Next: info.NextProcessAt})
		}
		w.retried = info.Retried
	}
	return nil, false, nil
}
