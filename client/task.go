package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/timer"
)

// Task is one task to enqueue. Queue, Type and Payload are required; each other field that is left zero has a default.
type Task struct {
	Queue string // name of the queue: letters, digits, dots, _ and -
	Type  string // chooses the handler, as @task("…") names it in Python
	// Payload is what the handler gets: any JSON value, null for none.
	Payload json.RawMessage
	// ID is unique within the queue, for as long as the task exists there. No white space and no braces. Results are
	// kept by ID alone, so tasks of two queues that are waited for must not share one. Empty: a random UUID.
	ID string
	// MaxRetry is how many times a failed task is tried again, 0 or more. Nil: 25. Write new(3) for three times.
	MaxRetry *int
	// Timeout is how long one attempt may take, at least 1 s, counted in whole seconds. 0: 30 minutes.
	Timeout time.Duration
	// Retention is how long the task stays in Redis as completed, at least 1 s, counted in whole seconds. 0: it is
	// removed when it completes. The result that [Client.Wait] returns is kept apart, for the worker's results.ttl.
	Retention time.Duration
	// In delays the task: it is not started before so long from now. 0: at once.
	In time.Duration
	// Headers are passed to the handler beside the payload.
	Headers map[string]string
	// DiscardOldResult removes the result of an earlier task with the same ID before the task is enqueued, so that
	// [Client.Wait] does not take it for the new one. It costs two round trips, and nothing without an ID. The result
	// of a task that still exists is kept: enqueueing fails with [ErrTaskExists] then.
	DiscardOldResult bool
}

// TaskInfo names a task that was enqueued.
type TaskInfo struct {
	ID    string    `json:"id"`
	Queue string    `json:"queue"`
	Type  string    `json:"type"`
	State TaskState `json:"state"`
}

// TaskState is where a task is right after it was enqueued.
type TaskState string

// The states of a task that was enqueued.
const (
	TaskPending   TaskState = "pending"   // a worker may take it now
	TaskScheduled TaskState = "scheduled" // it waits for the time that Task.In gave it
)

// ErrTaskExists says that the queue already has a task with this ID: it waits, runs, is archived or retained.
var ErrTaskExists = errors.New("a task with this id exists already")

// InvalidTaskError says what is wrong with a [Task]. Nothing was sent.
type InvalidTaskError struct {
	Problem string
}

// Error returns the problem.
func (e *InvalidTaskError) Error() string { return e.Problem }

// Validate returns nil for a task that can be enqueued, else an [*InvalidTaskError]. It sends nothing and does not
// block. [Client.Enqueue] calls it too.
func (t Task) Validate() error {
	if problem := t.problem(); problem != "" {
		return &InvalidTaskError{Problem: problem}
	}
	return nil
}

// problem returns what is wrong with the task, or nothing.
func (t Task) problem() string {
	if err := config.CheckQueueName(t.Queue); err != nil {
		return err.Error()
	}
	switch {
	case strings.TrimSpace(t.Type) == "":
		return "the task has no type"
	case len(t.Payload) == 0:
		return "the task has no payload; write null for none"
	case !json.Valid(t.Payload):
		return "the payload is not JSON (a text stands in double quotes)"
	case t.MaxRetry != nil && *t.MaxRetry < 0:
		return fmt.Sprintf("max retry %d is negative", *t.MaxRetry)
	case t.In < 0:
		return fmt.Sprintf("delay %v is negative", t.In)
	case strings.ContainsAny(t.ID, "{} \t\r\n"):
		return fmt.Sprintf("task id %q has white space or braces", t.ID)
	}
	// asynq counts both in whole seconds and takes less than one for none.
	for name, d := range map[string]time.Duration{"timeout": t.Timeout, "retention": t.Retention} {
		if d < 0 || (d > 0 && d < time.Second) {
			return fmt.Sprintf("%s %v is less than 1s", name, d)
		}
	}
	return ""
}

// message is the task as asynq takes it.
func (t Task) message() (*asynq.Task, []asynq.Option) {
	opts := []asynq.Option{asynq.Queue(t.Queue)}
	if t.ID != "" {
		opts = append(opts, asynq.TaskID(t.ID))
	}
	if t.MaxRetry != nil {
		opts = append(opts, asynq.MaxRetry(*t.MaxRetry))
	}
	if t.Timeout > 0 {
		opts = append(opts, asynq.Timeout(t.Timeout))
	}
	if t.Retention > 0 {
		opts = append(opts, asynq.Retention(t.Retention))
	}
	if t.In > 0 {
		opts = append(opts, asynq.ProcessIn(t.In))
	}
	return asynq.NewTaskWithHeaders(t.Type, bytes.TrimSpace(t.Payload), t.Headers), opts
}

// Enqueue puts one task on its queue and returns its ID. When the connection breaks before Redis has answered, the task
// is sent again under the same ID, so that it is never enqueued twice. It blocks for a round trip to Redis, two for the Client's first
// task of a queue; on a Redis Cluster whose slot moves or whose master is elected, for up to 30 s.
//
// The error is an [*InvalidTaskError] for a task that cannot be enqueued, and wraps [ErrTaskExists] for an ID that the
// queue already has; for an ID of yours that may have been this very call, before its connection broke. After any other
// error, the end of ctx included, the task may or may not be in the queue.
func (c *Client) Enqueue(ctx context.Context, t Task) (TaskInfo, error) {
	if err := t.Validate(); err != nil {
		return TaskInfo{}, err
	}
	if err := c.discardOldResult(ctx, t); err != nil {
		return TaskInfo{}, err
	}
	generated := t.ID == ""
	if generated {
		t.ID = uuid.NewString()
	}
	info, err := c.send(ctx, c.asynq, t)
	if generated && errors.Is(err, ErrTaskExists) {
		// Nobody else has this ID: the task was enqueued by a try whose answer was lost, and that was repeated.
		return t.enqueued(), nil
	}
	return info, err
}

// enqueued is what there is to tell of the task, whose ID is set, right after it was enqueued.
func (t Task) enqueued() TaskInfo {
	info := TaskInfo{ID: t.ID, Queue: t.Queue, Type: t.Type, State: TaskPending}
	if t.In > 0 {
		info.State = TaskScheduled
	}
	return info
}

const (
	retryFor   = 30 * time.Second // how long an enqueue is repeated while Redis Cluster refuses it
	retryPause = 100 * time.Millisecond
)

// send enqueues a valid task with one of the client's two asynq clients.
func (c *Client) send(ctx context.Context, client *asynq.Client, t Task) (TaskInfo, error) {
	task, opts := t.message()
	info, err := client.EnqueueContext(ctx, task, opts...)
	for started := time.Now(); c.isTransient(err) && time.Since(started) < retryFor; {
		if cause := timer.Sleep(ctx, retryPause); cause != nil {
			return TaskInfo{}, fmt.Errorf("enqueue in queue %s: %w: %w", t.Queue, cause, err)
		}
		info, err = client.EnqueueContext(ctx, task, opts...)
	}
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return TaskInfo{}, fmt.Errorf("enqueue task %s in queue %s: %w", t.ID, t.Queue, ErrTaskExists)
	}
	if err != nil {
		return TaskInfo{}, fmt.Errorf("enqueue in queue %s: %w", t.Queue, err)
	}
	return TaskInfo{ID: info.ID, Queue: info.Queue, Type: info.Type, State: TaskState(info.State.String())}, nil
}

// isTransient reports whether Redis Cluster has refused a command, without carrying it out, for as long as the queue's
// slot moves or its master is elected. A cluster client follows MOVED and ASK itself, but only a few times in a row; the
// client of one node never does, so it gets them for good. asynq keeps only the text of what Redis answered.
func (c *Client) isTransient(err error) bool {
	if err == nil {
		return false
	}
	codes := []string{"TRYAGAIN ", "CLUSTERDOWN "}
	if _, cluster := c.redis.(*redis.ClusterClient); cluster {
		codes = append(codes, "MOVED ", "ASK ")
	}
	return slices.ContainsFunc(codes, func(code string) bool { return strings.Contains(err.Error(), code) })
}

// discardOldResult does what Task.DiscardOldResult says.
func (c *Client) discardOldResult(ctx context.Context, t Task) error {
	if !t.DiscardOldResult || t.ID == "" {
		return nil
	}
	n, err := c.redis.Exists(ctx, taskKey(t.Queue, t.ID)).Result()
	if err != nil {
		return fmt.Errorf("look for task %s: %w", t.ID, err)
	}
	if n > 0 {
		return fmt.Errorf("enqueue task %s in queue %s: %w", t.ID, t.Queue, ErrTaskExists)
	}
	if err := c.redis.Del(ctx, resultKey(t.ID)).Err(); err != nil {
		return fmt.Errorf("remove the older result of task %s: %w", t.ID, err)
	}
	return nil
}

// Paused reports whether a queue is paused: its tasks wait until somebody resumes it. It blocks for a round trip to
// Redis.
func (c *Client) Paused(ctx context.Context, queue string) (bool, error) {
	n, err := c.redis.Exists(ctx, "asynq:{"+queue+"}:paused").Result()
	if err != nil {
		return false, fmt.Errorf("look whether queue %s is paused: %w", queue, err)
	}
	return n > 0, nil
}

// taskKey is asynq's own hash of the task.
func taskKey(queue, id string) string { return "asynq:{" + queue + "}:t:" + id }

func resultKey(id string) string { return "asynq:result:" + id }

// viewKey is the task's readable hash, which the worker keeps.
func viewKey(id string) string { return "asynq:t:" + id }
