package queue

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/timer"
	"github.com/runqy/runqy-worker/internal/wakeup"
)

// blockFor bounds one blocking command. Longer would notice a frozen server later (go-redis reads for this long plus
// ten seconds), shorter would ask more often.
const blockFor = 2 * time.Second

// watcher waits for a list of tasks to have an element: a queue's pending list, or the one for this worker alone.
// BLMOVE from the tail to the tail of the same list changes nothing and blocks until there is something to move.
type watcher struct {
	key      string
	blocking redis.UniversalClient // closed to end a wait: a context does not interrupt a blocked command
	ready    wakeup.Signal
	wake     wakeup.Signal // the watcher was armed
	armed    atomic.Bool
}

func newWatcher(key string, blocking redis.UniversalClient, ready wakeup.Signal) *watcher {
	return &watcher{key: key, blocking: blocking, ready: ready, wake: wakeup.New()}
}

// arm asks for one signal on ready, as soon as the list has an element.
func (w *watcher) arm() {
	w.armed.Store(true)
	w.wake.Wake()
}

// disarm says that nobody waits for the signal any more. A command under way ends by itself.
func (w *watcher) disarm() { w.armed.Store(false) }

// run watches whenever armed, until ctx is over and the blocking client closed.
func (w *watcher) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake.C():
		}
		for w.armed.Load() && ctx.Err() == nil {
			err := w.blocking.BLMove(ctx, w.key, w.key, "RIGHT", "RIGHT", blockFor).Err()
			if err == nil {
				w.armed.Store(false)
				w.ready.Wake()
				break
			}
			if errors.Is(err, redis.Nil) {
				continue
			}
			// The dequeue itself reports what is wrong with Redis; here it is enough not to spin.
			_ = timer.Sleep(ctx, time.Second) // the loop asks ctx
		}
	}
}
