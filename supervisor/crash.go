package supervisor

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// fail kills the process: what it did, or did not do, is a crash.
func (l *loop) fail(cause, evidence string) {
	l.ending = &ending{kind: endCrash, cause: cause, evidence: evidence}
	l.stopTimer()
	l.showCrash(cause, evidence)
	l.child.process.Kill()
}

// onPipeClosed: a process that closes its end of a pipe usually does so by exiting, and then the exit is what is shown.
// So for pipeGrace nothing is, but no request is given to it any more.
func (l *loop) onPipeClosed(cause, evidence string) {
	if l.ending != nil {
		return
	}
	l.ending = &ending{kind: endCrash, cause: cause, evidence: evidence, byExit: true, held: true}
	l.gate.shut("the Python process does not take tasks: " + evidence)
	l.setTimer(pipeGrace, timeoutPipe)
}

// onPipeGrace: the process has closed a pipe and lives. That stays in the evidence, whatever follows; the process has
// exitTimeout to exit by itself.
func (l *loop) onPipeGrace() {
	l.ending.held, l.ending.named = false, true
	l.showCrash(l.ending.cause, l.ending.evidence)
	l.setTimer(exitTimeout, timeoutExit)
}

// onDied: the process is dead. Its pipes are still read, for what it wrote last.
func (l *loop) onDied(x exit) {
	l.dead = true
	l.stopTimer()
	if l.ending == nil {
		l.ending = &ending{kind: endCrash, byExit: true, held: true}
	}
	switch {
	case l.ending.kind != endCrash || !l.ending.byExit:
	case l.ending.held:
		l.ending.held = false
		l.showCrash(l.crashOf(l.ending, x))
	default:
		l.setCrash(l.crashOf(l.ending, x))
	}
}

// onStartError: there is no process, because it could not be started.
func (l *loop) onStartError() {
	evidence := l.startErr.Error()
	l.startErr = nil
	l.showCrash(CauseStartup, evidence)
	l.afterCrash(CauseStartup, because(evidence))
}

// onCrashed: a process that crashed is reaped and read to the end, so that the evidence is complete.
func (l *loop) onCrashed(c *child, e *ending, x exit) {
	cause, text := l.crashOf(e, x)
	evidence := c.evidence(text)
	evidence.Stack = e.where().Brief(maxErrorStack)
	charge(c.requests, x.consumed, cause, evidence, e.where().Where, time.Now())
	l.afterCrash(cause, evidence)
}

// crashOf returns the cause of a crash and what is known of it.
func (l *loop) crashOf(e *ending, x exit) (cause, text string) {
	cause, text = e.cause, e.evidence
	switch {
	case !e.byExit:
	case e.named:
		cause, text = x.cause, fmt.Sprintf("%s, and then ended: %s", e.evidence, x.text)
	default:
		cause, text = x.cause, x.text
	}
	if !l.ready && cause != CauseStartup {
		cause, text = CauseStartup, "before it was ready: "+text
	}
	return cause, text
}

// showCrash makes a crash visible at once; what follows from it waits for the evidence.
func (l *loop) showCrash(cause, evidence string) {
	l.stalled, l.checks, l.replacement, l.lag = "", nil, nil, 0
	l.gate.shut("the Python process crashed: " + status.NewReason(evidence, nil).Summary)
	if !l.draining {
		l.to(StatusCrashed, crashReason(cause, status.NewReason(evidence, nil)))
		return
	}
	l.setCrash(cause, evidence)
}

// setCrash replaces what is shown of a crash that is visible already.
func (l *loop) setCrash(cause, evidence string) {
	reason := crashReason(cause, status.NewReason(evidence, nil))
	if l.draining {
		reason = prefixed("draining; the Python process ", reason)
	}
	l.state.setReason(reason)
}

// crashReason says that the process crashed.
func crashReason(cause string, evidence status.Reason) status.Reason {
	return prefixed(fmt.Sprintf("crashed (%s): ", cause), evidence)
}

// charge ends what is in flight: the task that ran is charged with the crash, several that ran are suspected, and what
// had not begun was not run. Nothing has begun of which the process has not read a byte.
func charge(requests *inFlightTable, consumed int64, cause string, evidence status.Reason, where string, now time.Time) {
	all := requests.takeAll()
	ran := func(e *entry) bool { return !e.began.IsZero() && e.start < consumed }
	running := 0
	for _, e := range all {
		if ran(e) {
			running++
		}
	}
	for _, e := range all {
		o := e.unanswered(&SuspicionError{Cause: cause, Where: where, Evidence: evidence}, now)
		switch {
		case !ran(e):
			o = outcome{err: fmt.Errorf("%w: the Python process crashed (%s) before its turn", ErrNotRun, cause)}
		case running == 1:
			o.err = &CrashError{Cause: cause, Where: where, Evidence: evidence}
		}
		requests.end(e, o)
	}
}

// afterCrash counts a crash and does what the policy says.
func (l *loop) afterCrash(cause string, evidence status.Reason) {
	l.countCrash(cause)
	attrs := []any{slog.String("cause", cause), slog.String("reason", evidence.Summary)}
	if len(evidence.Stderr) > 0 {
		attrs = append(attrs, slog.String("stderr", strings.Join(evidence.Stderr, "\n")))
	}
	l.log.Error("python process crashed", attrs...)
	l.follow(cause, evidence, l.opts.OnCrash)
}

func (l *loop) countCrash(cause string) {
	l.crashes++
	if f := l.opts.Events.Crashed; f != nil {
		f(cause)
	}
}

// follow does what a policy says follows from a crash.
func (l *loop) follow(cause string, evidence status.Reason, policy Policy) {
	l.replacement = nil
	reason := crashReason(cause, evidence)
	failure := fmt.Errorf("%w (%s): %s", ErrCrashed, cause, evidence.Text())
	l.crashReason = reason
	switch {
	case l.stopping:
		l.finish(because("stopped after a crash"))
		return
	case l.draining:
		l.state.setReason(prefixed("draining; the Python process ", reason))
		l.answerRestarts(failure)
		return
	case policy == PolicyExit:
		l.giveUp(reason, failure)
		return
	case l.restartCause != "":
		l.to(StatusRestarting, prefixed("starting again, as asked; ", reason))
		l.gate.shut("the Python process is being restarted")
		l.start(l.restartCause)
		return
	}
	defer l.answerRestarts(failure) // after the state says what comes next
	if policy == PolicyDegrade {
		l.degrade(reason)
		return
	}
	wait, ok := l.breaker.crash(time.Now(), rand.Float64())
	if !ok {
		most := fmt.Sprintf("more than %d crashes", l.breaker.policy.Max)
		if l.breaker.policy.Max == 1 {
			most = "more than one crash"
		}
		reason = prefixed(fmt.Sprintf("%s within %v; the last: ", most, l.opts.Restart.Window), reason)
		if l.opts.OnCrash == PolicyExit {
			l.giveUp(reason, failure)
			return
		}
		l.degrade(reason)
		return
	}
	l.to(StatusRestarting, prefixed(fmt.Sprintf("next start in %v; ", wait.Round(time.Millisecond)), reason))
	l.gate.shut("the Python process crashed and will be started again")
	l.setTimer(wait, timeoutBackoff)
}

// giveUp ends Run with an error.
func (l *loop) giveUp(reason status.Reason, failure error) {
	l.fatal = failure
	l.answerRestarts(failure)
	l.finish(reason)
}

func (l *loop) degrade(reason status.Reason) {
	l.to(StatusDegraded, reason)
	l.gate.shut("the worker is degraded: " + reason.Summary)
}
