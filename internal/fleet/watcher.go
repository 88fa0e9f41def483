package fleet

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/runqy/runqy-worker/internal/timer"
)

const (
	watchEvery = 10 * time.Second
	// unheldAfter is how long there must have been no leader: a new one is elected within half of it.
	unheldAfter = 30 * time.Second
)

// watcher sweeps this process's own queues while nobody leads the fleet.
type watcher struct {
	*Service
	sweeper *sweeper

	answered time.Time // when Redis last did
	unheld   time.Time // since when there has been no leader; zero: there is one, or Redis has not answered all the time
	sweeping bool
}

// Watch looks now and then whether there is a leader, and sweeps the queues in Options.Queues as the leader would while
// there has been none for 30 s, until ctx ends. It then returns nil. A worker runs it whether or not it takes part in the
// election, so that what another one leaves behind never depends on a leader. It costs one command every ten seconds.
func (s *Service) Watch(ctx context.Context) error {
	w := &watcher{Service: s, sweeper: newSweeper(s, nil)}
	for timer.Sleep(ctx, watchEvery+rand.N(campaignJitter)) == nil {
		if w.leaderless(ctx) {
			w.sweeper.logOutcome(ctx, w.sweep(ctx))
		}
	}
	return nil
}

// leaderless looks for a leader and reports whether there has been none for long enough. As long has Redis answered
// then, so every live worker has a heartbeat again after an outage.
func (w *watcher) leaderless(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	held, err := w.opts.Lease.Held(ctx)
	now := time.Now()
	// A gap without failures is a Redis, or this process, that stood still.
	gap := now.Sub(w.answered) > watchEvery+campaignJitter+settleTime
	switch {
	case err != nil || held:
		w.unheld, w.sweeping = time.Time{}, false
	case w.unheld.IsZero() || gap:
		w.unheld = now
	}
	if err == nil {
		w.answered = now
	}
	return !w.unheld.IsZero() && now.Sub(w.unheld) >= unheldAfter
}

func (w *watcher) sweep(ctx context.Context) error {
	if !w.sweeping {
		w.sweeping = true
		w.opts.Logger.Info("queues swept without a leader", "queues", w.opts.Queues)
	}
	ctx, cancel := context.WithTimeout(ctx, recoverTimeout)
	defer cancel()
	list, err := w.opts.Registry.List(ctx)
	if err != nil {
		return err
	}
	return w.sweeper.sweep(ctx, list)
}
