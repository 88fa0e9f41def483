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

// lookingFor bounds one that has a cycle behind it: when it has waited in vain, the cycle looks for assigned tasks. It ends
// before the queue would be probed.
const lookingFor = lookEvery - 200*time.Millisecond

// Blocking prepares the options of the client that waits: as NoRetry, and an answer may take as long as a blocking
// command lasts and 10 s.
func Blocking(o *redis.UniversalOptions) {
	NoRetry(o)
	o.ReadTimeout = blockFor + 10*time.Second
}

// watcher waits for a pending task and claims it: BLMOVE brings the next one into this worker's list, from where a
// cycle takes it. One push so wakes one worker. A claim that finds no room goes back in that cycle.
//
// A worker with one queue sends the cycle behind BLMOVE in the same request, so that Redis takes the task at once, and
// the way to Redis and back is gone once and not twice. With several queues each would fill the same room, and under
// strict priority what is of a lower queue may have to go back first: the loop asks for the cycle when it knows of the
// claim.
type watcher struct {
	pending, direct string
	directs, worker string
	blocking        redis.UniversalClient // closed to end a wait: a context does not interrupt a blocked command
	wake            wakeup.Signal         // the watcher was armed
	armed           atomic.Bool
	cycler          *cycler
	requests        chan cycleRequest // one at most: the loop sends the next when the last one has been answered
}

func newWatcher(queue, worker string, blocking redis.UniversalClient, cycler *cycler) *watcher {
	return &watcher{
		pending: pendingKey(queue), direct: directKey(queue, worker), directs: directsKey(queue), worker: worker,
		blocking: blocking, cycler: cycler, wake: wakeup.New(), requests: make(chan cycleRequest, 1),
	}
}

// arm asks for one claim, as soon as there is a pending task.
func (w *watcher) arm() {
	if w.armed.CompareAndSwap(false, true) {
		w.wake.Wake()
	}
}

// armWith asks for one claim with a cycle behind it, whose answer comes as an event of its own, after lookingFor at the
// latest.
func (w *watcher) armWith(r cycleRequest) {
	w.armed.Store(true)
	w.requests <- r // it has room: the last one has been answered
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
		case r := <-w.requests:
			w.claimAndCycle(ctx, r)
			continue
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
				w.cycler.inbox.put(event{kind: eventClaim, queue: w.cycler.queue})
				break
			}
			if errors.Is(err, redis.Nil) {
				continue
			}
			// The answer may be lost and the claim made. The cycle reports what is wrong with Redis; here it is enough not
			// to spin.
			w.cycler.inbox.put(event{kind: eventClaim, queue: w.cycler.queue})
			_ = timer.Sleep(ctx, time.Second) // the loop asks ctx
		}
	}
}

// claimAndCycle waits for a task, once, and runs a cycle behind that.
func (w *watcher) claimAndCycle(ctx context.Context, r cycleRequest) {
	begun := time.Now()
	claim, reply, err := w.cycler.cycles.runBehindClaim(ctx, w.blocking, lookingFor, r)
	result := cycleResult{reply: reply, err: err}
	var refusal redis.Error
	switch {
	case err == nil:
		result.taken = w.cycler.attempts(ctx, reply)
	case !errors.Is(err, errStale) && !errors.As(err, &refusal): // whether it has run is not known
		r.take = 0 // it is only asked what it took
		result = w.cycler.carryOut(ctx, r)
		result.recalled = true
	}
	w.armed.Store(false)
	w.cycler.inbox.put(event{kind: eventWaited, queue: w.cycler.queue, cycle: result})
	if claim != nil && !errors.Is(claim, redis.Nil) && time.Since(begun) < lookingFor {
		_ = timer.Sleep(ctx, time.Second) // nothing blocks that would be asked again at once; the caller asks ctx
	}
}
