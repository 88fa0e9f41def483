package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/internal/broadcast"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/wakeup"
)

// workerList lists all workers with their states for the visitors of this process's dashboard. Where this process is
// the leader, its checker has them; else the workers are pinged as the leader pings them, so that every dashboard shows
// the same. No worker is pinged while no page is open.
type workerList struct {
	service  *fleet.Service
	checker  *fleet.Checker
	interval time.Duration // between two rounds

	wanted wakeup.Signal      // a page is open and needs a round
	ended  broadcast.Notifier // a round has ended

	mu   sync.Mutex // guards the rest
	at   time.Time  // of the end of the last round; zero: none has ended
	last []fleet.Worker
	err  error
}

func (f *fleetMember) newWorkerList(o fleetMemberOptions) *workerList {
	return &workerList{
		service: f.service, interval: o.config.Fleet.Interval, wanted: wakeup.New(),
		checker: fleet.NewChecker(fleet.CheckerOptions{
			Registry: f.store, Pinger: f.pinger, PingTimeout: o.config.Fleet.PingTimeout, Self: o.self,
		}),
	}
}

// run pings the workers when a page needs it, until ctx is over. It then returns nil.
func (l *workerList) run(ctx context.Context) error {
	for {
		select {
		case <-l.wanted.C():
		case <-ctx.Done():
			return nil
		}
		workers, err := l.checker.Round(ctx)
		l.mu.Lock()
		if l.err = err; err == nil {
			l.last = workers
		}
		l.at = time.Now()
		l.mu.Unlock()
		l.ended.Notify()
		l.wanted.Clear() // this round answers what was asked meanwhile too
	}
}

// list returns every worker as the last round saw it. While the last round is old, it waits for the next one until ctx
// is over.
func (l *workerList) list(ctx context.Context) ([]fleet.Worker, error) {
	if workers := l.service.AllWorkers(); workers != nil {
		return workers, nil
	}
	for {
		ended := l.ended.Next()
		l.mu.Lock()
		age, workers, err := time.Since(l.at), l.last, l.err
		l.mu.Unlock()
		if age >= l.interval {
			l.wanted.Wake()
		}
		if age < 3*l.interval {
			return workers, err
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, fmt.Errorf("the workers have not been checked in time: %w", ctx.Err())
		}
	}
}
