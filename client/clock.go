package client

import (
	"context"
	_ "embed" // the script
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/enqueue.lua
var enqueueSource string

// redisClock is the Redis client that asynq enqueues with. It puts our script in the place of asynq's, which would write
// the age of a task by this machine's clock: with a wrong one the queue would seem to wait for minutes, or not at all.
// Everything else passes.
type redisClock struct {
	redis.UniversalClient
	enqueue *redis.Script
}

func newRedisClock(client redis.UniversalClient) redisClock {
	return redisClock{UniversalClient: client, enqueue: redis.NewScript(enqueueSource)}
}

// EvalSha implements redis.Scripter.
func (c redisClock) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return c.UniversalClient.EvalSha(ctx, c.digest(sha, keys), keys, args...)
}

// Eval implements redis.Scripter.
func (c redisClock) Eval(ctx context.Context, source string, keys []string, args ...any) *redis.Cmd {
	if isEnqueue(keys) {
		source = enqueueSource
	}
	return c.UniversalClient.Eval(ctx, source, keys, args...)
}

// digest returns that of the script to run where asynq asks for one.
func (c redisClock) digest(sha string, keys []string) string {
	if isEnqueue(keys) {
		return c.enqueue.Hash()
	}
	return sha
}

// isEnqueue recognises asynq's script for a task that is pending at once, by its keys.
func isEnqueue(keys []string) bool {
	return len(keys) == 2 && strings.HasPrefix(keys[0], "asynq:{") && strings.Contains(keys[0], "}:t:") &&
		strings.HasSuffix(keys[1], "}:pending")
}
