package supervisor

import (
	"fmt"
	"log/slog"
	"time"
)

// restart is what an operator asks for with Restart.
func (l *loop) restart(r restart) {
	if l.draining || l.stopping {
		r.done <- fmt.Errorf("%w: the worker is draining", ErrNoRestart)
		return
	}
	l.breaker.reset()
	l.waiting = append(l.waiting, r.done)
	switch {
	case l.state.status == StatusDegraded:
		l.to(StatusRestarting, because("restarting as asked: "+r.cause))
		l.start(r.cause)
	case l.state.status == StatusCrashed, l.startErr != nil:
		l.restartCause = r.cause
	case l.child == nil: // waiting for the backoff
		l.state.setReason(because("restarting as asked: " + r.cause))
		l.start(r.cause)
	case l.ready && l.ending == nil:
		l.restartCause = r.cause
		l.replace(r.cause, l.opts.StopTimeout)
	}
	// Otherwise a process is starting, or about to: wait for it.
}

// replace begins a planned replacement: no new requests, and when all that is in flight is answered or overdue (or
// limit is over; 0: no limit) the process is ended and another started.
func (l *loop) replace(cause string, limit time.Duration) {
	if l.ending != nil || !l.ready || l.draining && cause != RestartDeadline {
		return
	}
	if l.replacement == nil {
		l.replacement = &replacement{cause: cause, healthy: l.stalled == ""}
		if !l.draining {
			l.to(StatusRestarting, because("planned replacement: "+cause))
			l.gate.set(nil, l.replacement.healthy, l.state.reason.Summary)
		}
		inFlight, overdue := l.child.closeRequests()
		if inFlight == overdue {
			l.endForReplacement()
			return
		}
	}
	if limit > 0 {
		l.setTimer(limit, timeoutReplace)
	}
}

// onOverdue: a cancelled task does not end. With synchronous handlers it holds up all others if it is the one that
// runs; with asynchronous ones the others may finish.
func (l *loop) onOverdue(e *entry) {
	inFlight, oldest := l.child.requests.markOverdue(e)
	if !inFlight || l.ending != nil || !l.ready {
		return
	}
	if l.child.ready.sync() && !oldest {
		return
	}
	if l.replacement == nil {
		l.log.Warn("replacing python process", slog.String("cause", RestartDeadline), slog.String("task_id", e.id),
			slog.String("reason", "the task does not end after its cancellation"))
	}
	l.replace(RestartDeadline, 0)
	if l.ending != nil {
		return
	}
	// replace does nothing more when a replacement is already waiting; this task may be what it waits for.
	if left, overdue := l.child.closeRequests(); left == overdue || l.child.ready.sync() {
		l.endForReplacement()
	}
}

// endForReplacement ends the process. What is unanswered now must not be run by a process that was asked to finish what
// it has read, so then it is not asked but killed.
func (l *loop) endForReplacement() {
	l.ending = &ending{kind: endReplace, cause: l.replacement.cause}
	if inFlight, _ := l.child.requests.close(nil); inFlight > 0 {
		l.stopTimer()
		l.child.process.Kill()
		return
	}
	l.askToEnd()
}

// onReplaced: a process that was ended for its replacement is reaped.
func (l *loop) onReplaced(c *child, cause string) {
	inOrder := c.ready.sync()
	c.requests.failAll(func(i int, e *entry) error {
		if e.overdue && (i == 0 || !inOrder) {
			return &ReplacedError{Cause: cause}
		}
		return fmt.Errorf("%w: the Python process was replaced (%s)", ErrNotRun, cause)
	})
	if l.draining {
		l.state.setReason(because("draining; the Python process was ended: " + cause))
		return
	}
	l.state.setReason(because("the new Python process is starting after a planned replacement: " + cause))
	l.start(cause)
}
