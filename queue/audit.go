package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	auditCalmBeats  = 12               // with no cause for suspicion, only every so many beats
	auditSuspicious = 3                // beats that a suspicion lasts: a command may arrive after its connection broke
	attemptPatience = 15 * time.Second // how long a run may lie without asynq starting or acknowledging it
)

// auditor finds tasks that are stamped ours in Redis and that nobody here holds: a dequeue whose answer was lost, an
// acknowledgement that never got through. It gives them back.
type auditor struct {
	client   redis.UniversalClient
	scripts  scripts
	attempts *attempts
	views    *taskViews
	queues   []string
	interval time.Duration
	log      *slog.Logger
	nudge    chan struct{} // holds at most one token: something is suspect
	fenced   func(queue, taskID string)

	late []*attempt // of run: asynq dropped their acknowledgements, and whose the tasks are now is not known yet
}

// suspect has the queues audited soon. It never blocks.
func (au *auditor) suspect() {
	select {
	case au.nudge <- struct{}{}:
	default:
	}
}

// run audits on suspicion, for a few beats after it, and now and then, until ctx is over.
func (au *auditor) run(ctx context.Context) {
	ticker := time.NewTicker(au.interval)
	defer ticker.Stop()
	suspicious, calm := 0, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-au.nudge:
			suspicious = auditSuspicious
			// Let a short break pass, and many losses become one audit.
			pause(ctx.Done(), min(au.interval, 500*time.Millisecond))
		case <-ticker.C:
			n, late := au.attempts.prune(time.Now(), attemptPatience)
			if n > 0 {
				suspicious = max(suspicious, 1)
			}
			au.late = append(au.late, late...)
			au.judgeLate(ctx)
			calm++
			if suspicious == 0 && calm < auditCalmBeats {
				continue
			}
			suspicious = max(0, suspicious-1)
		}
		calm = 0
		for _, queue := range au.queues {
			if err := au.audit(ctx, queue); err != nil && ctx.Err() == nil {
				suspicious = max(suspicious, 1)
				au.log.Debug("audit failed; it is tried again", "queue", queue, "error", err)
			}
		}
	}
}

// judgeLate looks whose the tasks are that were run too slowly: asynq sends no acknowledgement once it believes the
// lease lost. A task that has been taken away meanwhile is one whose late acknowledgement would have been refused, and
// counts as such; one that is still ours is left to the audit. While Redis does not answer they wait: no task is taken
// then, so there are never many.
func (au *auditor) judgeLate(ctx context.Context) {
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

// audit gives back what one queue's active list holds in our name and nobody here holds.
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
		given, err := giveBack(ctx, au.client, au.scripts.giveback, queue, id, owner, atTheHead)
		if err != nil {
			return err
		}
		if given {
			au.views.givenBack(&Task{ID: id, Queue: queue})
			au.log.Warn("gave a task back that was stamped ours and that nobody held", "queue", queue, "task_id", id)
		}
	}
	return nil
}
