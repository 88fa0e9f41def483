package fleet

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

const (
	roleLease    = 10 * time.Second // how long the role outlives its holder's last renewal
	roleRenewal  = 3 * time.Second  // the holder renews at least this often
	rolePatience = 3 * time.Second  // for one exchange with Redis
	// roleMargin is how much earlier than Redis a holder that cannot renew counts its lease as over.
	roleMargin = time.Second
	// roleJitter spreads those who wait for the role, so that they do not all ask in the same moment.
	roleJitter = time.Second
)

// Lease is the role as Redis keeps it; [Store] is the real one.
type Lease interface {
	Acquire(ctx context.Context, name string, lease time.Duration) (held bool, left time.Duration, err error)
	Release(ctx context.Context, name string) error
}

// role is held by one process at a time.
type role struct {
	lease   Lease
	name    string
	renewal time.Duration
	log     *slog.Logger
	held    atomic.Bool
}

func newRole(lease Lease, name string, interval time.Duration, log *slog.Logger) *role {
	return &role{lease: lease, name: name, renewal: min(interval, roleRenewal), log: log}
}

// run waits for the role and calls lead while it is held, again and again until ctx ends. lead gets a context that ends
// with the role and must then return. When run returns, lead has, and the role is free.
func (r *role) run(ctx context.Context, lead func(context.Context)) {
	failing := false
	for ctx.Err() == nil {
		asked := time.Now()
		held, left, err := r.acquire(ctx, rolePatience)
		wait := left + rand.N(roleJitter)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			if !failing {
				r.log.Warn("cannot ask for the role of the fleet's checker; it is tried again", "error", err)
			}
			wait = roleRenewal/2 + rand.N(roleJitter)
		case held:
			r.hold(ctx, asked, lead)
			wait = 0
		}
		failing = err != nil
		sleep(ctx, wait)
	}
	r.giveUp(ctx)
}

// hold keeps the role from its acquisition at since until ctx ends or the role is lost.
func (r *role) hold(ctx context.Context, since time.Time, lead func(context.Context)) {
	r.log.Info("this process is the fleet's checker now")
	leading, end := context.WithCancel(ctx)
	done := make(chan struct{})
	r.held.Store(true)
	go func() { // ends with leading; waited for below
		defer close(done)
		lead(leading)
	}()
	defer func() {
		end()
		<-done
		r.held.Store(false)
	}()
	for {
		sleep(ctx, min(r.renewal, r.remaining(since)))
		asked := time.Now()
		held, _, err := r.acquire(ctx, min(rolePatience, r.remaining(since)))
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && held:
			since = asked
		case err == nil:
			r.log.Warn("another process is the fleet's checker now")
			return
		case r.remaining(since) <= 0:
			r.log.Warn("the role of the fleet's checker could not be renewed and is given up", "error", err)
			return
		}
	}
}

// remaining is how long a lease that was asked for at since may still be counted on.
func (r *role) remaining(since time.Time) time.Duration {
	return time.Until(since.Add(roleLease - roleMargin))
}

func (r *role) acquire(ctx context.Context, patience time.Duration) (bool, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return r.lease.Acquire(ctx, r.name, roleLease)
}

// giveUp frees the role at once, so that nobody has to wait for the lease to end.
func (r *role) giveUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rolePatience)
	defer cancel()
	if err := r.lease.Release(ctx, r.name); err != nil {
		r.log.Warn("the role of the fleet's checker is not released, so the next one waits for its lease to end", "error", err)
	}
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
