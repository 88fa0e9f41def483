package queue

import (
	"errors"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/internal/broadcast"
)

// This file keeps when Redis answered what, and judges by it whether tasks can be taken and settled.

const (
	// answeredWithin bounds the age of each queue's last answered request. A cycle is tried every lookEvery at least; the rest
	// is for a Redis that takes seconds for each command, and for a new connection to it. On Redis Cluster a cycle is up to
	// four requests, one after the other, and each answer counts.
	answeredWithin = 8 * time.Second
	// turnedWithin bounds how long ago the loop had its last turn: it wakes every lookEvery at least.
	turnedWithin = 2*lookEvery + 2*time.Second
	// refusedAfter is how long something has to be refused again and again, without a success between, until that counts.
	refusedAfter = 3 * time.Second
	// sampleEvery is how often the loop looks whether tasks wait beside a free slot.
	sampleEvery = 500 * time.Millisecond
)

// HindranceKind tells the ways apart in which a consumer is kept from its work.
type HindranceKind int

// The kinds of hindrances, those first that say the most.
const (
	CyclesRefused    HindranceKind = iota // Redis refuses the cycles, or cannot be reached
	CyclesUnanswered                      // Redis does not answer a cycle
	CyclesNotTried                        // no cycle was tried although one is due: something hangs in this process
	OutcomesRefused                       // cycles are answered, and outcomes are refused
	TakesRefused                          // cycles are answered, and takes end with an error
	NothingTaken                          // tasks wait, a slot is free, and none was taken for Options.ConsumeTimeout
	NotAsked                              // there was no answer yet, and not much time for one
)

// Hindrance is something that keeps a consumer from its work now.
type Hindrance struct {
	Kind   HindranceKind
	Queue  string    // that it is found in; the first by priority
	Queues int       // in how many it is found
	Since  time.Time // zero for NotAsked
	Err    error     // what Redis or the connection said last; nil when nothing was said
}

// Probed reports whether tasks have to be taken all the same, one at a time, since nothing else shows that the hindrance is
// gone. The consumer does so as long as its gate is open. All others end with a cycle that takes nothing.
func (h Hindrance) Probed() bool { return h.Kind == TakesRefused || h.Kind == NothingTaken }

// Consumption is what a consumer knows of its own work with Redis. All times are of when this process saw the answer.
type Consumption struct {
	Answered   time.Time   // the last answered cycle, of the queue where that is longest ago; zero: one has had none
	Taken      time.Time   // the last task that was taken; zero: none was
	Hindrances []Hindrance // by kind; empty: tasks are taken and settled, or would be
}

// receipts are the answers that the loop and the cyclers have seen. It is safe for concurrent use.
type receipts struct {
	consumeTimeout time.Duration // 0: waiting tasks are not judged
	// running is Options.Running: all that is late is measured by it.
	running func(since, now time.Time) time.Duration
	changed broadcast.Notifier // what was refused or not yet asked works

	mu      sync.Mutex // guards the rest
	queues  []*receipt // by falling priority
	begun   time.Time  // zero: the consumer does not run yet
	ended   bool       // no cycle is due any more
	turned  time.Time  // when the loop had its last turn
	taken   time.Time
	waiting time.Time // since when tasks wait beside a free slot, and none was taken; zero: they do not
	waits   string    // the queue of such tasks
}

// receipt is that of one queue.
type receipt struct {
	queue                   string
	asked                   time.Time // when the cycle under way was begun; zero: none is
	answered                time.Time // the last one; zero: none was
	heard                   time.Time // when a part of the cycle under way was answered last
	paused                  bool      // it was then: no take is tried, and none has to be possible
	cycles, outcomes, takes failures
}

// failures are those without a success between.
type failures struct {
	since time.Time
	times int
	err   error
}

func (f *failures) add(since time.Time, err error) {
	if f.times == 0 {
		f.since = since
	}
	f.times++
	f.err = err
}

// scriptError is an error of Redis that a script has caught. It implements redis.Error.
type scriptError string

// Error implements error.
func (e scriptError) Error() string { return string(e) }

// RedisError implements redis.Error.
func (e scriptError) RedisError() {}

func newReceipts(queues []string, consumeTimeout time.Duration, running func(since, now time.Time) time.Duration) *receipts {
	if running == nil {
		running = func(since, now time.Time) time.Duration { return now.Sub(since) }
	}
	r := &receipts{consumeTimeout: consumeTimeout, running: running}
	for _, name := range queues {
		r.queues = append(r.queues, &receipt{queue: name})
	}
	return r
}

// of returns the receipt of a queue that is served.
func (r *receipts) of(queue string) *receipt {
	for _, q := range r.queues {
		if q.queue == queue {
			return q
		}
	}
	return &receipt{queue: queue}
}

func (r *receipts) begin(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun, r.turned = now, now
}

// end says that cycles are no longer due by themselves.
func (r *receipts) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

// turn notes that the loop has had a turn.
func (r *receipts) turn(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turned = now
}

// ask notes that a cycle was begun.
func (r *receipts) ask(queue string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(queue).asked = now
}

// refuse notes that a try of a cycle, begun at that time, has failed.
func (r *receipts) refuse(queue string, begun time.Time, err error) {
	if cause := errors.Unwrap(err); cause != nil {
		err = cause // without the number of the cycle, which changes
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(queue).cycles.add(begun, err)
}

// hear notes that a part of the cycle under way was answered. In one that has failed before this says little: the part that
// fails is yet to come.
func (r *receipts) hear(queue string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.of(queue); q.cycles.times == 0 {
		q.heard = now
	}
}

// drop notes that a cycle is given up.
func (r *receipts) drop(queue string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(queue).asked = time.Time{}
}

// answer notes that a cycle was answered: it was to take so many tasks and has got so many. Only a take that was tried ends
// those that were refused.
func (r *receipts) answer(queue string, asked, got int, reply *cycleReply, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.of(queue)
	if q.answered.IsZero() || q.cycles.times > 0 || q.takes.times > 0 && reply.failure == "" {
		defer r.changed.Notify()
	}
	q.asked, q.answered, q.cycles, q.paused = time.Time{}, now, failures{}, reply.paused
	switch {
	case reply.failure != "":
		q.takes.add(now, scriptError(reply.failure))
	case asked > 0 && !reply.paused:
		q.takes = failures{}
	}
	if got > 0 {
		r.taken, r.waiting = now, time.Time{}
	}
}

// outcomes notes since when an outcome of a queue is refused, and why; a zero time: none is.
func (r *receipts) outcomes(queue string, since time.Time, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.of(queue)
	if since.IsZero() {
		if q.outcomes.times > 0 {
			r.changed.Notify()
		}
		q.outcomes = failures{}
		return
	}
	q.outcomes.add(since, scriptError(reason))
	q.outcomes.since = since // the outcome that has waited for the longest may have gone
}

// wait notes that tasks of a queue wait now beside a free slot; an empty name: of none. It reports whether they have done so
// for too long.
func (r *receipts) wait(queue string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case queue == "":
		r.waiting = time.Time{}
	case r.waiting.IsZero():
		r.waiting = now
	}
	r.waits = queue
	return r.tooLong(now)
}

func (r *receipts) tooLong(now time.Time) bool {
	return r.consumeTimeout > 0 && !r.waiting.IsZero() && r.running(r.waiting, now) >= r.consumeTimeout
}

// hold reports whether failures are a fault: one among successes is none.
func (r *receipts) hold(f *failures, now time.Time) bool {
	return f.times > 1 && r.running(f.since, now) >= refusedAfter
}

// takesRefused reports whether those of a queue are, as judge says it.
func (r *receipts) takesRefused(queue string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refusesTakes(r.of(queue), now)
}

func (r *receipts) refusesTakes(q *receipt, now time.Time) bool {
	return !q.paused && r.hold(&q.takes, now)
}

// judge says what hinders now.
func (r *receipts) judge(now time.Time) Consumption {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := Consumption{Taken: r.taken}
	var found [NotAsked + 1]Hindrance
	add := func(kind HindranceKind, queue string, since time.Time, err error) {
		h := &found[kind]
		if h.Queues++; h.Queues == 1 {
			h.Kind, h.Queue, h.Since, h.Err = kind, queue, since, err
		}
	}
	for i, q := range r.queues {
		if i == 0 || q.answered.Before(c.Answered) {
			c.Answered = q.answered
		}
		r.judgeCycles(q, now, add)
		if r.hold(&q.outcomes, now) {
			add(OutcomesRefused, q.queue, q.outcomes.since, q.outcomes.err)
		}
		if r.refusesTakes(q, now) {
			add(TakesRefused, q.queue, q.takes.since, q.takes.err)
		}
	}
	if r.tooLong(now) {
		add(NothingTaken, r.waits, r.waiting, nil)
	}
	for _, h := range found {
		if h.Queues > 0 {
			c.Hindrances = append(c.Hindrances, h)
		}
	}
	return c
}

// judgeCycles says whether a queue's cycles are answered.
func (r *receipts) judgeCycles(q *receipt, now time.Time, add func(HindranceKind, string, time.Time, error)) {
	since := q.answered
	if since.IsZero() {
		since = r.begun
	}
	if q.heard.After(since) {
		since = q.heard
	}
	late := !since.IsZero() && r.running(since, now) >= answeredWithin
	switch {
	case r.hold(&q.cycles, now), late && q.cycles.times > 0:
		add(CyclesRefused, q.queue, q.cycles.since, q.cycles.err)
	case late && !q.asked.IsZero() && r.running(r.turned, now) < turnedWithin:
		add(CyclesUnanswered, q.queue, since, nil)
	case late && (!r.ended || !q.asked.IsZero()):
		add(CyclesNotTried, q.queue, since, nil)
	case q.answered.IsZero():
		add(NotAsked, q.queue, time.Time{}, nil)
	}
}
