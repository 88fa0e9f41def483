package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/timer"
	"github.com/runqy/runqy-worker/internal/wakeup"
)

const (
	auditIdleBeats      = 12               // without a request, there is an audit only every so many beats
	auditRequestedBeats = 3                // beats that a request lasts: a command may arrive after its connection broke
	attemptGracePeriod  = 15 * time.Second // how long a run may lie without asynq starting or acknowledging it
)

// auditor finds tasks that are stamped ours in Redis and that nobody here holds: a dequeue whose answer was lost, an
// acknowledgement that never got through. It requeues them. It looks at this process's own tasks only, and so is none
// of the recovery paths (recovery.go).
type auditor struct {
	client    redis.UniversalClient
	scripts   scripts
	attempts  *attempts
	views     *taskViews
	queues    []string
	interval  time.Duration
	log       *slog.Logger
	requested wakeup.Signal
	fenced    func(queue, taskID string)

	late []*attempt // of run: asynq dropped their acknowledgements, and whose the tasks are now is not known yet
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
			n, late := au.attempts.prune(time.Now(), attemptGracePeriod)
			if n > 0 {
				left = max(left, 1)
			}
			au.late = append(au.late, late...)
			au.settleLate(ctx)
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

// settleLate looks whose the tasks are that were run too slowly: asynq sends no acknowledgement once it believes the
// lease lost. A task that has been taken away meanwhile is one whose late acknowledgement would have been refused, and
// counts as such; one that is still ours is left to the audit. While Redis does not answer they wait: no task is taken
// then, so there are never many.
func (au *auditor) settleLate(ctx context.Context) {
	for len(au.late) > 0 {
		a := au.late[0]
		owner, err := au.client.HGet(ctx, a.key, "owner").Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return
		}
		if owner != a.owner {
			au.fenced(a.task.Queue, a.task.ID)
		}
		au.late = au.late[1:]
	}
}

// audit requeues what one queue's active list holds in our name and nobody here holds.
func (au *auditor) audit(ctx context.Context, queue string) error {
	reply, err := au.scripts.audit.Run(ctx, au.client, []string{activeKey(queue)}, taskKeyPrefix(queue), au.attempts.prefix).StringSlice()
	if err != nil {
		return fmt.Errorf("list the active tasks of queue %s: %w", queue, err)
	}
	for i := 0; i+1 < len(reply); i += 2 {
		id, owner := reply[i], reply[i+1]
		if au.attempts.holds(taskKey(queue, id), owner) {
			continue
		}
		requeued, err := requeue(ctx, au.client, au.scripts.requeue, queue, id, owner, atTheHead)
		if err != nil {
			return err
		}
		if requeued {
			au.views.requeued(&Task{ID: id, Queue: queue})
			au.log.Warn("task requeued", "queue", queue, "task_id", id, "reason", "not held")
		}
	}
	return nil
}
