package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// probe is the task that tells whether the system can work, and those that are enqueued after it.
type probe struct {
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	ids     []string // the first one decides, or any
	refused error
}

// startProbe enqueues the probe, and as long as it cannot be enqueued tries again; with feed, further ones follow.
func (d *bed) startProbe(ctx context.Context, feed time.Duration) *probe {
	ctx, cancel := context.WithCancel(ctx)
	p := &probe{cancel: cancel}
	p.running.Go(func() {
		for ctx.Err() == nil {
			id, err := d.enqueueSoon(ctx, d.fault.probing())
			if ctx.Err() != nil {
				return // what was under way tells nothing
			}
			p.mu.Lock()
			if p.refused = err; err == nil && (len(p.ids) == 0 || d.fault.any) {
				p.ids = append(p.ids, id)
			}
			p.mu.Unlock()
			switch {
			case err != nil:
				pause(ctx, 500*time.Millisecond)
			case feed > 0:
				pause(ctx, feed)
			default:
				return
			}
		}
	})
	return p
}

func (p *probe) stop() {
	p.cancel()
	p.running.Wait()
}

// outcome reports whether the probe, and all that has to be done beside it, is done; and the same in words.
func (p *probe) outcome(ctx context.Context, d *bed) (done bool, told string) {
	if d.fault.idle {
		return true, "there is nothing to do"
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	p.mu.Lock()
	ids, refused := slices.Clone(p.ids), p.refused
	p.mu.Unlock()
	if len(ids) == 0 {
		return false, fmt.Sprintf("no task can be enqueued: %s", oneLine(fmt.Sprint(refused)))
	}
	d.mu.Lock()
	ids = append(ids, d.must...)
	d.mu.Unlock()
	missing := 0
	for _, id := range ids {
		ok, err := d.subject.done(ctx, d, id)
		if err != nil {
			return false, fmt.Sprintf("Redis does not tell of tasks: %s", oneLine(err.Error()))
		}
		if !ok {
			missing++
		}
	}
	if missing > 0 && (!d.fault.any || missing == len(ids)) {
		return false, fmt.Sprintf("%d of %d tasks are not done", missing, len(ids))
	}
	return true, fmt.Sprintf("%d of %d tasks are done", len(ids)-missing, len(ids))
}
