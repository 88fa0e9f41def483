package fleet

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/queue"
)

const (
	reapsAtOnce = 8
	// recoverTimeout bounds the recovery of one queue; what is left is found by the next round.
	recoverTimeout = 30 * time.Second
)

// reaper takes the tasks of workers whose death is proven, and then removes the workers from the registry. It is the
// first of the four recovery paths; queue/recovery.go lists what each may touch and what keeps them apart.
type reaper struct {
	opts    Options
	service *Service
	slot    chan struct{} // one element per worker that is being reaped
	group   sync.WaitGroup

	mu      sync.Mutex      // guards the rest
	reaping map[string]bool // by worker id and nonce
	failing bool
}

func newReaper(s *Service) *reaper {
	return &reaper{opts: s.opts, service: s, slot: make(chan struct{}, reapsAtOnce), reaping: make(map[string]bool)}
}

// Reap implements [Reaper]: it begins to reap a worker, unless that is going on already, and returns at once. What
// fails is tried again in the next round that finds the worker dead.
func (r *reaper) Reap(ctx context.Context, w Worker) {
	key := w.ID + "|" + w.Beat.Nonce
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reaping[key] {
		return
	}
	r.reaping[key] = true
	r.group.Go(func() {
		defer func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.reaping, key)
		}()
		select {
		case r.slot <- struct{}{}:
			defer func() { <-r.slot }()
		case <-ctx.Done():
			return
		}
		r.logFailure(ctx, w, r.reap(ctx, w))
	})
}

// wait returns when no worker is being reaped any more. Reap must not be called again.
func (r *reaper) wait() { r.group.Wait() }

// reap recovers the worker's tasks, keeps its death for those who ask, and then, and only then, removes it from the
// registry: as long as it is there, another leader can begin anew.
func (r *reaper) reap(ctx context.Context, w Worker) error {
	reading, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	now, registered, err := r.opts.Registry.Get(reading, w.ID)
	if err != nil {
		return err
	}
	if registered && now.Alive && now.Beat.Nonce == w.Beat.Nonce && !silent(now) {
		r.opts.Logger.Info("reaping cancelled", "worker_id", w.ID, "reason", "its heartbeat goes on")
		return nil
	}
	succeeded := registered && now.Alive && now.Beat.Nonce != w.Beat.Nonce
	total := 0
	r.opts.Observer.Queues(w.Beat.Queues)
	for _, q := range w.Beat.Queues {
		n, err := r.recoverQueue(ctx, w, q, succeeded)
		total += n
		if err != nil {
			return err
		}
	}
	if err := r.service.recordDeath(ctx, w); err != nil {
		return err
	}
	forgetting, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := r.opts.Registry.Forget(forgetting, w.Worker); err != nil {
		return err
	}
	r.opts.Logger.Warn("dead worker reaped", "worker_id", w.ID, "cause", w.Cause, "tasks", total)
	return nil
}

// recoverQueue recovers the dead worker's tasks of one queue, and gives back what waits for it there, unless that waits
// for its successor by now. The name of its list stays: the sweeps look there again, since its connection may outlive it.
func (r *reaper) recoverQueue(ctx context.Context, w Worker, name string, succeeded bool) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, recoverTimeout)
	defer cancel()
	done, err := r.opts.Recoverer.OfProcess(ctx, name, w.ID, w.Beat.Nonce)
	n := done.Requeued + done.Archived
	if n > 0 {
		r.opts.Observer.Recovered(name, queue.RecoveredDead, n)
	}
	if err != nil {
		return n, fmt.Errorf("recover the tasks of worker %s: %w", w.ID, err)
	}
	if succeeded {
		return n, nil
	}
	return n, r.returnDirect(ctx, w, name)
}

// returnDirects gives back what waits for a worker that is newly found dead. It has not begun, so no proof is needed.
// What fails is done by the next sweep.
func (r *reaper) returnDirects(ctx context.Context, w Worker) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for _, q := range w.Beat.Queues {
		if err := r.returnDirect(ctx, w, q); err != nil {
			r.logFailure(ctx, w, err)
			return
		}
	}
}

// returnDirect gives back what waits for one worker in one queue.
func (r *reaper) returnDirect(ctx context.Context, w Worker, name string) error {
	n, err := r.opts.Directs.Return(ctx, name, func(workerID string) queue.DirectFate {
		if workerID == w.ID {
			return queue.DirectReturned
		}
		return queue.DirectKept
	})
	if n > 0 {
		r.service.returned.add(w.ID, w.Beat.Nonce, n)
		r.opts.Logger.Warn("direct tasks requeued", "queue", name, "tasks", n, "reason", "their worker is dead")
	}
	return err
}

// logFailure logs when reaping begins to fail.
func (r *reaper) logFailure(ctx context.Context, w Worker, err error) {
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && !r.failing {
		r.opts.Logger.Warn("reaping failed", "worker_id", w.ID, "error", err)
	}
	r.failing = err != nil
}
