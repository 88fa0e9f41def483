package fleet

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	burialsAtOnce = 8
	// recoverTimeout bounds the recovery of one queue; what is left is found by the next round.
	recoverTimeout = 30 * time.Second
)

// graves takes the tasks of workers that are proven dead, and then the workers from the registry.
type graves struct {
	opts  Options
	slot  chan struct{} // one element per burial under way
	group sync.WaitGroup

	mu      sync.Mutex      // guards the rest
	open    map[string]bool // by worker id and nonce: dug already
	failing bool
}

func newGraves(opts Options) *graves {
	return &graves{opts: opts, slot: make(chan struct{}, burialsAtOnce), open: make(map[string]bool)}
}

// bury begins to bury a worker, unless that is going on already, and returns at once. What fails is tried again when
// the worker is judged the next time.
func (g *graves) bury(ctx context.Context, w Worker) {
	key := w.ID + "|" + w.Beat.Nonce
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[key] {
		return
	}
	g.open[key] = true
	g.group.Go(func() {
		defer func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			delete(g.open, key)
		}()
		select {
		case g.slot <- struct{}{}:
			defer func() { <-g.slot }()
		case <-ctx.Done():
			return
		}
		g.report(ctx, w, g.perform(ctx, w))
	})
}

// wait returns when every burial has ended. Nobody may call bury any more.
func (g *graves) wait() { g.group.Wait() }

// perform recovers the worker's tasks and then, and only then, removes it: whoever finds the worker in the registry can
// begin anew.
func (g *graves) perform(ctx context.Context, w Worker) error {
	looking, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	now, there, err := g.opts.Registry.Get(looking, w.ID)
	if err != nil {
		return err
	}
	if there && now.Alive && now.Beat.Nonce == w.Beat.Nonce && !silent(now) {
		g.opts.Logger.Info("a worker that seemed to be dead beats again", "worker", w.ID)
		return nil
	}
	total := 0
	g.opts.Observer.Queues(w.Beat.Queues)
	for _, q := range w.Beat.Queues {
		n, err := g.empty(ctx, w, q)
		total += n
		if err != nil {
			return err
		}
	}
	forgetting, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := g.opts.Registry.Forget(forgetting, w.Worker); err != nil {
		return err
	}
	g.opts.Logger.Warn("a dead worker was removed, its tasks run again elsewhere", "worker", w.ID, "cause", w.Cause, "tasks", total)
	return nil
}

// empty takes the dead worker's tasks of one queue.
func (g *graves) empty(ctx context.Context, w Worker, queue string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, recoverTimeout)
	defer cancel()
	done, err := g.opts.Recoverer.OfProcess(ctx, queue, w.ID, w.Beat.Nonce)
	n := done.Requeued + done.Archived
	if n > 0 {
		g.opts.Observer.Recovered(queue, RecoveredDead, n)
	}
	if err != nil {
		return n, fmt.Errorf("recover the tasks of worker %s: %w", w.ID, err)
	}
	return n, nil
}

// report logs when burials begin to fail.
func (g *graves) report(ctx context.Context, w Worker, err error) {
	if ctx.Err() != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil && !g.failing {
		g.opts.Logger.Warn("a dead worker cannot be removed yet; it is tried again", "worker", w.ID, "error", err)
	}
	g.failing = err != nil
}
