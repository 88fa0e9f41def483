package queue

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/timer"
	"github.com/runqy/runqy-worker/internal/wakeup"
)

const (
	auditIdleBeats      = 12 // without a request, there is an audit only every so many beats
	auditRequestedBeats = 3  // beats that a request lasts: a command may arrive after its connection broke
)

// auditor finds tasks that are stamped ours in Redis and that nobody here holds: an outcome that Redis refused, a list
// that somebody edited. It requeues them. It looks at this process's own tasks only, and so is none
// of the recovery paths (recovery.go).
type auditor struct {
	client    redis.UniversalClient
	scripts   scripts
	table     *attemptTable
	queues    []string
	interval  time.Duration
	log       *slog.Logger
	requested wakeup.Signal
}

// request has the queues audited soon. It never blocks.
func (au *auditor) request() { au.requested.Wake() }

// run audits on request, for a few beats after it, and now and then, until ctx is over.
func (au *auditor) run(ctx context.Context) {
	ticker := time.NewTicker(au.interval)
	defer ticker.Stop()
	left, idle := 0, 0 // beats: of the last request, since the last audit
	for {
		select {
		case <-ctx.Done():
			return
		case <-au.requested.C():
			left = auditRequestedBeats
			// Let a short break pass, and many losses become one audit.
			_ = timer.Sleep(ctx, min(au.interval, 500*time.Millisecond)) // when ctx ends, so does the audit
		case <-ticker.C:
			idle++
			if left == 0 && idle < auditIdleBeats {
				continue
			}
			left = max(0, left-1)
		}
		idle = 0
		for _, queue := range au.queues {
			if err := au.audit(ctx, queue); err != nil && ctx.Err() == nil {
				left = max(left, 1)
				au.log.Debug("audit failed", "queue", queue, "error", err)
			}
		}
	}
}

// audit requeues what one queue's active list holds in our name and nobody here holds.
func (au *auditor) audit(ctx context.Context, queue string) error {
	reply, err := au.scripts.audit.Run(ctx, au.client, []string{activeKey(queue)}, taskKeyPrefix(queue), au.table.prefix).StringSlice()
	if err != nil {
		return fmt.Errorf("list the active tasks of queue %s: %w", queue, err)
	}
	for i := 0; i+1 < len(reply); i += 2 {
		id, owner := reply[i], reply[i+1]
		if au.table.holds(queue, owner) {
			continue
		}
		requeued, err := requeue(ctx, au.client, au.scripts.requeue, queue, id, owner)
		if err != nil {
			return err
		}
		if requeued {
			au.log.Warn("task requeued", "queue", queue, "task_id", id, "owner", owner, "reason", "not held")
		}
	}
	return nil
}
