package queue

import "time"

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
func (l *loop) trial(want int) int {
	if !l.trying || want == 0 {
		return want
	}
	for _, q := range l.queues {
		if q.asked > 0 {
			return 0
		}
	}
	return 1
}
