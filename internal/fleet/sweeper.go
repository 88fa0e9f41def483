package fleet

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/queue"
)

const (
	sweepsAtOnce = 4
	// lapsedMargin allows for a renewal that is under way. Leases are written and judged by Redis' clock.
	lapsedMargin = 5 * time.Second
	// lapsedAfter is when a worker without a heartbeat cannot have a valid lease any more: asynq's leases last 30 s.
	lapsedAfter = 30*time.Second + lapsedMargin
	// claimsEnd is how long after its death a worker's connection may still claim a task: until the command that waits
	// there is over, or Redis drops the connection.
	claimsEnd = time.Minute
)

// sweeper looks through the queues for tasks that nobody holds: active ones whose worker has no heartbeat any more and
// whose lease has lapsed, and tasks that wait for a worker that will not take them. It is the second of the four
// recovery paths; queue/recovery.go lists what each may touch and what keeps them apart.
type sweeper struct {
	opts    Options
	service *Service
	checker *Checker                // nil where nobody leads: heartbeats decide alone, and no worker is removed
	lists   chan []heartbeat.Worker // received only while no sweep goes on

	mu     sync.Mutex // guards the rest
	queues map[string]bool
	err    error // of the last sweep
	failed int   // how many of them have failed since the last that did not
	// absent tells by queue and worker since when no such worker serves the queue that has a list there.
	absent map[string]map[string]time.Time
}

func newSweeper(service *Service, checker *Checker) *sweeper {
	s := &sweeper{
		opts: service.opts, service: service, checker: checker, lists: make(chan []heartbeat.Worker),
		queues: make(map[string]bool), absent: make(map[string]map[string]time.Time),
	}
	s.addQueues(service.opts.Queues)
	return s
}

// addQueues adds queues to those that are swept.
func (s *sweeper) addQueues(queues []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range queues {
		s.queues[q] = true
	}
	s.opts.Observer.Queues(queues)
}

// request has the queues swept by what a registry just read says, unless the last sweep is still going on.
func (s *sweeper) request(list []heartbeat.Worker) {
	select {
	case s.lists <- list:
	default:
	}
}

// run sweeps on request, until ctx ends.
func (s *sweeper) run(ctx context.Context) {
	for {
		select {
		case list := <-s.lists:
			s.logOutcome(ctx, s.sweep(ctx, list))
		case <-ctx.Done():
			return
		}
	}
}

func (s *sweeper) sweep(ctx context.Context, list []heartbeat.Worker) error {
	s.mu.Lock()
	queues := slices.Sorted(maps.Keys(s.queues))
	s.mu.Unlock()
	registered := make(map[string]heartbeat.Worker, len(list))
	for _, w := range list {
		registered[w.ID] = w
	}
	var (
		group sync.WaitGroup
		mu    sync.Mutex // guards errs
		errs  []error
		slot  = make(chan struct{}, sweepsAtOnce)
	)
	for _, q := range queues {
		slot <- struct{}{}
		group.Go(func() {
			defer func() { <-slot }()
			if err := s.sweepQueue(ctx, q, registered); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	group.Wait()
	if len(errs) > 0 {
		return errs[0] // the others say the same
	}
	if s.checker == nil {
		return nil
	}
	return s.forgetLapsed(ctx, list)
}

func (s *sweeper) sweepQueue(ctx context.Context, name string, registered map[string]heartbeat.Worker) error {
	ctx, cancel := context.WithTimeout(ctx, recoverTimeout)
	defer cancel()
	alive := func(workerID, nonce string) bool {
		if w := registered[workerID]; w.Err != nil || w.Alive && w.Beat.Nonce == nonce {
			return true // or Redis could not tell
		}
		// The list may be older than its last heartbeat.
		beats, err := s.opts.Registry.Beats(ctx, workerID, nonce)
		return beats || err != nil
	}
	done, err := s.opts.Recoverer.Lapsed(ctx, name, alive, lapsedMargin)
	if n := done.Requeued + done.Archived; n > 0 {
		s.opts.Observer.Recovered(name, queue.RecoveredLapsed, n)
	}
	return errors.Join(err, s.returnDirect(ctx, name, registered))
}

// returnDirect gives back what waits for workers that do not take it. What stands there has not begun, so it is enough
// that a worker is taken for dead.
func (s *sweeper) returnDirect(ctx context.Context, name string, registered map[string]heartbeat.Worker) error {
	s.mu.Lock()
	before := s.absent[name]
	s.mu.Unlock()
	absent := make(map[string]time.Time)
	now := time.Now()
	n, err := s.opts.Directs.Return(ctx, name, func(workerID string) queue.DirectFate {
		w, known := registered[workerID]
		switch {
		case w.Err != nil:
			return queue.DirectKept // Redis could not tell
		case w.Alive && slices.Contains(w.Beat.Queues, name):
			if takesDirect(w.Beat.Status) && !s.takenForDead(workerID) {
				return queue.DirectKept
			}
			return queue.DirectReturned
		}
		since, again := before[workerID]
		if !again {
			since = now
		}
		absent[workerID] = since
		switch {
		case now.Sub(since) >= claimsEnd:
			return queue.DirectClosed
		case !known && !again:
			return queue.DirectKept // it may have registered since the registry was read
		}
		return queue.DirectReturned
	})
	if n > 0 {
		s.opts.Logger.Warn("direct tasks requeued", "queue", name, "tasks", n, "reason", "their worker does not take them")
	}
	if err == nil {
		s.mu.Lock()
		s.absent[name] = absent
		s.mu.Unlock()
	}
	return err
}

// takenForDead reports whether the dispatcher would not give the worker a task, whatever its heartbeat says.
func (s *sweeper) takenForDead(workerID string) bool {
	return s.checker != nil && s.checker.isDead(workerID)
}

// takesDirect reports whether a worker with that status takes what waits for it.
func takesDirect(s status.Status) bool {
	return s != status.Degraded && s != status.Draining
}

// forgetLapsed removes the workers from the registry that have been without a heartbeat for longer than any lease
// lasts. What they held has been recovered by the sweep before it.
func (s *sweeper) forgetLapsed(ctx context.Context, list []heartbeat.Worker) error {
	for _, w := range list {
		if w.Alive || w.Err != nil || s.checker.missingFor(w.ID) < lapsedAfter {
			continue
		}
		dead, known := s.checker.find(w.ID)
		if !known {
			dead = Worker{Worker: w, Cause: CauseHeartbeatExpired}
		}
		if err := s.service.recordDeath(ctx, dead); err != nil {
			return err
		}
		if err := s.forget(ctx, w); err != nil {
			return err
		}
		s.opts.Logger.Warn("silent worker removed", "worker_id", w.ID)
	}
	return nil
}

func (s *sweeper) forget(ctx context.Context, w heartbeat.Worker) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return s.opts.Registry.Forget(ctx, w)
}

// logOutcome logs when sweeps begin to fail, and when they work again.
func (s *sweeper) logOutcome(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil && s.err == nil:
		s.opts.Logger.Warn("queue sweep failed", "error", err)
	case err == nil && s.err != nil:
		s.opts.Logger.Info("queue sweep resumed")
	}
	if s.err = err; err == nil {
		s.failed = 0
	} else {
		s.failed++
	}
}

// failure is the error of the last sweep where the one before it has failed too; nil else.
func (s *sweeper) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed < 2 {
		return nil
	}
	return s.err
}
