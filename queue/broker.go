package queue

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/backoff"
	"github.com/runqy/runqy-worker/internal/timer"
)

// broker is the Redis client that asynq's server is given. Only scripts are looked at, by the shape of their keys: the
// dequeue is replaced, acknowledgements are guarded, everything else passes through.
type broker struct {
	redis.UniversalClient
	// noRetry runs what must not be sent twice without our knowing: its client does not retry by itself.
	noRetry  redis.UniversalClient
	dequeuer *dequeuer
	attempts *attempts
	// acknowledged is told of every acknowledgement that Redis carried out for a run of ours.
	acknowledged func(a *attempt, out outcome, stored *message)
	fenced       func(queue, taskID string, out outcome)
	requestAudit func() // something may be stamped ours that nobody holds

	mu      sync.Mutex               // guards guarded
	guarded map[string]*redis.Script // by the digest of asynq's own source; as many as asynq has such scripts
}

// outcome is what an acknowledgement does with the task.
type outcome string

const (
	outcomeDone     outcome = "completed" // removed, or kept as completed for its retention
	outcomeRetry    outcome = "retry"
	outcomeArchived outcome = "archived"
	outcomePending  outcome = "pending"
	outcomeDropped  outcome = "dropped" // asynq did not send it, since the lease had ended
)

const (
	resendFor     = 30 * time.Second // where the caller has no deadline: as long as asynq's leases
	fencedReply   = "FENCED"
	notFoundReply = "NOT FOUND"
)

// EvalSha implements redis.Scripter.
func (b *broker) EvalSha(ctx context.Context, sha1 string, keys []string, args ...any) *redis.Cmd {
	if queue, ok := dequeueOf(keys); ok {
		return b.dequeuer.dequeue(ctx, queue)
	}
	ack, ok := acknowledgementOf(keys)
	if !ok {
		return b.UniversalClient.EvalSha(ctx, sha1, keys, args...)
	}
	b.mu.Lock()
	script := b.guarded[sha1]
	b.mu.Unlock()
	if script == nil {
		// asynq answers this by sending the source through Eval, which is where we learn it.
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(redis.ErrNoScript)
		return cmd
	}
	return b.acknowledge(ctx, script, ack, keys, args)
}

// Eval implements redis.Scripter.
func (b *broker) Eval(ctx context.Context, source string, keys []string, args ...any) *redis.Cmd {
	if queue, ok := dequeueOf(keys); ok {
		return b.dequeuer.dequeue(ctx, queue)
	}
	ack, ok := acknowledgementOf(keys)
	if !ok {
		return b.UniversalClient.Eval(ctx, source, keys, args...)
	}
	digest := sha1.Sum([]byte(source)) //nolint:gosec // Redis names scripts by SHA-1
	sha := hex.EncodeToString(digest[:])
	b.mu.Lock()
	script := b.guarded[sha]
	if script == nil {
		script = redis.NewScript(guardLua + source)
		b.guarded[sha] = script
	}
	b.mu.Unlock()
	return b.acknowledge(ctx, script, ack, keys, args)
}

// Subscribe implements redis.UniversalClient, for asynq's cancellations. asynq panics when a subscription ends before
// it has asked for that, so it is not on the client that may be closed under it.
func (b *broker) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return b.noRetry.Subscribe(ctx, channels...)
}

// dequeueOf recognises asynq's dequeue script by its second key.
func dequeueOf(keys []string) (queue string, ok bool) {
	if len(keys) != 4 {
		return "", false
	}
	queue, rest, ok := queueOfKey(keys[1])
	return queue, ok && rest == "paused"
}

// acknowledgement is a recognised script call.
type acknowledgement struct {
	queue, id string
	out       outcome
	taskIndex int // of the task key in KEYS, from 1
	lease     int // of the lease key in KEYS, from 1
}

// acknowledgementOf recognises the scripts that end a run: their keys hold the active list, the lease set and exactly
// one task hash (archive also passes the bare prefix of the task keys).
func acknowledgementOf(keys []string) (acknowledgement, bool) {
	ack := acknowledgement{out: outcomeDone}
	active := false
	for i, key := range keys {
		queue, rest, ok := queueOfKey(key)
		if !ok {
			continue
		}
		if id, isTask := strings.CutPrefix(rest, "t:"); isTask {
			if id == "" {
				continue
			}
			if ack.taskIndex != 0 {
				return acknowledgement{}, false
			}
			ack.queue, ack.id, ack.taskIndex = queue, id, i+1
			continue
		}
		switch rest {
		case "active":
			active = true
		case "lease":
			ack.lease = i + 1
		case "retry":
			ack.out = outcomeRetry
		case "archived":
			ack.out = outcomeArchived
		case "pending":
			ack.out = outcomePending
		}
	}
	return ack, active && ack.taskIndex != 0 && ack.lease != 0
}

// acknowledge runs a guarded script, and again while the connection fails, until ctx ends: asynq gives it the end of
// the lease. asynq's own re-send runs under a context that is over by then, and has nothing left to try.
func (b *broker) acknowledge(ctx context.Context, script *redis.Script, ack acknowledgement, keys []string, args []any) *redis.Cmd {
	if err := ctx.Err(); err != nil {
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(err)
		return cmd
	}
	now := time.Now()
	a, settled := b.attempts.acknowledging(taskKey(ack.queue, ack.id), ack.out, now)
	if settled {
		b.attempts.acknowledged(a)
		return okCmd(ctx)
	}
	owner := ""
	if a != nil {
		owner = a.owner
		defer b.attempts.acknowledged(a)
	}
	args = append(args[:len(args):len(args)], owner, now.Unix(), ack.taskIndex, ack.lease)
	cmd, tries := resend(ctx, func(ctx context.Context) *redis.Cmd {
		return script.Run(ctx, b.noRetry, keys, args...)
	})
	reply, err := cmd.Text()
	switch {
	case err != nil && !isReply(err):
		b.requestAudit()
		return cmd
	case reply == fencedReply, a != nil && err != nil && strings.Contains(err.Error(), notFoundReply):
		// After a try whose answer was lost, this is what the first one's success looks like.
		if tries == 1 {
			b.fenced(ack.queue, ack.id, ack.out)
			return okCmd(ctx)
		}
	case err != nil:
		return cmd
	}
	if a != nil {
		b.acknowledged(a, ack.out, storedMessage(ack.out, args))
	}
	return okCmd(ctx)
}

// storedMessage decodes the task message that retry and archive write back, which holds the error and the new count.
func storedMessage(out outcome, args []any) *message {
	if out != outcomeRetry && out != outcomeArchived || len(args) < 2 {
		return nil
	}
	encoded, ok := args[1].([]byte)
	if !ok {
		return nil
	}
	m, err := decodeMessage(encoded)
	if err != nil {
		return nil
	}
	return m
}

// resend runs a command until Redis has answered it or ctx is over, and returns its last result and the number of
// tries. Errors that pass by themselves (a failover, a full memory) count as no answer.
func resend(ctx context.Context, run func(context.Context) *redis.Cmd) (*redis.Cmd, int) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, resendFor)
		defer cancel()
	}
	delays := backoff.Policy{First: 5 * time.Millisecond, Max: time.Second}
	for try := 1; ; try++ {
		cmd := run(ctx)
		if err := cmd.Err(); err == nil || isReply(err) {
			return cmd, try
		}
		if err := timer.Sleep(ctx, delays.Delay(try)); err != nil {
			return cmd, try
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
	for _, temporary := range []string{
		"MOVED", "ASK", "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY", "OOM", "MISCONF",
		"max number of clients",
	} {
		// Redis 6 wraps what a script ran into.
		if redis.HasErrorPrefix(err, temporary) || strings.Contains(err.Error(), " -"+temporary+" ") {
			return false
		}
	}
	return true
}

func okCmd(ctx context.Context) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	cmd.SetVal("OK")
	return cmd
}

func nilCmd(ctx context.Context) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(redis.Nil)
	return cmd
}

// unexpectedReply names a script's answer that has not the form it should have.
func unexpectedReply(script string, v any) error {
	return fmt.Errorf("the %s script answered %v, which it never should", script, v)
}
