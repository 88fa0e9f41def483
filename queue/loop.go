package queue

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// emptyFor is how long a queue that had nothing is not asked again while others have tasks, for each queue that there
	// is, and emptyMost at most: asking all of them costs the same, however many they are. Under strict priority they are
	// asked each time.
	emptyFor  = 10 * time.Millisecond
	emptyMost = 100 * time.Millisecond
	// lookEvery is how often each queue is asked at least, whatever the state of the gate and the slots: a task may have
	// been assigned to this worker while the announcement was lost, and Redis may refuse what is next to be sent.
	lookEvery  = 2 * time.Second
	pausedPoll = time.Second // how often a paused queue is asked whether it still is
	// mostTakes bounds what one cycle takes: Redis does nothing else meanwhile.
	mostTakes = 1000
	// twinPause is how long a queue is not asked that had only tasks whose ids are with the handler already.
	twinPause = 100 * time.Millisecond
	// turnTime is for how long the tasks last, by their measured rate, that a queue may take in its turn, aheadCount at
	// most: where tasks are so short, a cycle for each few would cost more than they do.
	turnTime = time.Millisecond
	// heldFor is how long a task may be held that has not been given to the handler. Then another worker gets the chance.
	heldFor = time.Second
	// aheadMost bounds the time that tasks wait here for their turn, by the measured rate at which others end.
	aheadMost = 100 * time.Millisecond
	// aheadCount is how many may be taken ahead whatever the concurrency, when they are so short, and aheadFactor times the
	// concurrency where that is more: Redis does nothing else while it gives them out.
	aheadCount  = 32
	aheadFactor = 4
)

// loop owns the attempts: what is taken, with the handler, over its time, ended. It runs on one goroutine and waits for
// nothing but its inbox, the gate and its timer; Redis is asked by the cyclers. All fields are its own, but for inbox and
// table, and what is atomic.
type loop struct {
	opts     Options
	handler  Handler
	gate     Gate
	log      *slog.Logger
	observer Observer
	inbox    *inbox
	table    *attemptTable
	lists    *listViews // nil: none
	audit    func()     // something may be stamped ours that nobody holds
	receipts *receipts

	queues      []*queueState       // by falling priority
	accepted    map[string]*attempt // that have not ended, by task id: at most one of each
	submitted   int                 // of these, how many are with the handler
	held        []*attempt          // taken, and not yet given to the handler
	deadlines   deadlines
	suspect     *suspect  // nil: no task has to run alone
	othersUntil time.Time // until when suspects are put off: one has waited in vain
	order       uint64
	roundTrip   time.Duration // of a cycle, smoothed
	turn        int           // how many tasks a queue may take in its turn
	looked      time.Time     // when all queues were last to be asked
	overdone    bool          // what was taken ahead has waited for too long, and nothing has ended since
	strict      int           // under strict priority: the queues before this one have just had nothing
	timer       *time.Timer
	draining    bool
	sampled     time.Time // when it was last looked whether tasks wait beside a free slot
	trying      bool      // they do for too long: one is taken at a time

	alone   atomic.Bool   // a task runs alone, or waits to
	idle    chan struct{} // closed when draining and nothing is with the handler
	flushed chan struct{} // closed when, after that, Redis has every outcome
}

// queueState is what the loop knows of one queue.
type queueState struct {
	name    string
	weight  int
	credit  int // of the smooth weighted round robin
	cycler  *cycler
	watcher *watcher

	number       uint64    // of the last cycle
	waiting      uint64    // number of the cycle that waits for a claim; 0: none
	waitingAsked int       // how many tasks that one may take
	busy         bool      // a cycle is under way
	askedAt      time.Time // when that was begun
	asked        int       // how many tasks it may take
	take         int       // how many the next one may
	ended        []*endedAttempt
	sent         []*endedAttempt // those of the cycle under way
	refused      []*endedAttempt // Redis refused their outcomes, for a reason that passes
	refusedUntil time.Time       // when they are sent again
	stuck        int             // outcomes that were refused so and are not settled yet
	mostStuck    int             // of them, before it is not asked for more
	due          bool            // a cycle is due whatever there is to take: a claim may have to go back
	empty        bool            // it had nothing when it was last asked
	emptyAt      time.Time
	failing      bool       // what was last asked for could not be taken
	more         bool       // it had further tasks after its last cycle
	paused       time.Time  // until when it is not asked; zero: it is not paused
	unseen       []*attempt // have begun, and have no readable hash yet, the first to begin first
	moved        []*attempt // have made progress that is not written
}

// run handles events until ctx is over.
func (l *loop) run(ctx context.Context) {
	l.timer = time.NewTimer(0)
	defer l.timer.Stop()
	var events []event
	for {
		changed := l.gate.Changed()
		l.advance(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-l.inbox.wake.C():
			events = l.inbox.take(events)
			now := time.Now()
			for i := range events {
				l.handle(&events[i], now)
			}
		case <-changed:
			l.look(time.Now())
		case <-l.timer.C:
		}
	}
}

// handle takes one event.
func (l *loop) handle(e *event, now time.Time) {
	switch e.kind {
	case eventBegan:
		l.began(e.attempt, e.at)
	case eventProgress:
		if l.opts.Views {
			q := l.byName(e.attempt.task.Queue)
			q.moved = append(q.moved, e.attempt)
		}
	case eventEnded:
		l.ended(e.attempt, e.result, e.took, e.err, now)
	case eventCycled:
		l.cycled(e.queue, e.cycle, now)
	case eventWaited:
		l.waited(e.queue, e.cycle, now)
	case eventClaim:
		e.queue.due, e.queue.empty = true, false
		l.strict = 0
	case eventWake:
		l.look(now)
	case eventLost:
		l.lost(e.attempt)
	case eventCancel:
		l.cancelID(e.taskID, now)
	case eventDrain:
		l.drain()
	}
}

// look has every queue asked again.
func (l *loop) look(now time.Time) {
	l.looked, l.strict = now, 0
	for _, q := range l.queues {
		q.empty, q.paused = false, time.Time{}
	}
}

// lookAgain has every queue asked again for tasks, but for what is waited for: that is only asked whether it has any
// (probeAt). Between the question to one queue and that to the next both may get tasks, and the one of lower priority would
// be taken first.
func (l *loop) lookAgain(now time.Time) {
	first := l.looked.IsZero()
	l.looked = now
	for _, q := range l.queues {
		if first && l.gate.Open() { // else it is probed at once: the gate may wait for what that shows
			q.askedAt = now
		}
		if q.askable(now) && !(q.empty && (q.waiting != 0 || q.watcher.armed.Load())) {
			q.empty, l.strict = false, 0
		}
	}
}

// advance does all that can be done now, and sets the timer for what cannot.
func (l *loop) advance(now time.Time) {
	l.receipts.turn(now)
	for a := l.deadlines.due(now); a != nil; a = l.deadlines.due(now) {
		l.cancel(a, context.DeadlineExceeded)
	}
	if now.Sub(l.looked) >= lookEvery {
		l.lookAgain(now)
	}
	for _, q := range l.queues {
		q.resendRefused(now)
		if !q.paused.IsZero() && !now.Before(q.paused) {
			q.paused, l.strict = time.Time{}, 0
		}
	}
	l.runSuspect(now)
	l.submitHeld(now)
	l.sample(now)
	want, refused := 0, l.takesRefused(now)
	if !refused {
		want = l.trial(l.want(now), now)
	}
	if !l.inRound(now) {
		if refused {
			l.tryRefused(now)
		} else {
			l.allot(want, now)
		}
		for _, q := range l.queues {
			if !q.busy && (q.take > 0 || q.due && !l.awaitsTurn(q, want) || len(q.ended) > 0 || l.viewsDue(q, now) || l.probeDue(q, now)) {
				l.startCycle(q, now)
			}
		}
	}
	l.arm(want, now)
	l.closeWhenDone()
	l.setTimer(now)
}

// inRound reports whether the cycles that were begun together are not all answered yet. What is to be done meanwhile, in
// whichever queue, is done by the next ones: else each free slot and each outcome would be a cycle of its own where there
// are many queues. One that is not answered in time, since Redis refuses it or is another part of a cluster, holds nobody
// up.
func (l *loop) inRound(now time.Time) bool {
	if len(l.queues) == 1 {
		return false
	}
	return slices.ContainsFunc(l.queues, func(q *queueState) bool { return q.busy && now.Before(l.roundEnd(q)) })
}

// roundEnd is until when others wait for a queue's cycle.
func (l *loop) roundEnd(q *queueState) time.Time { return q.askedAt.Add(l.nextAnswer()) }

// nextAnswer is how long it takes at most, as far as one can tell, until the next cycle has been answered.
func (l *loop) nextAnswer() time.Duration { return min(2*l.roundTrip+time.Millisecond, aheadMost) }

// startCycle has a queue's outcomes applied and its tasks taken.
func (l *loop) startCycle(q *queueState, now time.Time) {
	var r cycleRequest
	r.take = min(q.take, mostTakes)
	if q.failing {
		r.take = min(r.take, 1) // whether it is possible again is seen by one
	}
	r.items, q.sent, q.ended = q.nextItems()
	r.views = l.takeViews(q, now)
	q.number++
	r.number = q.number
	q.busy, q.asked, q.askedAt, q.due, q.take = true, r.take, now, false, 0
	l.table.ask(q.name, q.outstanding())
	l.receipts.ask(q.name, now)
	q.cycler.requests <- r // it has room: none is under way
}

// startWaiting has a cycle run as soon as a task has been claimed.
func (l *loop) startWaiting(q *queueState, take int, now time.Time) {
	q.number++
	q.waiting, q.waitingAsked, q.askedAt = q.number, min(take, mostTakes), now
	l.table.ask(q.name, q.outstanding())
	q.watcher.armWith(cycleRequest{number: q.number, take: q.waitingAsked, behindClaim: true})
}

// waited takes what a cycle behind a claim has brought.
func (l *loop) waited(q *queueState, c cycleResult, now time.Time) {
	asked := q.waitingAsked
	q.waiting, q.waitingAsked = 0, 0
	if c.err != nil { // it took nothing
		q.due, q.empty = true, false
		l.table.ask(q.name, q.outstanding())
		return
	}
	if c.recalled {
		asked, q.due = 0, true
	}
	l.tookTasks(q, asked, &c, now)
	if q.busy { // that one has still to be answered
		l.receipts.ask(q.name, q.askedAt)
	}
}

// outstanding is the lowest number of a cycle that has not been answered; 0: there is none.
func (q *queueState) outstanding() uint64 {
	switch {
	case q.waiting != 0:
		return q.waiting
	case q.busy:
		return q.number
	}
	return 0
}

// cycled takes what a cycle has brought.
func (l *loop) cycled(q *queueState, c cycleResult, now time.Time) {
	asked := q.asked
	q.busy, q.asked = false, 0
	if c.err != nil {
		q.ended = append(q.sent, q.ended...)
		q.sent = nil
		l.receipts.drop(q.name)
		l.audit()
		return
	}
	l.roundTrip += (c.took - l.roundTrip) / 8
	l.settled(q, &c.reply, now)
	l.tookTasks(q, asked, &c, now)
}

// tookTasks takes what a cycle has brought that might take so many tasks.
func (l *loop) tookTasks(q *queueState, asked int, c *cycleResult, now time.Time) {
	for _, a := range c.taken {
		l.order++
		a.order = l.order
	}
	l.table.add(q.name, c.taken, q.outstanding())
	twins := l.accept(c.taken, now)
	got := len(c.reply.taken) + len(c.reply.lost)
	q.more = c.reply.more && !c.reply.paused
	l.receipts.answer(q.name, asked, got, &c.reply, now)
	q.empty = asked > 0 && got < asked || asked == 0 && q.empty && !c.reply.more
	if q.empty {
		q.emptyAt = now
	}
	if twins > 0 && twins == len(c.taken) {
		q.paused = now.Add(twinPause)
	}
	if c.reply.paused {
		// It is asked again before it is waited for: a claim does not look whether the queue is paused.
		q.paused, q.empty = now.Add(pausedPoll), false
	}
	l.passStrictly(q, asked, got, &c.reply)
	l.trying = l.trying && got == 0
	if n := len(c.reply.lost); n > 0 {
		l.observer.lost(q.name, n)
		l.log.Warn("tasks lost", "queue", q.name, "tasks", n, "task_id", c.reply.lost[0])
	}
	if c.reply.failure != "" {
		// What is claimed meanwhile goes back and would be claimed again, so it is not waited for either.
		q.paused, q.empty = now.Add(pausedPoll), false
		if !q.failing {
			l.log.Warn("dequeue failed", "queue", q.name, "error", c.reply.failure)
		}
	}
	if asked > 0 && !c.reply.paused {
		q.failing = c.reply.failure != ""
	}
	if c.reply.warning != "" {
		l.log.Warn("cycle incomplete", "queue", q.name, "error", c.reply.warning)
	}
	l.observer.viewsDropped(c.reply.viewsDropped)
	if len(c.taken) > 0 || len(c.reply.statuses) > 0 {
		l.lists.refreshSoon()
	}
}

// drain gives back what is not with the handler, and takes nothing more.
func (l *loop) drain() {
	l.draining = true
	for _, a := range l.held {
		l.settle(a, endReturn)
	}
	clear(l.held)
	l.held = l.held[:0]
	if s := l.suspect; s != nil && !s.attempt.submitted {
		l.settle(s.attempt, endReturn)
		l.setSuspect(nil)
	}
	for _, q := range l.queues {
		q.due = true // what was claimed goes back
	}
}

// closeWhenDone tells the drain how far it is.
func (l *loop) closeWhenDone() {
	if !l.draining || l.submitted > 0 {
		return
	}
	if !isDone(l.idle) {
		close(l.idle)
		l.receipts.end()
	}
	for _, q := range l.queues {
		if q.busy || q.waiting != 0 || q.due || len(q.ended)+len(q.refused) > 0 {
			return
		}
	}
	if !isDone(l.flushed) {
		close(l.flushed)
	}
}

// setTimer wakes the loop when the next thing is due.
func (l *loop) setTimer(now time.Time) {
	next := l.looked.Add(lookEvery)
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	earlier(l.deadlines.next())
	if len(l.held) > 0 {
		earlier(l.held[0].taken.Add(heldFor))
	}
	if l.suspect != nil {
		earlier(l.suspect.until)
	}
	for _, q := range l.queues {
		if q.busy && len(l.queues) > 1 && now.Before(l.roundEnd(q)) {
			earlier(l.roundEnd(q))
		}
		earlier(l.probeAt(q))
		earlier(q.paused)
		if len(q.refused) > 0 {
			earlier(q.refusedUntil)
		}
		earlier(l.nextView(q))
	}
	l.timer.Reset(max(0, next.Sub(now)))
}

func (l *loop) byName(name string) *queueState {
	for _, q := range l.queues {
		if q.name == name {
			return q
		}
	}
	return nil // no attempt is of a queue that is not served
}

func isDone(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
