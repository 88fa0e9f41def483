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

// replace begins a planned replacement: no new requests, and when nothing is in flight that may still end (or limit is
// over; 0: no limit) the process is ended and another started.
func (l *loop) replace(cause string, limit time.Duration) {
	if l.ending != nil || !l.ready || l.draining && cause != RestartDeadline {
		return
	}
	if l.replacement == nil {
		l.replacement = &replacement{cause: cause, healthy: l.stalled == ""}
		if !l.draining {
			l.to(StatusRestarting, because("planned replacement: "+cause))
			l.gate.shut(l.state.reason.Summary)
		}
		if _, mayEnd := l.child.closeRequests(); mayEnd == 0 {
			l.endForReplacement()
			return
		}
	}
	if limit > 0 {
		l.setTimer(limit, timeoutReplace)
	}
}

// checkOverdue replaces a process in which a cancelled task does not end. Tasks that run beside it may finish, those
// that wait for it may not.
func (l *loop) checkOverdue(now time.Time) {
	ids := l.child.requests.markOverdue(now, l.opts.StopTimeout)
	if len(ids) == 0 {
		return
	}
	if l.replacement == nil {
		l.log.Warn("replacing python process", slog.String("cause", RestartDeadline), slog.String("task_id", ids[0]),
			slog.String("reason", "the task does not end after its cancellation"))
	}
	l.replace(RestartDeadline, 0)
	if l.ending != nil {
		return
	}
	// replace does nothing more when a replacement is already waiting; these tasks may be what it waits for.
	if _, mayEnd := l.child.closeRequests(); mayEnd == 0 {
		l.endForReplacement()
	}
}

// endForReplacement ends the process. What is unanswered now must not be run by a process that was asked to finish what
// it has read, so then it is not asked but killed.
func (l *loop) endForReplacement() {
	l.ending = &ending{kind: endReplace, cause: l.replacement.cause}
	if inFlight, _ := l.child.requests.close(nil); inFlight > 0 {
		l.stopTimer()
		l.killWhere("its tasks have not ended before its replacement: " + l.ending.cause)
		return
	}
	l.askToEnd()
}

// onReplaced: a process that was ended for its replacement is reaped.
func (l *loop) onReplaced(c *child, ending *ending) {
	cause, now := ending.cause, time.Now()
	for _, e := range c.requests.takeAll() {
		o := outcome{err: fmt.Errorf("%w: the Python process was replaced (%s)", ErrNotRun, cause)}
		if e.overdue {
			o = e.unanswered(&ReplacedError{Cause: cause, Stack: ending.where()}, now)
		}
		c.requests.end(e, o)
	}
	if l.draining {
		l.state.setReason(because("draining; the Python process was ended: " + cause))
		return
	}
	l.state.setReason(because("the new Python process is starting after a planned replacement: " + cause))
	l.start(cause)
}
