// Package enqueue puts tasks on asynq queues, one or a file full, and waits
// for a result.
package enqueue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/config"
)

// Task is one task to enqueue. What is left zero is asynq's default: a random
// id, 25 retries, a timeout of 30 minutes, no retention, at once.
type Task struct {
	Queue, Type string
	Payload     json.RawMessage // valid JSON
	ID          string
	MaxRetry    *int          // nil: asynq's default
	Timeout     time.Duration // of one attempt; whole seconds
	Retention   time.Duration // how long asynq keeps the finished task; whole seconds
	In          time.Duration // not before so long from now
	Headers     map[string]string
}

// Info is what became of an enqueued task.
type Info struct {
	ID    string `json:"id"`
	Queue string `json:"queue"`
	Type  string `json:"type"`
	State string `json:"state"` // pending or scheduled
}

// ErrExists says that the queue already has a task with this id.
var ErrExists = errors.New("a task with this id exists already")

// Client enqueues over a Redis client that it does not own. It may be used
// from any goroutine.
type Client struct {
	redis     redis.UniversalClient
	asynq     *asynq.Client
	inspector *asynq.Inspector
}

// New returns a Client. It needs no closing; the caller closes the redis client.
func New(client redis.UniversalClient) *Client {
	return &Client{
		redis:     client,
		asynq:     asynq.NewClientFromRedisClient(client),
		inspector: asynq.NewInspectorFromRedisClient(client),
	}
}

// Validate tells what is wrong with a task, or nil. Nothing is sent.
func (t Task) Validate() error {
	if err := config.CheckQueueName(t.Queue); err != nil {
		return err
	}
	switch {
	case strings.TrimSpace(t.Type) == "":
		return errors.New("the task has no type")
	case len(t.Payload) == 0:
		return errors.New("the task has no payload; write null for none")
	case !json.Valid(t.Payload):
		return errors.New("the payload is not JSON (a text stands in double quotes)")
	case t.MaxRetry != nil && *t.MaxRetry < 0:
		return fmt.Errorf("max retry %d is negative", *t.MaxRetry)
	case t.In < 0:
		return fmt.Errorf("delay %v is negative", t.In)
	case strings.ContainsAny(t.ID, "{} \t\r\n"):
		return fmt.Errorf("task id %q has white space or braces", t.ID)
	}
	// asynq counts both in whole seconds and takes less than one for none.
	for name, d := range map[string]time.Duration{"timeout": t.Timeout, "retention": t.Retention} {
		if d < 0 || (d > 0 && d < time.Second) {
			return fmt.Errorf("%s %v is less than 1s", name, d)
		}
	}
	return nil
}

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

// Enqueue puts one task on its queue. An id that the queue already has is
// ErrExists.
func (c *Client) Enqueue(ctx context.Context, t Task) (Info, error) {
	if err := t.Validate(); err != nil {
		return Info{}, err
	}
	return send(ctx, c.asynq, t)
}

func send(ctx context.Context, client *asynq.Client, t Task) (Info, error) {
	task, opts := t.message()
	info, err := client.EnqueueContext(ctx, task, opts...)
	for begun := time.Now(); notNow(err) && time.Since(begun) < notNowFor; {
		select {
		case <-time.After(notNowPause):
		case <-ctx.Done():
			return Info{}, fmt.Errorf("enqueue in queue %s: %w: %w", t.Queue, context.Cause(ctx), err)
		}
		info, err = client.EnqueueContext(ctx, task, opts...)
	}
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return Info{}, fmt.Errorf("enqueue task %s in queue %s: %w", t.ID, t.Queue, ErrExists)
	}
	if err != nil {
		return Info{}, fmt.Errorf("enqueue in queue %s: %w", t.Queue, err)
	}
	return Info{ID: info.ID, Queue: info.Queue, Type: info.Type, State: info.State.String()}, nil
}

const (
	notNowFor   = 30 * time.Second
	notNowPause = 100 * time.Millisecond
)

// notNow tells whether Redis Cluster has refused a command, without carrying
// it out, for as long as the queue's slot moves or its master is elected.
// asynq keeps only the text of what Redis answered.
func notNow(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "TRYAGAIN") || strings.Contains(err.Error(), "CLUSTERDOWN"))
}

// EnqueueFresh is Enqueue for somebody who will Wait: a result that an earlier
// task left under the same id is removed first, so that it is not mistaken
// for the new one. The result of a task that is still there is left alone.
func (c *Client) EnqueueFresh(ctx context.Context, t Task) (Info, error) {
	if err := t.Validate(); err != nil {
		return Info{}, err
	}
	if t.ID != "" {
		n, err := c.redis.Exists(ctx, taskKey(t.Queue, t.ID)).Result()
		if err != nil {
			return Info{}, fmt.Errorf("look for task %s: %w", t.ID, err)
		}
		if n > 0 {
			return Info{}, fmt.Errorf("enqueue task %s in queue %s: %w", t.ID, t.Queue, ErrExists)
		}
		if err := c.redis.Del(ctx, resultKey(t.ID)).Err(); err != nil {
			return Info{}, fmt.Errorf("remove the older result of task %s: %w", t.ID, err)
		}
	}
	return send(ctx, c.asynq, t)
}

// Paused tells whether no worker takes tasks of the queue until somebody
// resumes it.
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
