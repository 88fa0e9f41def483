package queue

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// blockFor bounds one blocking command. Longer would notice a frozen server later (go-redis reads for this long plus
// ten seconds), shorter would ask more often.
const blockFor = 2 * time.Second

// watcher waits for one queue's pending list to have an element. BLMOVE from the tail to the tail of the same list
// changes nothing and blocks until there is something to move.
type watcher struct {
	queue    string
	blocking redis.UniversalClient // closed to end a wait: a context does not interrupt a blocked command
	ready    chan<- string
	wake     chan struct{} // holds at most one token: the watcher was armed
	armed    atomic.Bool
}

func newWatcher(queue string, blocking redis.UniversalClient, ready chan<- string) *watcher {
	return &watcher{queue: queue, blocking: blocking, ready: ready, wake: make(chan struct{}, 1)}
}

// arm asks for one signal on ready, as soon as the list has an element.
func (w *watcher) arm() {
	w.armed.Store(true)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// disarm says that nobody waits for the signal any more. A command under way ends by itself.
func (w *watcher) disarm() { w.armed.Store(false) }

// run watches whenever armed, until ctx is over and the blocking client closed.
func (w *watcher) run(ctx context.Context) {
	key := pendingKey(w.queue)
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		for w.armed.Load() && ctx.Err() == nil {
			err := w.blocking.BLMove(ctx, key, key, "RIGHT", "RIGHT", blockFor).Err()
			if err == nil {
				w.armed.Store(false)
				select {
				case w.ready <- w.queue:
				default:
				}
				break
			}
			if errors.Is(err, redis.Nil) {
				continue
			}
			// The dequeue itself reports what is wrong with Redis; here it is enough not to spin.
			pause(ctx.Done(), time.Second)
		}
	}
}
