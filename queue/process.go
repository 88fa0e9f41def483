package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// maxErrorText bounds what is kept of a failed attempt's error, in bytes. asynq stores it inside the task.
const maxErrorText = 16 << 10

// requeueTimeout bounds how long requeuing a task that did not run is tried while Redis does not answer. A drain waits
// for it; past it the audit goes on, or the lease ends.
const requeueTimeout = 10 * time.Second

// runner is asynq's handler: it runs one attempt and decides what asynq shall do with the task.
type runner struct {
	client     redis.UniversalClient // does not retry by itself
	scripts    scripts
	attempts   *attempts
	handler    Handler
	results    *results
	views      *taskViews // nil when there are none
	observer   Observer
	log        *slog.Logger
	maxCrashes int

	requestAudit func() // something may be stamped ours that nobody holds
}

// ProcessTask implements asynq.Handler.
func (r *runner) ProcessTask(ctx context.Context, t *asynq.Task) error {
	id, _ := asynq.GetTaskID(ctx)
	queue, _ := asynq.GetQueueName(ctx)
	a := r.attempts.start(ctx, taskKey(queue, id), time.Now())
	if a == nil {
		return fmt.Errorf("task %s of queue %s waited so long to start that it was requeued", id, queue)
	}
	failed := true // as it is when the handler panics, which asynq catches
	defer func() { r.attempts.finish(a, time.Now(), failed) }()
	err := r.run(ctx, a)
	failed = err != nil
	return err
}

// run runs one attempt and returns what asynq shall make of it.
func (r *runner) run(ctx context.Context, a *attempt) error {
	if err := r.attempts.enter(ctx, a); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		a.task.Deadline = deadline
	}
	started := time.Now()
	r.views.started(a.task, started)
	result, err := r.handler.Process(ctx, a.task)
	took := time.Since(started)
	if errors.Is(err, ErrUntouched) && ctx.Err() == nil {
		return r.requeue(ctx, a)
	}
	if ctx.Err() != nil {
		// asynq has acknowledged this run already, as failed, whatever the handler made of it.
		r.observer.finished(a.task, took, true)
		return context.Cause(ctx)
	}
	if err == nil {
		err = r.results.keep(ctx, a, result)
	}
	r.observer.finished(a.task, took, err != nil)
	return r.asynqError(ctx, a, err)
}

// requeue puts a task that did not run back into its queue. asynq is told of success, and its acknowledgement goes
// nowhere.
func (r *runner) requeue(ctx context.Context, a *attempt) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requeueTimeout)
	defer cancel()
	requeued, err := requeue(ctx, r.client, r.scripts.requeue, a.task.Queue, a.task.ID, a.owner, atTheHead)
	r.attempts.settle(a)
	switch {
	case err != nil:
		r.requestAudit()
		r.log.Warn("task requeue failed", "queue", a.task.Queue, "task_id", a.task.ID, "error", err)
	case !requeued:
		r.observer.fenced(a.task.Queue)
		r.log.Warn("late requeue refused", "queue", a.task.Queue, "task_id", a.task.ID)
	default:
		r.views.requeued(a.task)
		r.log.Info("task requeued", "queue", a.task.Queue, "task_id", a.task.ID, "reason", "not run")
	}
	return nil
}

// The ends of the pending list, as the commands that push there.
const (
	atTheHead = "RPUSH"
	atTheEnd  = "LPUSH"
)

// requeue moves one task from active to an end of pending, if it still carries the owner stamp.
func requeue(ctx context.Context, client redis.UniversalClient, script *redis.Script, queue, id, owner, where string) (bool, error) {
	keys := []string{taskKey(queue, id), activeKey(queue), leaseKey(queue), pendingKey(queue)}
	cmd, tries := resend(ctx, func(ctx context.Context) *redis.Cmd {
		return script.Run(ctx, client, keys, id, owner, where)
	})
	n, err := cmd.Int()
	if err != nil {
		return false, fmt.Errorf("requeue task %s of queue %s: %w", id, queue, err)
	}
	return n == 1 || tries > 1, nil // after a lost answer, the stamp is gone because the first try went through
}

// asynqError turns the handler's error into the one that makes asynq do the right thing.
func (r *runner) asynqError(ctx context.Context, a *attempt, err error) error {
	if err == nil {
		return nil
	}
	var (
		crash     *CrashError
		retry     *RetryError
		permanent *PermanentError
	)
	switch {
	case errors.As(err, &crash):
		return r.countCrash(ctx, a, crash)
	case errors.As(err, &retry):
		return &RetryError{Delay: retry.Delay, Message: errorText(retry.Message)}
	case errors.As(err, &permanent):
		return &PermanentError{Message: errorText(permanent.Message)}
	}
	return errors.New(errorText(err.Error()))
}

// errorText makes an error fit to be stored: asynq cannot encode what is not UTF-8 and would leave the task in active,
// and a task should not grow without bound. The middle goes first: the type and the last line say the most.
func errorText(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxErrorText {
		return s
	}
	const gap = "\n… (cut) …\n"
	half := (maxErrorText - len(gap)) / 2
	return strings.ToValidUTF8(s[:half], "") + gap + strings.ToValidUTF8(s[len(s)-half:], "")
}

// retryDelay is asynq's, unless the failure says when.
func retryDelay(n int, err error, t *asynq.Task) time.Duration {
	var retry *RetryError
	if errors.As(err, &retry) {
		// asynq keeps whole seconds and would cut a part of one off.
		return max(0, (retry.Delay + time.Second - 1).Truncate(time.Second))
	}
	return asynq.DefaultRetryDelayFunc(n, err, t)
}

// results keeps what tasks returned.
type results struct {
	client  redis.UniversalClient // does not retry by itself
	scripts scripts
	ttl     time.Duration
	cluster bool // the result's key lives in another slot than the task
}

// keep stores a result where the task can still be shown to be ours; it comes before the acknowledgement, so whatever
// sees the task gone finds its result. A fenced result is not stored and is no error: the acknowledgement that follows
// is refused and counted.
func (s *results) keep(ctx context.Context, a *attempt, result json.RawMessage) error {
	if len(result) == 0 {
		result = json.RawMessage("null")
	}
	keys := []string{a.key}
	if !s.cluster {
		keys = append(keys, ResultKey(a.task.ID))
	}
	retained := "0"
	if a.task.Retention > 0 {
		retained = "1"
	}
	cmd, _ := resend(ctx, func(ctx context.Context) *redis.Cmd {
		return s.scripts.result.Run(ctx, s.client, keys, a.owner, []byte(result), s.ttl.Milliseconds(), retained)
	})
	mine, err := cmd.Int()
	if err == nil && mine == 1 && s.cluster {
		cmd, _ = resend(ctx, func(ctx context.Context) *redis.Cmd {
			return s.client.Do(ctx, "SET", ResultKey(a.task.ID), []byte(result), "PX", s.ttl.Milliseconds())
		})
		err = cmd.Err()
	}
	if err != nil {
		return fmt.Errorf("the task succeeded, but its result could not be stored: %w", err)
	}
	return nil
}
