package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// ErrNotScheduled says that a task did not wait in scheduled when it was to be assigned.
var ErrNotScheduled = errors.New("the task does not wait in scheduled")

// Directs are the lists of tasks that wait for one named worker each: those that were assigned to it, and those that its
// blocked connection has claimed a moment ago. A worker takes from its own list before it takes from the shared one. It
// is safe for concurrent use.
type Directs struct {
	client  redis.UniversalClient
	scripts scripts
}

// DirectFate is what becomes of one worker's list.
type DirectFate int

const (
	// DirectKept leaves the list alone: its worker will take what is there.
	DirectKept DirectFate = iota
	// DirectReturned gives back what is there. The worker's name stays, since its connection may still claim a task.
	DirectReturned
	// DirectClosed gives back what is there, and the name leaves with an empty list. The worker can claim nothing more.
	DirectClosed
)

// returnBatch is how many tasks one script gives back.
const returnBatch = 1000

// NewDirects returns the direct lists behind a client.
func NewDirects(client redis.UniversalClient) *Directs {
	return &Directs{client: client, scripts: newScripts()}
}

// Assign gives a task that was enqueued for later (asynq.ProcessIn) to one worker now. It is one step inside Redis:
// before it the task is anybody's when its time comes, after it that worker's. ErrNotScheduled means that the task is
// not waiting any more.
func (d *Directs) Assign(ctx context.Context, queue, taskID, workerID string) error {
	keys := []string{scheduledKey(queue), taskKey(queue, taskID), directKey(queue, workerID), directsKey(queue)}
	n, err := d.scripts.assign.Run(ctx, d.client, keys, taskID, workerID).Int()
	if err != nil {
		return fmt.Errorf("assign task %s of queue %s to worker %s: %w", taskID, queue, workerID, err)
	}
	if n == 0 {
		return fmt.Errorf("assign task %s of queue %s to worker %s: %w", taskID, queue, workerID, ErrNotScheduled)
	}
	return nil
}

// Return treats each worker's list of a queue as fate says, and returns how many tasks went back: to the head of the
// shared list, in the order in which that worker would have taken them.
func (d *Directs) Return(ctx context.Context, queue string, fate func(workerID string) DirectFate) (int, error) {
	workers, err := d.client.SMembers(ctx, directsKey(queue)).Result()
	if err != nil {
		return 0, fmt.Errorf("list the workers that tasks of queue %s were assigned to: %w", queue, err)
	}
	total := 0
	for _, id := range workers {
		f := fate(id)
		if f == DirectKept {
			continue
		}
		n, err := d.giveBack(ctx, queue, id, f)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// Leave closes a worker's own list of a queue and returns how many tasks went back; the record of the process' last
// cycle goes too. The worker calls it when it stops, once its blocked connection is closed and no cycle is under way.
func (d *Directs) Leave(ctx context.Context, queue, workerID, nonce string) (int, error) {
	n, err := d.giveBack(ctx, queue, workerID, DirectClosed)
	if err != nil {
		return n, err
	}
	return n, forgetCycle(ctx, d.client, d.scripts.forgetCycle, queue, workerID, nonce)
}

// giveBack empties one list. What has gone back before an error is counted.
func (d *Directs) giveBack(ctx context.Context, queue, workerID string, fate DirectFate) (int, error) {
	closed := 0
	if fate == DirectClosed {
		closed = 1
	}
	keys := []string{directKey(queue, workerID), pendingKey(queue), directsKey(queue)}
	for total := 0; ; {
		n, err := d.scripts.returnDirect.Run(ctx, d.client, keys, workerID, taskKeyPrefix(queue), returnBatch, closed).Int()
		total += n
		if err != nil {
			return total, fmt.Errorf("return the tasks of queue %s that wait for worker %s: %w", queue, workerID, err)
		}
		if n < returnBatch {
			return total, nil
		}
	}
}
