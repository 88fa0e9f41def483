package queue

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// held is a task that this process holds.
type held struct{ id, owner string }

// renewals extends the leases of one queue.
type renewals struct {
	client  redis.UniversalClient
	scripts scripts
	queue   string
}

const renewBatch = 1000 // tasks in one call

// renew extends the leases of tasks by Redis' clock, and returns those that are no longer ours. A lease that is gone is
// written again. It may be repeated; after an error some leases are extended, and what was found lost is returned.
func (r *renewals) renew(ctx context.Context, tasks []held) (lost []held, err error) {
	for len(tasks) > 0 {
		batch := tasks[:min(len(tasks), renewBatch)]
		tasks = tasks[len(batch):]
		args := make([]any, 1, 1+2*len(batch))
		args[0] = taskKeyPrefix(r.queue)
		for i := range batch {
			args = append(args, &batch[i].id, &batch[i].owner)
		}
		positions, err := r.scripts.renew.Run(ctx, r.client, []string{leaseKey(r.queue)}, args...).Int64Slice()
		if err != nil {
			return lost, fmt.Errorf("renew the leases of queue %s: %w", r.queue, err)
		}
		for _, i := range positions {
			if i < 0 || i >= int64(len(batch)) {
				return lost, unexpectedReply("renew", positions)
			}
			lost = append(lost, batch[i])
		}
	}
	return lost, nil
}
