package fleet

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
)

const (
	// calmAfter is how long Redis must have answered before silence counts: a live worker beats again within four
	// seconds of Redis' return.
	calmAfter = 5 * time.Second
	// confirmAfter is what a clean stop gets between deleting its heartbeat and leaving the registry.
	confirmAfter = 2 * time.Second
)

// leadership is one term as the checker.
type leadership struct {
	*Service
	checker *Checker
	graves  *graves
	sweeper *sweeper

	asking sync.WaitGroup // pings under way

	// The rest belongs to the goroutine of lead.
	recalled  bool
	failing   bool                    // Redis did not answer the last time
	calmSince time.Time               // Redis has answered since
	lastList  time.Time               // when it last did
	noted     map[string]rosterSketch // what stands in the memory
}

// rosterSketch tells whether a worker's entry in the memory is out of date.
type rosterSketch struct{ nonce, address, queues string }

// lead is one term: rounds until ctx ends.
func (s *Service) lead(ctx context.Context) {
	now := time.Now()
	l := &leadership{Service: s, calmSince: now, lastList: now, noted: make(map[string]rosterSketch)}
	l.graves = newGraves(s.opts)
	l.checker = NewChecker(CheckerOptions{
		Registry: s.opts.Registry, Pinger: s.opts.Pinger, PingTimeout: s.opts.PingTimeout, Self: s.opts.Self,
		Confirm: confirmAfter, Logger: s.opts.Logger, Died: s.opts.Observer.Died,
		Judged: func(ctx context.Context, w Worker) {
			if w.Proven {
				l.graves.bury(ctx, w)
			}
		},
	})
	l.sweeper = newSweeper(s.opts, l.checker)
	s.current.Store(l.checker)
	defer s.current.Store(nil)

	var sweeping sync.WaitGroup
	sweeping.Go(func() { l.sweeper.run(ctx) })
	defer sweeping.Wait()
	defer l.graves.wait() // after the pings, which dig them
	defer l.asking.Wait()

	tick := time.NewTicker(s.opts.Interval)
	defer tick.Stop()
	for {
		l.round(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// round reads the registry and has everybody asked. It does not wait for the answers: each is acted upon when it comes,
// and one that is slow delays nobody.
func (l *leadership) round(ctx context.Context) {
	if err := l.recall(ctx); err != nil {
		l.trouble(ctx, err)
		return
	}
	list, err := l.checker.list(ctx)
	if err != nil {
		l.trouble(ctx, err)
		return
	}
	now := time.Now()
	// A gap without failures is a Redis, or this process, that stood still.
	if now.Sub(l.lastList) > l.opts.Interval+calmAfter {
		l.calmSince = now
	}
	if l.failing {
		l.opts.Logger.Info("the fleet can be checked again")
		l.calmSince = now
	}
	l.failing, l.lastList = false, now
	calm := now.Sub(l.calmSince) >= calmAfter

	l.checker.begin(ctx, list, calm, &l.asking)
	l.sweeper.saw(list)
	if calm {
		l.sweeper.offer(list)
	}
	if err := l.note(ctx, list); err != nil {
		l.trouble(ctx, err)
	}
}

func (l *leadership) trouble(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if !l.failing {
		l.opts.Logger.Warn("the fleet cannot be checked now", "error", err)
	}
	l.failing = true
}

// recall takes over what the previous holder knew, once.
func (l *leadership) recall(ctx context.Context) error {
	if l.recalled {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	memory, err := l.opts.Memory.Recall(ctx)
	if err != nil {
		return err
	}
	l.recalled = true
	l.checker.remember(memory.Beats)
	for id, beat := range memory.Beats {
		l.noted[id] = sketch(beat)
	}
	l.sweeper.know(memory.Queues)
	return nil
}

// note has the memory follow the registry.
func (l *leadership) note(ctx context.Context, list []heartbeat.Worker) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	changed := make(map[string]heartbeat.Beat)
	registered := make(map[string]bool, len(list))
	for _, w := range list {
		registered[w.ID] = true
		if w.Alive && l.noted[w.ID] != sketch(w.Beat) {
			changed[w.ID] = w.Beat
		}
	}
	gone := slices.DeleteFunc(slices.Collect(maps.Keys(l.noted)), func(id string) bool { return registered[id] })
	if err := l.opts.Memory.Note(ctx, changed, gone, served(list)); err != nil {
		return err
	}
	for id, beat := range changed {
		l.noted[id] = sketch(beat)
	}
	for _, id := range gone {
		delete(l.noted, id)
	}
	return nil
}

func sketch(b heartbeat.Beat) rosterSketch {
	queues := ""
	for _, q := range b.Queues {
		queues += q + ","
	}
	return rosterSketch{nonce: b.Nonce, address: b.Address, queues: queues}
}

// served returns the queues of all workers that beat, sorted.
func served(list []heartbeat.Worker) []string {
	queues := make(map[string]bool)
	for _, w := range list {
		for _, q := range w.Beat.Queues {
			queues[q] = true
		}
	}
	return slices.Sorted(maps.Keys(queues))
}
