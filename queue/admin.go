package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/status"
)

// Failure is a task whose last attempt failed.
type Failure struct {
	ID, Queue, Type string
	State           status.TaskState // retry or archived
	Retried         int              // attempts that were followed by another, or are about to be
	MaxRetry        int
	FailedAt        time.Time // of the last attempt; zero when unknown
	NextAt          time.Time // of the next attempt; zero when archived
	Error           string    // all that is kept of it
	Payload         string    // its beginning, as the view asynq:t:<id> shows it
}

// dueMost is how many tasks of all retry sets are read for each that is wanted: when they are due says little about
// when they failed.
const dueMost = 4

// failureMost is how large a stored task may be, in bytes, to be read for its error; the view tells of a larger one.
const failureMost = 256 << 10

// Admin does to tasks and queues what an operator does by hand. It is safe for concurrent use.
type Admin struct {
	client    redis.UniversalClient
	inspector *asynq.Inspector
	scripts   scripts

	mu   sync.Mutex // guards seen
	seen map[failureKey]Failure
}

// failureKey names one failure of a task: the score changes with the next.
type failureKey struct {
	queue, id string
	state     status.TaskState
	score     float64
}

// NewAdmin returns an Admin that works through client, which stays the caller's.
func NewAdmin(client redis.UniversalClient) *Admin {
	return &Admin{client: client, inspector: asynq.NewInspectorFromRedisClient(client), scripts: newScripts()}
}

// How long and how many tasks asynq keeps in an archive.
const (
	archiveKeeps = 90 * 24 * time.Hour
	archiveMost  = 10_000
)

// Retry puts a failed or scheduled task at the end of the pending list, whatever its remaining retries. The crashes,
// suspicions and recoveries that were counted against it are forgotten in the same step.
func (a *Admin) Retry(ctx context.Context, queue, id string) error {
	keys := []string{taskKey(queue, id), pendingKey(queue), groupsKey(queue)}
	n, err := a.scripts.run.Run(ctx, a.client, keys, id, keyPrefix(queue), groupKeyPrefix(queue)).Int()
	if err == nil {
		switch n {
		case 1:
			return nil
		case 0:
			err = asynq.ErrTaskNotFound
		case -1:
			err = errors.New("it is active")
		case -2:
			err = errors.New("it is pending already")
		default:
			err = errors.New("it is not where its state says")
		}
	}
	return fmt.Errorf("run task %s of queue %s again: %w", id, queue, err)
}

// Delete removes a failed task, or one that waits for one worker, and its view. Nothing brings it back. Any other task
// that is about to run, because somebody else has had it run again meanwhile or its next attempt is due, is left alone:
// that is an error.
func (a *Admin) Delete(ctx context.Context, queue, id string) error {
	if err := a.deleteTask(ctx, queue, id); err != nil {
		return fmt.Errorf("delete task %s of queue %s: %w", id, queue, err)
	}
	if err := a.client.Del(ctx, ViewKey(id)).Err(); err != nil {
		return fmt.Errorf("delete %s, while its task is deleted: %w", ViewKey(id), err)
	}
	return nil
}

func (a *Admin) deleteTask(ctx context.Context, queue, id string) error {
	state, err := a.client.HGet(ctx, taskKey(queue, id), "state").Result()
	switch {
	case err != nil && !errors.Is(err, redis.Nil):
		return err
	case err == nil && status.TaskState(state) == status.Pending:
		removed, err := a.removeDirect(ctx, queue, id, "delete")
		if err == nil && !removed {
			err = fmt.Errorf("it is %s, not failed", state)
		}
		return err
	case err == nil && status.TaskState(state) != status.Retry && status.TaskState(state) != status.Archived:
		return fmt.Errorf("it is %s, not failed", state)
	}
	return a.inspector.DeleteTask(queue, id)
}

// Archive moves a task that is neither active nor archived to the archive, one that waits for one worker too.
func (a *Admin) Archive(ctx context.Context, queue, id string) error {
	removed, err := a.removeDirect(ctx, queue, id, "archive")
	if err == nil && !removed {
		err = a.inspector.ArchiveTask(queue, id)
	}
	if err != nil {
		return fmt.Errorf("archive task %s of queue %s: %w", id, queue, err)
	}
	return nil
}

// removeDirect deletes or archives a task that stands in some worker's list, which asynq does not know. It reports false
// when there is none.
func (a *Admin) removeDirect(ctx context.Context, queue, id, how string) (bool, error) {
	keys := []string{taskKey(queue, id), directsKey(queue), archivedKey(queue)}
	n, err := a.scripts.removeDirect.Run(ctx, a.client, keys,
		id, directKeyPrefix(queue), how, int(archiveKeeps/time.Second), archiveMost).Int()
	if err != nil {
		return false, fmt.Errorf("look for it among the tasks for one worker: %w", err)
	}
	return n == 1, nil
}

// Pause keeps every worker from taking tasks of a queue, until Resume. Those that run go on. Pausing a paused queue is
// no error.
func (a *Admin) Pause(ctx context.Context, queue string) error {
	paused, err := a.client.Exists(ctx, pausedKey(queue)).Result()
	if err == nil && paused == 0 {
		err = a.inspector.PauseQueue(queue)
	}
	if err != nil {
		return fmt.Errorf("pause queue %s: %w", queue, err)
	}
	return nil
}

// Resume ends a Pause. Resuming a queue that is not paused is no error.
func (a *Admin) Resume(ctx context.Context, queue string) error {
	paused, err := a.client.Exists(ctx, pausedKey(queue)).Result()
	if err == nil && paused > 0 {
		err = a.inspector.UnpauseQueue(queue)
	}
	if err != nil {
		return fmt.Errorf("resume queue %s: %w", queue, err)
	}
	return nil
}

// Failures returns the tasks of these queues that failed last, at most so many, the latest first: the newest in the
// archives and those of the retry sets that are due next. What it read before is not read again. However many queues
// there are, it reads and keeps a few tasks for each that is wanted.
func (a *Admin) Failures(ctx context.Context, queues []string, most int) ([]Failure, error) {
	keys, err := a.failed(ctx, queues, most)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	seen := a.seen
	a.mu.Unlock()
	known := make(map[failureKey]Failure, len(keys))
	var unknown []failureKey
	for _, k := range keys {
		if f, ok := seen[k]; ok {
			known[k] = f
		} else {
			unknown = append(unknown, k)
		}
	}
	if err := a.read(ctx, unknown, known); err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.seen = known
	a.mu.Unlock()
	list := make([]Failure, 0, len(known))
	for _, f := range known {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b Failure) int {
		return cmp.Or(b.FailedAt.Compare(a.FailedAt), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.ID, b.ID))
	})
	return list[:min(len(list), most)], nil
}

func (a *Admin) failed(ctx context.Context, queues []string, most int) ([]failureKey, error) {
	pipe := a.client.Pipeline()
	type replies struct{ archived, retry *redis.ZSliceCmd }
	all := make([]replies, len(queues))
	last := int64(most - 1)
	for i, q := range queues {
		all[i] = replies{pipe.ZRevRangeWithScores(ctx, archivedKey(q), 0, last), pipe.ZRangeWithScores(ctx, retryKey(q), 0, last)}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read the failed tasks: %w", err)
	}
	var archived, retry []failureKey
	for i, q := range queues {
		archived = appendKeys(archived, q, status.Archived, all[i].archived.Val())
		retry = appendKeys(retry, q, status.Retry, all[i].retry.Val())
	}
	slices.SortStableFunc(archived, func(a, b failureKey) int { return cmp.Compare(b.score, a.score) })
	slices.SortStableFunc(retry, func(a, b failureKey) int { return cmp.Compare(a.score, b.score) })
	return slices.Concat(archived[:min(len(archived), most)], retry[:min(len(retry), dueMost*most)]), nil
}

func appendKeys(keys []failureKey, queue string, state status.TaskState, entries []redis.Z) []failureKey {
	for _, z := range entries {
		id, _ := z.Member.(string)
		keys = append(keys, failureKey{queue, id, state, z.Score})
	}
	return keys
}

// read adds what Redis knows of these failures to known. A task that has gone meanwhile is left out.
func (a *Admin) read(ctx context.Context, keys []failureKey, known map[failureKey]Failure) error {
	if len(keys) == 0 {
		return nil
	}
	pipe := a.client.Pipeline()
	sizes := make([]*redis.Cmd, len(keys))
	for i, k := range keys {
		sizes[i] = pipe.Do(ctx, "HSTRLEN", taskKey(k.queue, k.id), "msg")
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("read the failed tasks: %w", err)
	}
	messages := make([]*redis.StringCmd, len(keys))
	views := make([]*redis.MapStringStringCmd, len(keys))
	for i, k := range keys {
		switch size, _ := sizes[i].Int64(); {
		case size > failureMost:
			views[i] = pipe.HGetAll(ctx, ViewKey(k.id))
		case size > 0:
			messages[i] = pipe.HGet(ctx, taskKey(k.queue, k.id), "msg")
		}
	}
	if pipe.Len() > 0 {
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("read the failed tasks: %w", err)
		}
	}
	for i, k := range keys {
		f := Failure{ID: k.id, Queue: k.queue, State: k.state}
		at := time.Unix(int64(k.score), 0)
		if k.state == status.Retry {
			f.NextAt = at
		}
		switch {
		case views[i] != nil:
			f.fromView(views[i].Val())
			if k.state == status.Archived {
				f.FailedAt = at
			}
		case messages[i] == nil || !f.fromMessage(messages[i].Val()):
			continue
		}
		known[k] = f
	}
	return nil
}

func (f *Failure) fromMessage(stored string) bool {
	m, err := decodeMessage([]byte(stored))
	if err != nil {
		return false
	}
	f.Type, f.Retried, f.MaxRetry = m.Type, m.Retried, m.MaxRetry
	f.FailedAt, f.Error, f.Payload = m.LastFailed, errorText(m.ErrorMsg), PayloadText(m.Payload)
	return true
}

// fromView fills in what the readable hash tells, if it is of the same task: ids are unique per queue only.
func (f *Failure) fromView(view map[string]string) {
	if view["queue"] != f.Queue {
		return
	}
	f.Type, f.Error, f.Payload = view["type"], errorText(view["error"]), view["payload"]
	f.Retried, _ = strconv.Atoi(view["retried"])
	f.MaxRetry, _ = strconv.Atoi(view["max_retry"])
}
