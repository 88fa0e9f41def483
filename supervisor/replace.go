package supervisor

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// restart is what an operator asks for with Restart.
func (l *loop) restart(r restart) {
	if l.draining || l.stopping {
		r.done <- fmt.Errorf("%w: the worker is draining", ErrNoRestart)
		return
	}
	l.breaker.reset()
	l.recycling.replaced.reset()
	l.waiting = append(l.waiting, r.done)
	switch {
	case l.state.status == StatusDegraded:
		l.to(StatusRestarting, because("restarting as asked: "+r.cause))
		l.start(r.cause)
	case l.state.status == StatusCrashed, l.ending != nil && l.ending.held, l.startErr != nil:
		l.restartCause = r.cause
	case l.child == nil: // waiting for the backoff
		l.state.setReason(because("restarting as asked: " + r.cause))
		l.start(r.cause)
	case l.serving && l.ending == nil:
		l.restartCause = r.cause
		l.replace(r.cause, l.opts.StopTimeout)
	}
	// Otherwise a process is starting, or about to: wait for it.
}

// replace begins a planned replacement: no new requests, and when nothing is in flight that may still end (or limit is
// over; 0: no limit) the process is ended and another started.
func (l *loop) replace(cause string, limit time.Duration) {
	if l.ending != nil || !l.serving || l.draining && cause != RestartDeadline {
		return
	}
	if l.replacement == nil {
		l.replacement = &replacement{cause: cause, healthy: l.healthy()}
		if !l.draining {
			l.to(StatusRestarting, because("planned replacement: "+cause))
		}
	}
	l.awaitRequests(limit)
}

// awaitRequests ends the process for its replacement when nothing is in flight that may still end, but for at most
// limit from now, or from an earlier call of less.
func (l *loop) awaitRequests(limit time.Duration) {
	if _, mayEnd := l.child.closeRequests(); mayEnd == 0 {
		l.endForReplacement()
		return
	}
	r := l.replacement
	until := time.Now().Add(limit)
	if limit > 0 && (r.until.IsZero() || until.Before(r.until)) {
		r.limit, r.until = limit, until
		l.setTimer(limit, timeoutReplace)
	}
	r.waitsFor = l.child.requests.running()
	l.showReplacement()
}

// watchReplacement says what a replacement waits for now.
func (l *loop) watchReplacement() {
	if n := l.child.requests.running(); n != l.replacement.waitsFor {
		l.replacement.waitsFor = n
		l.showReplacement()
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
	l.replace(RestartDeadline, l.opts.ReplaceTimeout)
}

// endForReplacement ends the process. What is unanswered now must not be run by a process that was asked to finish what
// it has read, so then it is not asked but killed.
func (l *loop) endForReplacement() {
	l.ending = &ending{kind: endReplace, cause: l.replacement.cause, evidence: l.replacement.breakage}
	if inFlight, _ := l.child.requests.close(nil); inFlight > 0 {
		l.stopTimer()
		l.killWhere("its tasks have not ended before its replacement: " + l.ending.cause)
		return
	}
	l.askToEnd()
}

// onReplaced: a process that was ended for its replacement is reaped.
func (l *loop) onReplaced(c *child, e *ending) {
	now, cause := time.Now(), e.cause
	for _, r := range c.requests.takeAll() {
		o := outcome{err: fmt.Errorf("%w: the Python process was replaced (%s)", ErrNotRun, cause)}
		switch {
		case r.overdue:
			o = r.unanswered(&ReplacedError{Cause: cause, Stack: e.where()}, now)
		case !r.turn.IsZero() && (cause == RestartMaxTasks || cause == RestartMaxMemory):
			// It may be why the limit is reached, and would meet it again for ever.
			o = r.unanswered(&ReplacedError{Cause: cause, Stack: e.where(), Waited: l.opts.ReplaceTimeout}, now)
		}
		c.requests.end(r, o)
	}
	if e.evidence != "" {
		l.afterBreakage(cause, status.NewReason(e.evidence, c.tail.last()))
		return
	}
	if l.draining {
		l.state.setReason(because("draining; the Python process was ended: " + cause))
		return
	}
	l.state.setReason(because("the new Python process is starting after a planned replacement: " + cause))
	l.start(cause)
}
