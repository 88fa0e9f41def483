// Package pause finds the times in which this whole process did not run: somebody had stopped it, or the machine that it is
// on. Whatever waited for something meanwhile has waited in vain through no fault of what it waits for.
package pause

import (
	"context"
	"sync"
	"time"
)

const (
	// lookEvery is how often a Watch looks.
	lookEvery = 500 * time.Millisecond
	// mostPauses bounds how many a Watch keeps: nobody asks for a time that is longer ago.
	mostPauses = 64
)

// Between returns how long there was a pause between two looks, the second of which was due a period after the first; 0:
// that was not later than on a busy machine.
func Between(last, now time.Time, period time.Duration) time.Duration {
	if gap := now.Sub(last); gap > 5*period+100*time.Millisecond {
		return gap - period
	}
	return 0
}

// Watch keeps the last pauses. The zero value is ready; all methods may be called from any goroutine.
type Watch struct {
	mu     sync.Mutex // guards the rest
	looked time.Time  // last; zero: never
	pauses []span     // the newest is last
}

type span struct{ begin, end time.Time }

// Run looks again and again until ctx is over, and then returns nil.
func (w *Watch) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		w.look(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Running returns how much of the time between since and now was no pause. Who asks after a pause may be the first to run
// again, so that it is a look, too.
func (w *Watch) Running(since, now time.Time) time.Duration {
	w.look(now)
	w.mu.Lock()
	defer w.mu.Unlock()
	running := now.Sub(since)
	for _, p := range w.pauses {
		begin, end := p.begin, p.end
		if begin.Before(since) {
			begin = since
		}
		if end.After(now) {
			end = now
		}
		running -= max(0, end.Sub(begin))
	}
	return running
}

func (w *Watch) look(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.looked.IsZero() {
		w.looked = now
		return
	}
	if d := Between(w.looked, now, lookEvery); d > 0 {
		if len(w.pauses) == mostPauses {
			w.pauses = append(w.pauses[:0], w.pauses[1:]...)
		}
		w.pauses = append(w.pauses, span{now.Add(-d), now})
	}
	if now.After(w.looked) {
		w.looked = now
	}
}
