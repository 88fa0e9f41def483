package fleet

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/runqy/runqy-worker/internal/receipt"
	"github.com/runqy/runqy-worker/internal/timer"
)

// campaignJitter spreads the candidates, so that they do not all ask in the same moment.
const campaignJitter = time.Second

// elector takes part in the election of the leader: the process that has the lease.
type elector struct {
	lease    Lease
	name     string        // of this candidate
	interval time.Duration // between two renewals
	askEvery time.Duration // for the lease of another one; 0: when it should be over
	log      *slog.Logger
	leading  atomic.Bool
	receipts receipt.Log // of what is asked for the lease
}

func newElector(lease Lease, name string, interval time.Duration, log *slog.Logger) *elector {
	return &elector{lease: lease, name: name, interval: min(interval, renewInterval), log: log}
}

// run campaigns and calls lead while this process is the leader, again and again until ctx ends. lead gets a context
// that ends with the lease and must then return. When run returns, lead has, and the lease is released.
func (e *elector) run(ctx context.Context, lead func(context.Context)) {
	e.receipts.Expect(time.Now())
	defer e.receipts.Expect(time.Time{})
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
		if e.askEvery > 0 {
			wait = min(wait, e.askEvery)
		}
		e.receipts.Expect(time.Now().Add(wait))
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
