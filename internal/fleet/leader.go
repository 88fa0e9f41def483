package fleet

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/timer"
)

const (
	// settleTime is the grace period after Redis' return: how long it must have answered before silence counts. A live
	// worker writes its heartbeat again within four seconds of Redis' return.
	settleTime = 5 * time.Second
	// confirmAfter is what a clean stop gets between deleting its heartbeat and leaving the registry.
	confirmAfter = 2 * time.Second
	// roundRetry is until a round that failed is tried again.
	roundRetry = time.Second
)

// leader is this process from an election to the end of its lease.
type leader struct {
	*Service
	checker *Checker
	reaper  *reaper
	sweeper *sweeper

	checks sync.WaitGroup // of workers, under way

	// The rest belongs to the goroutine of run.
	restored bool
	failing  bool                   // Redis did not answer the last time
	since    time.Time              // Redis has answered since
	lastRead time.Time              // when it last did
	saved    map[string]fingerprint // what stands in the checkpoint
}

// fingerprint shows whether a worker's entry in the checkpoint is out of date.
type fingerprint struct{ nonce, address, queues string }

func newLeader(s *Service) *leader {
	now := time.Now()
	l := &leader{Service: s, since: now, lastRead: now, saved: make(map[string]fingerprint)}
	l.reaper = newReaper(s)
	l.checker = NewChecker(CheckerOptions{
		Registry: s.opts.Registry, Pinger: s.opts.Pinger, PingTimeout: s.opts.PingTimeout, Self: s.opts.Self,
		Confirm: confirmAfter, Reaper: l.reaper, Lost: l.reaper.returnDirects,
		Succeeded: l.succeeded, Logger: s.opts.Logger,
	})
	l.sweeper = newSweeper(s, l.checker)
	return l
}

// succeeded keeps the death of a process whose successor was quicker than the proof.
func (l *leader) succeeded(ctx context.Context, dead Worker) {
	if err := l.recordDeath(ctx, dead); err != nil && ctx.Err() == nil {
		l.opts.Logger.Warn("death not recorded", "worker_id", dead.ID, "error", err)
	}
}

// lead does the leader's work until ctx ends.
func (s *Service) lead(ctx context.Context) {
	l := newLeader(s)
	s.current.Store(l.checker)
	defer s.current.Store(nil)
	l.run(ctx)
}

// run does a round at each interval until ctx ends. When it returns, nothing of the leader goes on.
func (l *leader) run(ctx context.Context) {
	var sweeping sync.WaitGroup
	sweeping.Go(func() { l.sweeper.run(ctx) })
	defer sweeping.Wait()
	defer l.reaper.wait() // after the checks, which call it
	defer l.checks.Wait()

	defer l.rounds.Expect(time.Time{})
	for ctx.Err() == nil {
		begun := time.Now()
		l.rounds.Expect(begun.Add(roundTimeout))
		err := l.round(ctx)
		next := begun.Add(l.opts.Interval)
		if err != nil {
			next = time.Now().Add(min(l.opts.Interval, roundRetry))
		}
		l.logOutcome(ctx, err)
		l.rounds.Answer(begun, cmp.Or(err, l.sweeper.failure()))
		l.rounds.Expect(next)
		_ = timer.Sleep(ctx, time.Until(next)) // the loop asks ctx
	}
}

// roundTimeout bounds a round: it asks Redis three times.
const roundTimeout = 3 * readTimeout

// round reads the registry and has every worker checked. It does not wait for the results: each is acted upon when it
// comes, and a worker that is slow to answer delays no other.
func (l *leader) round(ctx context.Context) error {
	if err := l.loadCheckpoint(ctx); err != nil {
		return err
	}
	list, err := l.checker.list(ctx)
	if err != nil {
		return err
	}
	settled := l.settled(time.Now())

	round{Checker: l.checker, read: l.lastRead, settled: settled}.start(ctx, list, &l.checks)
	l.sweeper.addQueues(served(list))
	if settled {
		l.sweeper.request(list)
	}
	return l.saveCheckpoint(ctx, list)
}

// settled records that Redis has answered now, and reports whether it has done so for the grace period.
func (l *leader) settled(now time.Time) bool {
	// A gap without failures is a Redis, or this process, that stood still.
	if now.Sub(l.lastRead) > l.opts.Interval+settleTime {
		l.since = now
	}
	if l.failing {
		l.since = now
	}
	l.lastRead = now
	return now.Sub(l.since) >= settleTime
}

// logOutcome notes whether a round has failed, in any part of it.
func (l *leader) logOutcome(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && !l.failing:
		l.opts.Logger.Warn("fleet check failed", "error", err)
	case err == nil && l.failing:
		l.opts.Logger.Info("fleet check resumed")
	}
	l.failing = err != nil
}

// loadCheckpoint takes over what the previous leader knew, the first time that Redis answers.
func (l *leader) loadCheckpoint(ctx context.Context) error {
	if l.restored {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	checkpoint, err := l.opts.Checkpoints.LoadCheckpoint(ctx)
	if err != nil {
		return err
	}
	l.restored = true
	l.checker.restore(checkpoint.Beats)
	for id, beat := range checkpoint.Beats {
		l.saved[id] = fingerprintOf(beat)
	}
	l.sweeper.addQueues(checkpoint.Queues)
	return nil
}

// saveCheckpoint has the checkpoint follow the registry.
func (l *leader) saveCheckpoint(ctx context.Context, list []heartbeat.Worker) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	changed := make(map[string]heartbeat.Beat)
	registered := make(map[string]bool, len(list))
	for _, w := range list {
		registered[w.ID] = true
		if w.Alive && l.saved[w.ID] != fingerprintOf(w.Beat) {
			changed[w.ID] = w.Beat
		}
	}
	gone := slices.DeleteFunc(slices.Collect(maps.Keys(l.saved)), func(id string) bool { return registered[id] })
	if err := l.opts.Checkpoints.SaveCheckpoint(ctx, changed, gone, served(list)); err != nil {
		return err
	}
	for id, beat := range changed {
		l.saved[id] = fingerprintOf(beat)
	}
	for _, id := range gone {
		delete(l.saved, id)
	}
	return nil
}

func fingerprintOf(b heartbeat.Beat) fingerprint {
	return fingerprint{nonce: b.Nonce, address: b.Address, queues: strings.Join(b.Queues, ",")}
}

// served returns the queues of all workers that have a heartbeat, sorted.
func served(list []heartbeat.Worker) []string {
	queues := make(map[string]bool)
	for _, w := range list {
		for _, q := range w.Beat.Queues {
			queues[q] = true
		}
	}
	return slices.Sorted(maps.Keys(queues))
}
