package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redisclient"
)

const (
	awaitFirst = 200 * time.Millisecond
	awaitMost  = 5 * time.Second
)

// persistence tries things of Redis until they work.
type persistence struct {
	log     *slog.Logger
	target  redisclient.Target
	waiting func(what string, err error) // told of each failure; may be nil
}

// permanent marks an error that trying again does not mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// persist tries until it works, ctx is over, or the error is permanent. It says so once, not at each try.
func (p persistence) persist(ctx context.Context, what string, try func() error) error {
	delay := awaitFirst
	for n := 0; ; n++ {
		err := try()
		var final permanent
		switch {
		case err == nil:
			if n > 0 {
				p.log.Info(what+": done", "tries", n+1)
			}
			return nil
		case errors.As(err, &final):
			return final.error
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if n == 0 {
			p.log.Warn(what+"; it is tried again until it works", "redis", p.target.String(), "error", err)
		}
		if p.waiting != nil {
			p.waiting(what, err)
		}
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
			delay = min(2*delay, awaitMost)
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// awaitRedis waits until Redis answers and is new enough. Waiting does not cure one that is too old.
func (p persistence) awaitRedis(ctx context.Context, client redis.UniversalClient) error {
	return p.persist(ctx, "waiting for Redis", func() error {
		err := redisclient.CheckServer(ctx, client)
		if errors.Is(err, redisclient.ErrTooOld) || errors.Is(err, redisclient.ErrCredentials) {
			return permanent{fmt.Errorf("redis %s: %w", p.target, err)}
		}
		return err
	})
}
