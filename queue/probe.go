package queue

import (
	"slices"
	"time"
)

// This file has what the loop does beside its work to see whether the work is possible.

// probeAt is when a queue is to be asked if nothing else has it asked before; zero: nothing has to be seen of it.
func (l *loop) probeAt(q *queueState) time.Time {
	if q.busy || l.draining && l.submitted == 0 {
		return time.Time{}
	}
	return q.askedAt.Add(lookEvery)
}

func (l *loop) probeDue(q *queueState, now time.Time) bool {
	at := l.probeAt(q)
	return !at.IsZero() && !now.Before(at)
}

// sample looks now and then whether tasks wait beside a free slot. A slot that was taken and free again in between shows by
// the task that was taken.
func (l *loop) sample(now time.Time) {
	if now.Sub(l.sampled) < sampleEvery {
		return
	}
	l.sampled = now
	l.trying = l.receipts.wait(l.takeable(now), now)
}

// takeable returns a queue with a task that could be taken and begin now; empty: there is none.
func (l *loop) takeable(now time.Time) string {
	if l.takesRefused(now) { // so no others are taken
		return ""
	}
	for _, q := range l.queues {
		if !q.more || q.failing || !q.askable(now) { // what fails has a reason of its own
			continue
		}
		if l.draining || l.suspect != nil || !l.gate.Open() || l.handler.Room().Free <= len(l.held) {
			return ""
		}
		return q.name
	}
	return ""
}

// trial is how many of the wanted tasks are taken: one at a time when none came although some wait.
func (l *loop) trial(want int, now time.Time) int {
	if !l.trying || want == 0 {
		return want
	}
	if l.taking(now) {
		return 0
	}
	return 1
}

// taking reports whether a cycle is under way that may take tasks.
func (l *loop) taking(now time.Time) bool {
	return slices.ContainsFunc(l.queues, func(q *queueState) bool { return q.asked > 0 && !l.silent(q, now) })
}

// takesRefused reports whether takes of some queue are refused for so long that the worker is not healthy.
func (l *loop) takesRefused(now time.Time) bool {
	return slices.ContainsFunc(l.queues, func(q *queueState) bool { return q.failing && l.receipts.takesRefused(q.name, now) })
}

// tryRefused has one task taken of the queue with refused takes that was not asked for the longest time, and none of the
// others: those show nothing, and a worker that is not healthy takes none. It does so without room for it, too, since
// nothing else shows that takes are possible again: what comes goes back when it has waited for heldFor.
func (l *loop) tryRefused(now time.Time) {
	var next *queueState
	for _, q := range l.queues {
		q.take = 0
		if q.failing && !q.busy && q.askable(now) && (next == nil || q.askedAt.Before(next.askedAt)) {
			next = q
		}
	}
	if next != nil && !l.draining && l.gate.Open() && !l.taking(now) {
		next.take = 1
	}
}
