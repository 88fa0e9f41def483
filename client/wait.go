package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/backoff"
	"github.com/runqy/runqy-worker/internal/timer"
)

// FailedError is the error of [Client.Wait] for a task that is archived: it is not tried again by itself.
type FailedError struct {
	ID, Queue string
	Reason    string // the last attempt's error; its first line is the error itself, Python's traceback may follow
}

// Error names the task and its last error.
func (e *FailedError) Error() string {
	return fmt.Sprintf("task %s in queue %s failed for good: %s", e.ID, e.Queue, e.Reason)
}

// ErrNoResult says that the task ended and left no result: it was deleted, or a worker that writes none processed it,
// or its result has expired. A task that never existed looks the same.
var ErrNoResult = errors.New("the task is gone and left no result (was it deleted, or processed by another kind of worker?)")

// Retry is a failed attempt that will be followed by another.
type Retry struct {
	Retried, MaxRetry int       // so many attempts have failed, and so many times the task is tried again at most
	Reason            string    // the attempt's error; its first line is the error itself, Python's traceback may follow
	Next              time.Time // when the next attempt may start
}

// Progress is how far a task's handler reports to be.
type Progress struct {
	Fraction float64 // the share that is done, 0 to 1; negative: none is known
	Message  string  // what the handler adds; may be empty
}

// WaitOptions are functions that [Client.Wait] calls, from its caller's goroutine, when something happens to the task
// meanwhile. Each may be nil. Wait goes on when the function has returned.
type WaitOptions struct {
	// OnRetry is called when an attempt has failed and will be followed by another.
	OnRetry func(Retry)
	// OnPending is called once at most, when no worker has taken the task for about two seconds although it was due.
	OnPending func()
	// OnProgress is called when what the task's handler reports has changed, and at the end of an attempt that reported
	// something, with nothing (a negative Fraction and no Message). Each poll of Redis then reads one key more.
	OnProgress func(Progress)
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

// pendingNotice is how long a task may be pending before WaitOptions.OnPending is called.
const pendingNotice = 2 * time.Second

const (
	minPoll = 5 * time.Millisecond
	maxPoll = 250 * time.Millisecond
	// maxOutage is how long Wait goes on when Redis does not answer.
	maxOutage = time.Minute
)

// Wait blocks until a task has a result and returns that, a JSON value. It reads Redis every 250 ms, at first more
// often.
//
// The error is a [*FailedError] when the task has failed for good and wraps [ErrNoResult] when it ended without a
// result. When ctx ends it wraps ctx.Err(); the task stays in the queue and runs. A Redis that does not answer is
// waited for; after a minute its error is returned. The end of ctx does not interrupt the reading of a task that has
// been tried: if Redis does not answer just then, Wait returns after the Redis client's own timeout.
//
// A result is kept for the worker's results.ttl after the task's end, so Wait may be called later or again. For an ID
// that is used again see [Task].DiscardOldResult.
func (c *Client) Wait(ctx context.Context, queue, id string, opts WaitOptions) (json.RawMessage, error) {
	w := waiter{client: c, queue: queue, id: id, opts: opts, progress: Progress{Fraction: -1}}
	pauses := backoff.Policy{First: minPoll, Max: maxPoll}
	lastAnswer := time.Now()
	for n := 1; ; n++ {
		result, done, err := w.poll(ctx)
		switch {
		case done:
			return result, err
		case err == nil:
			lastAnswer = time.Now()
		case time.Since(lastAnswer) > maxOutage:
			return nil, fmt.Errorf("wait for task %s: %w", id, err)
		}
		if timer.Sleep(ctx, pauses.Delay(n)) != nil {
			return nil, &stoppedError{id: id, cause: ctx.Err()}
		}
	}
}

type waiter struct {
	client    *Client
	queue, id string
	opts      WaitOptions
	retried   int       // of the last OnRetry
	missing   bool      // the last poll found neither a result nor the task
	pending   time.Time // since when no worker has taken it; zero: it is not pending
	noticed   bool      // OnPending was called
	progress  Progress  // of the last OnProgress
}

// poll asks once. An error without done is one of the connection.
func (w *waiter) poll(ctx context.Context) (result json.RawMessage, done bool, err error) {
	pipe := w.client.redis.Pipeline()
	value := pipe.Get(ctx, resultKey(w.id))
	state := pipe.HGet(ctx, taskKey(w.queue, w.id), "state")
	var view *redis.SliceCmd
	if w.opts.OnProgress != nil {
		view = pipe.HMGet(ctx, viewKey(w.id), "queue", "state", "progress", "progress_message")
	}
	_, _ = pipe.Exec(ctx) // the commands carry their errors
	if err := value.Err(); err == nil {
		return json.RawMessage(value.Val()), true, nil
	} else if !errors.Is(err, redis.Nil) {
		return nil, false, err
	}
	if err := state.Err(); errors.Is(err, redis.Nil) {
		// On Cluster the two answers are from two moments: a task that ended in between has its result by the next
		// poll.
		if w.missing {
			return nil, true, fmt.Errorf("task %s in queue %s: %w", w.id, w.queue, ErrNoResult)
		}
		w.missing = true
		return nil, false, nil
	} else if err != nil {
		return nil, false, err
	}
	w.checkPending(state.Val() == "pending")
	w.checkProgress(state.Val() == "active", view)
	switch state.Val() {
	case "retry", "archived", "completed":
		return w.inspect()
	}
	return nil, false, nil
}

func (w *waiter) checkPending(pending bool) {
	switch {
	case !pending:
		w.pending = time.Time{}
	case w.pending.IsZero():
		w.pending = time.Now()
	case !w.noticed && w.opts.OnPending != nil && time.Since(w.pending) >= pendingNotice:
		w.noticed = true
		w.opts.OnPending()
	}
}

// checkProgress reads the task's readable hash. It is written a little later than the task's own, and under an id that
// another queue may use as well.
func (w *waiter) checkProgress(active bool, view *redis.SliceCmd) {
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
		w.opts.OnProgress(now)
	}
}

// inspect reads what only asynq can decode, for a task that has been tried.
func (w *waiter) inspect() (result json.RawMessage, done bool, err error) {
	info, err := w.client.inspector.GetTaskInfo(w.queue, w.id)
	if err != nil {
		return nil, false, err // also when it has just gone: the next poll tells
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
			return nil, true, fmt.Errorf("task %s in queue %s: %w", w.id, w.queue, ErrNoResult)
		}
		w.missing = true
	case asynq.TaskStateRetry:
		if info.Retried > w.retried && w.opts.OnRetry != nil {
			w.opts.OnRetry(Retry{Retried: info.Retried, MaxRetry: info.MaxRetry, Reason: info.LastErr, Next: info.NextProcessAt})
		}
		w.retried = info.Retried
	}
	return nil, false, nil
}
