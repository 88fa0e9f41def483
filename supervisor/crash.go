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
	l.showCrash(status.NewReason(evidence, nil))
	l.child.process.Kill()
}

// onPipeClosed: a process that closes its end of a pipe usually exits, and then its exit is the cause; it has
// exitTimeout for that.
func (l *loop) onPipeClosed(cause, evidence string) {
	if l.ending != nil {
		return
	}
	l.ending = &ending{kind: endCrash, cause: cause, evidence: evidence, byExit: true}
	l.showCrash(because(evidence))
	l.setTimer(exitTimeout, timeoutExit)
}

// onDied: the process is dead. How it ended is known when it is reaped.
func (l *loop) onDied() {
	l.dead = true
	l.stopTimer()
	if l.ending == nil {
		l.ending = &ending{kind: endCrash, byExit: true}
		l.showCrash(because("the process is gone"))
	}
}

// onStartError: there is no process, because it could not be started.
func (l *loop) onStartError() {
	evidence := because(l.startErr.Error())
	l.startErr = nil
	l.showCrash(evidence)
	l.afterCrash(CauseStartup, evidence)
}

// onCrashed: a process that crashed is reaped and read to the end, so that the evidence is complete.
func (l *loop) onCrashed(c *child, e *ending, x exit) {
	cause, text := e.cause, e.evidence
	if e.byExit {
		cause, text = x.cause, x.text
	}
	if !l.ready {
		cause, text = CauseStartup, "before it was ready: "+text
	}
	evidence := c.evidence(text)
	evidence.Stack = e.where().Brief(maxErrorStack)
	charge(c.requests, x.consumed, cause, evidence, e.where().Where, time.Now())
	l.afterCrash(cause, evidence)
}

// showCrash makes a crash visible at once; what follows from it waits for the evidence.
func (l *loop) showCrash(reason status.Reason) {
	l.stalled, l.replacement, l.lag = "", nil, 0
	l.gate.shut("the Python process crashed: " + reason.Summary)
	if l.draining {
		l.state.setReason(prefixed("draining; the Python process crashed: ", reason))
		return
	}
	l.to(StatusCrashed, reason)
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
	l.crashes++
	if f := l.opts.Events.Crashed; f != nil {
		f(cause)
	}
	attrs := []any{slog.String("cause", cause), slog.String("reason", evidence.Summary)}
	if len(evidence.Stderr) > 0 {
		attrs = append(attrs, slog.String("stderr", strings.Join(evidence.Stderr, "\n")))
	}
	l.log.Error("python process crashed", attrs...)
	l.replacement = nil
	reason := prefixed(fmt.Sprintf("crashed (%s): ", cause), evidence)
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
	case l.opts.OnCrash == PolicyExit:
		l.fatal = failure
		l.answerRestarts(failure)
		l.finish(reason)
		return
	case l.restartCause != "":
		l.to(StatusRestarting, prefixed("starting again, as asked; ", reason))
		l.gate.shut("the Python process is being restarted")
		l.start(l.restartCause)
		return
	}
	defer l.answerRestarts(failure) // after the state says what comes next
	if l.opts.OnCrash == PolicyDegrade {
		l.degrade(reason)
		return
	}
	wait, ok := l.breaker.crash(time.Now(), rand.Float64())
	if !ok {
		l.degrade(prefixed(fmt.Sprintf("more than %d crashes within %v; the last: ", l.opts.Restart.Max, l.opts.Restart.Window), reason))
		return
	}
	l.to(StatusRestarting, prefixed(fmt.Sprintf("next start in %v; ", wait.Round(time.Millisecond)), reason))
	l.gate.shut("the Python process crashed and will be started again")
	l.setTimer(wait, timeoutBackoff)
}

func (l *loop) degrade(reason status.Reason) {
	l.to(StatusDegraded, reason)
	l.gate.shut("the worker is degraded: " + reason.Summary)
}
