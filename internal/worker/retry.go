package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/backoff"
	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/timer"
)

// retrier repeats what Redis has to answer until it succeeds.
type retrier struct {
	log    *slog.Logger
	target redisclient.Target
	failed func(what string, err error) // called after each failure; may be nil
}

// permanentError marks an error that another try does not cure.
type permanentError struct{ error }

func (p permanentError) Unwrap() error { return p.error }

// do calls try until it succeeds, ctx is over, or the error is permanent. It logs the first failure only, and the
// success that follows it. what names what is done, as in "waiting for Redis".
func (r retrier) do(ctx context.Context, what string, try func() error) error {
	policy := backoff.Policy{First: 200 * time.Millisecond, Max: 5 * time.Second}
	for n := 1; ; n++ {
		err := try()
		var permanent permanentError
		switch {
		case err == nil:
			if n > 1 {
				r.log.Info("retry succeeded", "reason", what, "tries", n)
			}
			return nil
		case errors.As(err, &permanent):
			return permanent.error
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if n == 1 {
			r.log.Warn("retrying", "reason", what, "redis", r.target.String(), "error", err)
		}
		if r.failed != nil {
			r.failed(what, err)
		}
		if err := timer.Sleep(ctx, policy.Delay(n)); err != nil {
			return err
		}
	}
}

// waitForRedis waits until Redis answers and is new enough. One that is too old, or refuses the credentials, is a
// permanent error.
func (r retrier) waitForRedis(ctx context.Context, client redis.UniversalClient) error {
	return r.do(ctx, "waiting for Redis", func() error {
		err := redisclient.CheckServer(ctx, client)
		if errors.Is(err, redisclient.ErrTooOld) || errors.Is(err, redisclient.ErrCredentials) {
			return permanentError{fmt.Errorf("redis %s: %w", r.target, err)}
		}
		return err
	})
}
