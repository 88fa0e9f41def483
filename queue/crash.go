package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// countCrash counts a crash against the task and archives it when it has caused too many.
func (r *runner) countCrash(ctx context.Context, a *attempt, crash *CrashError) error {
	cmd, _ := resend(ctx, func(ctx context.Context) *redis.Cmd {
		return r.scripts.crash.Run(ctx, r.client, []string{a.key}, a.owner)
	})
	crashes, err := cmd.Int()
	if err != nil {
		r.log.Warn("crash not counted", "queue", a.task.Queue, "task_id", a.task.ID, "error", err)
	}
	text := errorText(crash.Error())
	r.views.crashed(a.task, crashes)
	if r.maxCrashes > 0 && crashes >= r.maxCrashes {
		return &PermanentError{Message: fmt.Sprintf(
			"archived: it took the Python process down %d times (max_task_crashes is %d); last time: %s", crashes, r.maxCrashes, text)}
	}
	return errors.New(text)
}
