package queue

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync"
	"time"
)

// attempt is one run of one task, from the dequeue to the acknowledgement. It holds one slot until its handler has
// returned. Everything but the first block is guarded by attempts.mu.
type attempt struct {
	task   *Task
	key    string // of asynq's task hash
	owner  string // the stamp on that hash: worker id, nonce of this process, number of the dequeue
	number uint64
	taken  time.Time

	started  time.Time       // when the handler was called; zero before
	ctxDone  <-chan struct{} // asynq gave up on this run: timeout, deadline, cancelled, lease lost
	returned time.Time       // when the handler came back; zero before
	failed   bool            // it came back with an error
	gone     chan struct{}   // closed when the handler came back or never will be called
	acking   bool            // asynq has sent its one acknowledgement
	settled  bool            // requeued by us: asynq's acknowledgement is answered without asking Redis
	progress progress        // what the handler has reported last
}

// progress is how far a handler says it has come.
type progress struct {
	reported bool // a fraction was
	fraction float64
	message  string
}

// attempts knows every run this process holds, and which numbers it has asked Redis for without an answer yet.
type attempts struct {
	prefix string        // worker id and nonce, in front of every owner stamp
	slots  chan struct{} // one token per run that has not returned; its capacity is the concurrency

	mu       sync.Mutex // guards the rest
	last     uint64
	asked    map[uint64]struct{}   // dequeues under way
	byKey    map[string][]*attempt // runs that are not acknowledged yet or have not returned, oldest first
	handling map[string]*attempt   // by task id, which the child's protocol is keyed by: at most one at a time
}

func newAttempts(workerID, nonce string, concurrency int) *attempts {
	return &attempts{
		prefix:   workerID + "|" + nonce + "|",
		slots:    make(chan struct{}, concurrency),
		asked:    make(map[uint64]struct{}),
		byKey:    make(map[string][]*attempt),
		handling: make(map[string]*attempt),
	}
}

// ask numbers a dequeue that is about to be sent. The audit takes a number that is being asked for as held.
func (as *attempts) ask() (number uint64, owner string) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.last++
	as.asked[as.last] = struct{}{}
	return as.last, as.prefix + strconv.FormatUint(as.last, 10)
}

// answered ends a dequeue. a is nil when it brought nothing or its answer was lost; else a holds the caller's slot from
// here on.
func (as *attempts) answered(number uint64, a *attempt) {
	as.mu.Lock()
	defer as.mu.Unlock()
	delete(as.asked, number)
	if a != nil {
		as.byKey[a.key] = append(as.byKey[a.key], a)
	}
}

// start marks the oldest run of this task that has not started as started. It returns nil when there is none: the run
// waited so long that it was dropped and requeued.
func (as *attempts) start(ctx context.Context, key string, now time.Time) *attempt {
	as.mu.Lock()
	defer as.mu.Unlock()
	for _, a := range as.byKey[key] {
		if a.started.IsZero() && !a.acking {
			a.started = now
			a.ctxDone = ctx.Done()
			return a
		}
	}
	return nil
}

// enter waits until no other run with the same task id is with the handler. A run that asynq has given up on may still
// be there when the next one of the same task arrives.
func (as *attempts) enter(ctx context.Context, a *attempt) error {
	for {
		as.mu.Lock()
		other := as.handling[a.task.ID]
		if other == nil {
			as.handling[a.task.ID] = a
			as.mu.Unlock()
			return nil
		}
		as.mu.Unlock()
		select {
		case <-other.gone:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// finish marks that the run's handler has returned, with an error or without, and frees its slot.
func (as *attempts) finish(a *attempt, now time.Time, failed bool) {
	as.mu.Lock()
	defer as.mu.Unlock()
	a.failed = failed
	as.release(a, now)
	as.forgetIfOver(a)
}

// release frees the slot, once. The caller holds mu.
func (as *attempts) release(a *attempt, now time.Time) {
	if !a.returned.IsZero() {
		return
	}
	a.returned = now
	close(a.gone)
	if as.handling[a.task.ID] == a {
		delete(as.handling, a.task.ID)
	}
	<-as.slots
}

// settle marks that the run's task was requeued, so that asynq's acknowledgement has nothing left to do.
func (as *attempts) settle(a *attempt) {
	as.mu.Lock()
	defer as.mu.Unlock()
	a.settled = true
}

// acknowledging returns the run that an acknowledgement of asynq's belongs to, or nil when it is none of ours: then it
// is the recoverer's. asynq names only the task; it acknowledges a run once, when its handler returned, its context
// ended or its deadline had passed before it began, and the newest run that can have ended so is meant.
func (as *attempts) acknowledging(key string, out outcome, now time.Time) (a *attempt, settled bool) {
	as.mu.Lock()
	defer as.mu.Unlock()
	for _, c := range slices.Backward(as.byKey[key]) {
		switch {
		case c.acking:
			continue
		case c.started.IsZero():
			if c.task.Deadline.IsZero() || now.Before(c.task.Deadline) {
				continue
			}
			as.release(c, now) // asynq will not call the handler any more
		case isDone(c.ctxDone): // as failed, or as what it returned in the same moment
		case c.returned.IsZero(), c.failed != (out == outcomeRetry || out == outcomeArchived):
			continue
		}
		c.acking = true
		return c, c.settled
	}
	return nil, false
}

// acknowledged ends what acknowledging began.
func (as *attempts) acknowledged(a *attempt) {
	as.mu.Lock()
	defer as.mu.Unlock()
	a.settled = true
	as.forgetIfOver(a)
}

// forgetIfOver drops a run that is both acknowledged and returned. The caller holds mu.
func (as *attempts) forgetIfOver(a *attempt) {
	if a.acking && a.settled && !a.returned.IsZero() {
		as.drop(a)
	}
}

func (as *attempts) drop(a *attempt) {
	rest := slices.DeleteFunc(as.byKey[a.key], func(o *attempt) bool { return o == a })
	if len(rest) == 0 {
		delete(as.byKey, a.key)
		return
	}
	as.byKey[a.key] = rest
}

// prune drops runs that asynq will never acknowledge (it drops an acknowledgement when it believes the lease lost) and
// runs whose handler it has not called for so long that it may never. It returns how many, and those of them whose
// handler ran for nothing: what it returned was never acknowledged.
func (as *attempts) prune(now time.Time, grace time.Duration) (n int, unacknowledged []*attempt) {
	as.mu.Lock()
	defer as.mu.Unlock()
	for _, list := range as.byKey {
		for _, a := range slices.Clone(list) {
			never := a.started.IsZero() && !a.acking && now.Sub(a.taken) > grace
			unheard := !a.returned.IsZero() && !a.acking && now.Sub(a.returned) > grace
			if never {
				as.release(a, now)
			}
			if never || unheard {
				as.drop(a)
				n++
			}
			if unheard && !a.settled {
				unacknowledged = append(unacknowledged, a)
			}
		}
	}
	return n, unacknowledged
}

// holds reports whether an owner stamp of this process names a run that is held, or a dequeue still under way.
func (as *attempts) holds(key, owner string) bool {
	as.mu.Lock()
	defer as.mu.Unlock()
	for _, a := range as.byKey[key] {
		if a.owner == owner {
			return true
		}
	}
	number, err := strconv.ParseUint(owner[len(as.prefix):], 10, 64)
	if err != nil {
		return false
	}
	_, asked := as.asked[number]
	return asked
}

// inFlight reports whether a run of this task is held.
func (as *attempts) inFlight(key string) bool {
	as.mu.Lock()
	defer as.mu.Unlock()
	return len(as.byKey[key]) > 0
}

// busy returns how many slots are taken.
func (as *attempts) busy() int { return len(as.slots) }

// active returns the runs that are with the handler or about to be, the longest-running first.
func (as *attempts) active() []*attempt {
	as.mu.Lock()
	defer as.mu.Unlock()
	var out []*attempt
	for _, list := range as.byKey {
		for _, a := range list {
			if a.returned.IsZero() {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, func(x, y *attempt) int { return cmp.Compare(x.number, y.number) })
	return out
}

// report keeps what the handler of a task says about its progress; a fraction that is no number or negative keeps the
// one before. ok reports whether the task is with the handler.
func (as *attempts) report(id string, fraction float64, message string) (p progress, ok bool) {
	as.mu.Lock()
	defer as.mu.Unlock()
	a := as.handling[id]
	if a == nil {
		return progress{}, false
	}
	if fraction >= 0 {
		a.progress.reported, a.progress.fraction = true, min(fraction, 1)
	}
	a.progress.message = message
	return a.progress, true
}

// activeTasks returns what Consumer.Active does.
func (as *attempts) activeTasks() []ActiveTask {
	runs := as.active()
	out := make([]ActiveTask, len(runs))
	as.mu.Lock()
	defer as.mu.Unlock()
	for i, a := range runs {
		out[i] = ActiveTask{
			ID: a.task.ID, Queue: a.task.Queue, Type: a.task.Type, Since: a.taken, Started: a.started,
			Progress: -1, ProgressMessage: a.progress.message, Payload: a.task.Payload,
		}
		if a.progress.reported {
			out[i].Progress = a.progress.fraction
		}
	}
	return out
}

func isDone(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
