package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrNotScheduled says that a task did not wait in scheduled when it was to be assigned.
var ErrNotScheduled = errors.New("the task does not wait in scheduled")

// Directs are the lists of tasks that wait for one named worker each. A worker takes from its own before it takes from
// the shared list. It is safe for concurrent use.
type Directs struct {
	client  redis.UniversalClient
	scripts scripts
}

// NewDirects returns the direct lists behind a client.
func NewDirects(client redis.UniversalClient) *Directs {
	return &Directs{client: client, scripts: newScripts()}
}

// Assign gives a task that was enqueued for later (asynq.ProcessIn) to one worker now. It is one step inside Redis:
// before it the task is anybody's when its time comes, after it that worker's. ErrNotScheduled means that the task is
// not waiting any more.
func (d *Directs) Assign(ctx context.Context, queue, taskID, workerID string) error {
	keys := []string{scheduledKey(queue), taskKey(queue, taskID), directKey(queue, workerID), directsKey(queue)}
	n, err := d.scripts.assign.Run(ctx, d.client, keys, taskID, workerID, time.Now().UnixNano()).Int()
	if err != nil {
		return fmt.Errorf("assign task %s of queue %s to worker %s: %w", taskID, queue, workerID, err)
	}
	if n == 0 {
		return fmt.Errorf("assign task %s of queue %s to worker %s: %w", taskID, queue, workerID, ErrNotScheduled)
	}
	return nil
}

// Return moves what waits for workers that are not usable to the head of the shared list of the queue, and returns how
// many tasks that were.
func (d *Directs) Return(ctx context.Context, queue string, usable func(workerID string) bool) (int, error) {
	workers, err := d.client.SMembers(ctx, directsKey(queue)).Result()
	if err != nil {
		return 0, fmt.Errorf("list the workers that tasks of queue %s were assigned to: %w", queue, err)
	}
	total := 0
	for _, id := range workers {
		if usable(id) {
			continue
		}
		n, err := d.scripts.returnDirect.Run(ctx, d.client,
			[]string{directKey(queue, id), pendingKey(queue), directsKey(queue)}, id).Int()
		if err != nil {
			return total, fmt.Errorf("return the tasks of queue %s that wait for worker %s: %w", queue, id, err)
		}
		total += n
	}
	return total, nil
}
