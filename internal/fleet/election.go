package fleet

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/runqy/runqy-worker/internal/timer"
)

const (
	leaseDuration  = 10 * time.Second // how long the lease outlives its last renewal
	renewInterval  = 3 * time.Second  // the leader renews at least this often
	requestTimeout = 3 * time.Second  // of one exchange with Redis
	// leaseMargin is how much earlier than Redis a leader that cannot renew counts its lease as over.
	leaseMargin = time.Second
	// campaignJitter spreads the candidates, so that they do not all ask in the same moment.
	campaignJitter = time.Second
)

// Lease is the lease of the leader as Redis keeps it; [Store] is the real one.
type Lease interface {
	// Acquire takes the lease for the candidate of that name, or renews it, for that long. When another process has it,
	// left is what remains of that one's.
	Acquire(ctx context.Context, name string, lease time.Duration) (held bool, left time.Duration, err error)
	// Release ends the lease, if it is that candidate's.
	Release(ctx context.Context, name string) error
}

// elector takes part in the election of the leader: the process that has the lease.
type elector struct {
	lease    Lease
	name     string        // of this candidate
	interval time.Duration // between two renewals
	log      *slog.Logger
	leading  atomic.Bool
}

func newElector(lease Lease, name string, interval time.Duration, log *slog.Logger) *elector {
	return &elector{lease: lease, name: name, interval: min(interval, renewInterval), log: log}
}

// run campaigns and calls lead while this process is the leader, again and again until ctx ends. lead gets a context
// that ends with the lease and must then return. When run returns, lead has, and the lease is released.
func (e *elector) run(ctx context.Context, lead func(context.Context)) {
	for {
		since, elected := e.campaign(ctx)
		if !elected {
			break
		}
		e.lead(ctx, since, lead)
	}
	e.resign(ctx)
}

// campaign asks for the lease until this process has it or ctx ends. since is when it asked.
func (e *elector) campaign(ctx context.Context) (since time.Time, elected bool) {
	failing := false
	for ctx.Err() == nil {
		since = time.Now()
		held, left, err := e.acquire(ctx, requestTimeout)
		wait := left + rand.N(campaignJitter)
		switch {
		case ctx.Err() != nil:
			return since, false
		case err != nil:
			if !failing {
				e.log.Warn("lease request failed", "error", err)
			}
			wait = renewInterval/2 + rand.N(campaignJitter)
		case held:
			return since, true
		}
		failing = err != nil
		_ = timer.Sleep(ctx, wait) // the loop asks ctx
	}
	return since, false
}

// lead runs the leader's work until ctx ends or the lease, which was asked for at since, is lost.
func (e *elector) lead(ctx context.Context, since time.Time, work func(context.Context)) {
	e.log.Info("leader elected")
	leading, end := context.WithCancel(ctx)
	done := make(chan struct{})
	e.leading.Store(true)
	go func() { // ends with leading; waited for below
		defer close(done)
		work(leading)
	}()
	defer func() {
		end()
		<-done
		e.leading.Store(false)
	}()
	e.renew(ctx, since)
}

// renew keeps the lease, which was asked for at since, until ctx ends or it is lost.
func (e *elector) renew(ctx context.Context, since time.Time) {
	for {
		_ = timer.Sleep(ctx, min(e.interval, remaining(since))) // ctx is asked below
		asked := time.Now()
		held, _, err := e.acquire(ctx, min(requestTimeout, remaining(since)))
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && held:
			since = asked
		case err == nil:
			e.log.Warn("lease lost")
			return
		case remaining(since) <= 0:
			e.log.Warn("lease renewal failed", "error", err)
			return
		}
	}
}

// remaining is how long a lease that was asked for at since may still be counted on.
func remaining(since time.Time) time.Duration {
	return time.Until(since.Add(leaseDuration - leaseMargin))
}

func (e *elector) acquire(ctx context.Context, timeout time.Duration) (bool, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return e.lease.Acquire(ctx, e.name, leaseDuration)
}

// resign releases the lease at once, so that no candidate has to wait for its end.
func (e *elector) resign(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	if err := e.lease.Release(ctx, e.name); err != nil {
		e.log.Warn("lease release failed", "error", err)
	}
}
