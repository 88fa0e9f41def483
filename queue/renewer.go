package queue

import (
	"context"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	leaseFor   = 30 * time.Second // asynq's rdb.LeaseDuration
	renewEvery = leaseFor / 3
)

// renewer extends the leases of all attempts, a queue at a time, and learns which tasks have been taken away.
type renewer struct {
	client  redis.UniversalClient
	scripts scripts
	table   *attemptTable
	inbox   *inbox
	log     *slog.Logger
	failing bool
}

// run renews until ctx is over.
func (r *renewer) run(ctx context.Context) {
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.renew(ctx)
		}
	}
}

func (r *renewer) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, renewEvery)
	defer cancel()
	failed := false
	for queue, attempts := range r.table.held() {
		byOwner := make(map[string]*attempt, len(attempts))
		list := make([]held, len(attempts))
		for i, a := range attempts {
			byOwner[a.owner] = a
			list[i] = held{id: a.task.ID, owner: a.owner}
		}
		lost, err := (&renewals{client: r.client, scripts: r.scripts, queue: queue}).renew(ctx, list)
		if err != nil {
			// The stamp is what keeps the task ours: nothing is taken from an owner that beats.
			failed = true
			if !r.failing {
				r.log.Warn("leases not renewed", "queue", queue, "error", err)
			}
			continue
		}
		for _, t := range lost {
			r.inbox.put(event{kind: eventLost, attempt: byOwner[t.owner]})
		}
	}
	r.failing = failed
}
