package redisclient

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
)

// reloader has a cluster client ask again which node owns which slots when one of them does not answer. By itself
// go-redis does so when it is redirected, which a dead master does not do, and else once a minute: until then every
// command would go to the dead one, though its replica took over within seconds. What it asks for is done in the
// background and at most five times a second, however many commands fail.
type reloader struct {
	cluster *redis.ClusterClient
}

// DialHook implements redis.Hook.
func (r reloader) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements redis.Hook.
func (r reloader) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		r.outcome(ctx, err)
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (r reloader) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		r.outcome(ctx, err)
		return err
	}
}

func (r reloader) outcome(ctx context.Context, err error) {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, redis.ErrClosed) {
		return
	}
	// A node without a majority answers with CLUSTERDOWN; the majority may have a new master by now.
	var reply redis.Error
	if !errors.As(err, &reply) || redis.IsClusterDownError(err) {
		r.cluster.ReloadState(ctx)
	}
}
