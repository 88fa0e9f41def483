package queue

import (
	"context"
	"slices"
	"time"
)

// This file follows a task that was taken until its attempt ends.

// accept receives what was taken. It returns how many of them had to go back since a task of the same id is still with
// the handler.
func (l *loop) accept(taken []*attempt, now time.Time) (twins int) {
	for _, a := range taken {
		if l.accepted[a.task.ID] != nil {
			twins++
			l.settle(a, endReturnLast)
			continue
		}
		l.accepted[a.task.ID] = a
		switch {
		case l.draining:
			l.settle(a, endReturn)
		case l.opts.MaxTaskCrashes > 0 && a.task.Suspicions >= l.opts.MaxTaskCrashes:
			l.takeSuspect(a, now)
		default:
			l.held = append(l.held, a)
		}
	}
	return twins
}

// forget takes an attempt that waits out of where it does.
func (l *loop) forget(a *attempt) {
	if l.suspect != nil && l.suspect.attempt == a {
		l.setSuspect(nil)
		return
	}
	l.held = slices.DeleteFunc(l.held, func(other *attempt) bool { return other == a })
}

// submitHeld gives the handler what it has room for. What has waited for too long goes back.
func (l *loop) submitHeld(now time.Time) {
	if len(l.held) == 0 {
		return
	}
	n, open := 0, l.gate.Open()
	if open && (l.suspect == nil || !l.suspect.attempt.submitted) {
		for most := min(len(l.held), l.handler.Room().Free); n < most; n++ {
			l.submit(l.held[n], now)
		}
	}
	for n < len(l.held) && (now.Sub(l.held[n].taken) >= heldFor || !open) {
		l.settle(l.held[n], endReturn)
		l.overdone = true
		n++
	}
	if n > 0 {
		rest := copy(l.held, l.held[n:])
		clear(l.held[rest:])
		l.held = l.held[:rest]
	}
}

// submit gives one attempt to the handler, unless its time is over.
func (l *loop) submit(a *attempt, now time.Time) {
	if !effectiveDeadline(a.task.timeoutSeconds, a.task.deadlineUnix, now).After(now) {
		l.fail(a, context.DeadlineExceeded, 0, now)
		return
	}
	l.table.submit(a)
	l.submitted++
	l.handler.Submit(a.task, a)
}

// began notes that a handler has begun: its timeout counts from there.
func (l *loop) began(a *attempt, at time.Time) {
	if a.ended {
		return
	}
	l.deadlines.add(a)
	if l.opts.Views {
		q := l.byName(a.task.Queue)
		q.unseen = append(q.unseen, a)
	}
	if !a.task.Enqueued.IsZero() {
		l.observer.began(a.task, a.waited+max(0, at.Sub(a.taken)))
	}
}

// cancel asks the handler to end a task early that is with it.
func (l *loop) cancel(a *attempt, cause error) {
	if a.ended || a.cause != nil || !a.submitted {
		return
	}
	a.cause = cause
	l.handler.Cancel(a.task)
}

// cancelID cancels a task that somebody has named, wherever it is.
func (l *loop) cancelID(id string, now time.Time) {
	switch a := l.accepted[id]; {
	case a == nil:
	case a.submitted:
		l.cancel(a, context.Canceled)
	default:
		l.forget(a)
		l.fail(a, context.Canceled, 0, now)
	}
}

// lost ends an attempt whose task is no longer ours. One that waits does not begin any more; Redis refuses to take back
// what carries another stamp.
func (l *loop) lost(a *attempt) {
	if !a.submitted && l.accepted[a.task.ID] == a {
		l.forget(a)
		l.settle(a, endReturn)
		return
	}
	l.cancel(a, errTaken)
}
