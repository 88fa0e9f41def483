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
	read time.Time  // when the one that found last was begun
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
		begun := time.Now()
		workers, err := l.checker.Round(ctx)
		l.mu.Lock()
		if l.err = err; err == nil {
			l.last, l.read = workers, begun
		}
		l.at = time.Now()
		l.mu.Unlock()
		l.ended.Notify()
		l.wanted.Clear() // this round answers what was asked meanwhile too
	}
}

// list returns every worker as the last round saw it, and when the registry was read for that. While the last round is old,
// it waits for the next one until ctx is over. An error means that what it returns, if anything, is not the present.
func (l *workerList) list(ctx context.Context) (workers []fleet.Worker, read time.Time, err error) {
	if workers, read := l.service.AllWorkers(); workers != nil {
		return workers, read, l.service.Stale(read)
	}
	for {
		ended := l.ended.Next()
		l.mu.Lock()
		age, workers, read, err := time.Since(l.at), l.last, l.read, l.err
		l.mu.Unlock()
		if age >= l.interval {
			l.wanted.Wake()
		}
		if age < 3*l.interval {
			return workers, read, err
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, time.Time{}, fmt.Errorf("the workers have not been checked in time: %w", ctx.Err())
		}
	}
}
