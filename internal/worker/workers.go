package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/internal/fleet"
)

// peers judges all workers for who looks at this process's dashboard. Where this process is the fleet's checker, its
// judgements are there; else the workers are pinged as the checker pings them, so that every dashboard says the same. No
// worker is pinged while nobody looks.
type peers struct {
	service  *fleet.Service
	checker  *fleet.Checker
	interval time.Duration // between two rounds

	wake chan struct{} // holds at most one token: somebody looks

	mu    sync.Mutex    // guards the rest
	round chan struct{} // closed when the next round has ended
	at    time.Time     // of the last round; zero: none has ended
	last  []fleet.Worker
	err   error
}

func (f *fleetPart) newPeers(o fleetOptions) *peers {
	return &peers{
		service: f.service, interval: o.config.Fleet.Interval, wake: make(chan struct{}, 1), round: make(chan struct{}),
		checker: fleet.NewChecker(fleet.CheckerOptions{
			Registry: f.store, Pinger: f.pinger, PingTimeout: o.config.Fleet.PingTimeout, Self: o.self,
		}),
	}
}

// run pings the workers when somebody looks, until ctx is over. It then returns nil.
func (p *peers) run(ctx context.Context) error {
	for {
		select {
		case <-p.wake:
		case <-ctx.Done():
			return nil
		}
		workers, err := p.checker.Round(ctx)
		p.mu.Lock()
		if p.err = err; err == nil {
			p.last = workers
		}
		p.at = time.Now()
		close(p.round)
		p.round = make(chan struct{})
		p.mu.Unlock()
		select { // who asked meanwhile has been answered
		case <-p.wake:
		default:
		}
	}
}

// list returns every worker as it was judged last. It waits, until ctx is over, when none has been judged for a while.
func (p *peers) list(ctx context.Context) ([]fleet.Worker, error) {
	if workers := p.service.Workers(); workers != nil {
		return workers, nil
	}
	for {
		p.mu.Lock()
		age, workers, err, round := time.Since(p.at), p.last, p.err, p.round
		p.mu.Unlock()
		if age >= p.interval {
			select {
			case p.wake <- struct{}{}:
			default:
			}
		}
		if age < 3*p.interval {
			return workers, err
		}
		select {
		case <-round:
		case <-ctx.Done():
			return nil, fmt.Errorf("the workers have not been judged in time: %w", ctx.Err())
		}
	}
}
