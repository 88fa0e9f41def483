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
const blockFor = 5 * time.Second

// watcher waits for a pending task and claims it: BLMOVE brings the next one into this worker's list, from where the
// next cycle takes it. One push so wakes one worker. A claim that finds no room goes back in that cycle.
type watcher struct {
	pending, direct string
	directs, worker string
	blocking        redis.UniversalClient // closed to end a wait: a context does not interrupt a blocked command
	claimed         func()
	wake            wakeup.Signal // the watcher was armed
	armed           atomic.Bool
}

func newWatcher(queue, worker string, blocking redis.UniversalClient, claimed func()) *watcher {
	return &watcher{
		pending: pendingKey(queue), direct: directKey(queue, worker), directs: directsKey(queue), worker: worker,
		blocking: blocking, claimed: claimed, wake: wakeup.New(),
	}
}

// arm asks for one claim, as soon as there is a pending task.
func (w *watcher) arm() {
	if w.armed.CompareAndSwap(false, true) {
		w.wake.Wake()
	}
}

// disarm says that nobody waits for the claim any more. A command under way ends by itself, or claims all the same.
func (w *watcher) disarm() { w.armed.Store(false) }

// run claims whenever armed, until ctx is over and the blocking client closed.
func (w *watcher) run(ctx context.Context) {
	var asked time.Time // when the last claim was asked for
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake.C():
		}
		for w.armed.Load() && ctx.Err() == nil {
			// Each cycle says that this worker has a list. After a long silence, as of a frozen process, the name may have
			// been taken away, and without it nobody would find a claim after a crash.
			if time.Since(asked) > 2*blockFor {
				if err := w.blocking.SAdd(ctx, w.directs, w.worker).Err(); err != nil {
					_ = timer.Sleep(ctx, time.Second) // the loop asks ctx
					continue
				}
			}
			asked = time.Now()
			err := w.blocking.BLMove(ctx, w.pending, w.direct, "RIGHT", "LEFT", blockFor).Err()
			if err == nil {
				w.armed.Store(false)
				w.claimed()
				break
			}
			if errors.Is(err, redis.Nil) {
				continue
			}
			// The answer may be lost and the claim made. The cycle reports what is wrong with Redis; here it is enough not
			// to spin.
			w.claimed()
			_ = timer.Sleep(ctx, time.Second) // the loop asks ctx
		}
	}
}
