package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/backoff"
	"github.com/runqy/runqy-worker/internal/timer"
)

const resendFor = 30 * time.Second // where the caller has no deadline: as long as a lease

// requeue moves one task from active to the head of pending, if it still carries the owner stamp, and reports whether it
// did. When an answer was lost and the stamp is gone then, it may have, or the task has ended meanwhile: that counts as
// not moved.
func requeue(ctx context.Context, client redis.UniversalClient, script *redis.Script, queue, id, owner string) (bool, error) {
	keys := []string{taskKey(queue, id), activeKey(queue), leaseKey(queue), pendingKey(queue)}
	cmd := resend(ctx, func(ctx context.Context) *redis.Cmd {
		return script.Run(ctx, client, keys, id, owner, "RPUSH")
	})
	n, err := cmd.Int()
	if err != nil {
		return false, fmt.Errorf("requeue task %s of queue %s: %w", id, queue, err)
	}
	return n == 1, nil
}

// resend runs a command until Redis has answered it or ctx is over, and returns its last result. Errors that pass by
// themselves (a failover, a full memory) count as no answer.
func resend(ctx context.Context, run func(context.Context) *redis.Cmd) *redis.Cmd {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, resendFor)
		defer cancel()
	}
	delays := backoff.Policy{First: 5 * time.Millisecond, Max: time.Second}
	for try := 1; ; try++ {
		cmd := run(ctx)
		if err := cmd.Err(); err == nil || isReply(err) {
			return cmd
		}
		if err := timer.Sleep(ctx, delays.Delay(try)); err != nil {
			return cmd
		}
	}
}

// isReply reports whether an error is Redis' final word on a command, rather than a failure to get one.
func isReply(err error) bool {
	if errors.Is(err, redis.Nil) {
		return true
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	return !passes(reply.Error())
}

// passes reports whether the text of an error of Redis names a reason that passes by itself or when somebody mends it:
// a failover, a full memory, rights that were taken away.
func passes(text string) bool {
	for _, reason := range []string{
		"MOVED", "ASK", "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY", "OOM", "MISCONF",
		"NOAUTH", "WRONGPASS", "NOPERM", "max number of clients",
	} {
		// Redis 6 wraps what a script ran into.
		if strings.HasPrefix(text, reason) || strings.HasPrefix(text, "ERR "+reason) || strings.Contains(text, " -"+reason+" ") {
			return true
		}
	}
	return strings.Contains(text, "The user executing the script can't") // NOPERM inside a script, before Redis 7.2
}

// errUnexpected says that a script's answer has not the form it should have.
var errUnexpected = errors.New("unexpected answer of a script")

// unexpectedReply names a script's answer that has not the form it should have.
func unexpectedReply(script string, v any) error {
	return fmt.Errorf("%w: %s answered %.200v", errUnexpected, script, v)
}

// texts turns a script's answer into strings.
func texts(reply []any) ([]string, error) {
	out := make([]string, len(reply))
	for i, v := range reply {
		s, ok := v.(string)
		if !ok {
			return nil, unexpectedReply("Lua", reply)
		}
		out[i] = s
	}
	if len(out) == 0 {
		return nil, unexpectedReply("Lua", reply)
	}
	return out, nil
}
