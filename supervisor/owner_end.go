package supervisor

import (
	"fmt"
	"strings"
	"time"
)

// startPlan begins a planned replacement: no new requests, and when all that
// is in flight is answered or overdue (or patience is over; 0: never) the
// process is ended and another started.
func (o *owner) startPlan(cause string, patience time.Duration) {
	if o.end != nil || !o.ready || o.drain && cause != RestartDeadline {
		return
	}
	if o.plan == nil {
		o.plan = &plan{cause: cause, healthy: o.stalled == ""}
		if !o.drain {
			o.to(StatusRestarting, "planned replacement: "+cause)
			o.s.gate.set(nil, o.plan.healthy, o.m.reason)
		}
		c := o.child
		inFlight, overdue := c.ledger.seal(func() { o.post(event{kind: evIdle, child: c}) })
		if inFlight == overdue {
			o.endPlanned()
			return
		}
	}
	if patience > 0 {
		o.setAlarm(patience, o.endPlanned)
	}
}

// endPlanned ends the process for its plan. What is unanswered now must not
// be run by a process that was asked to finish what it has read, so then
// there is no asking.
func (o *owner) endPlanned() {
	o.end = &end{kind: endReplace, cause: o.plan.cause}
	inFlight, _ := o.child.ledger.seal(nil)
	if inFlight > 0 {
		o.hush()
		o.child.kill()
		return
	}
	o.askToEnd()
}

// askToEnd closes stdin, then sends SIGTERM, then SIGKILL.
func (o *owner) askToEnd() {
	c, half := o.child, o.o.StopTimeout/2
	c.in.finish()
	terminate := func() {
		c.terminate()
		o.setAlarm(half, c.kill)
	}
	if !o.ready {
		terminate() // it loads, and does not read yet
		return
	}
	o.setAlarm(half, terminate)
}

// onOverdue: a cancelled task does not end. With synchronous handlers it
// holds up all others if it is the one that runs; with asynchronous ones the
// others are let finish.
func (o *owner) onOverdue(k *call) {
	inFlight, oldest := o.child.ledger.late(k)
	if !inFlight || o.end != nil || !o.ready {
		return
	}
	if o.child.sync() && !oldest {
		return
	}
	if o.plan == nil {
		o.log.Warn("a task has not ended after it was cancelled; the Python process will be replaced", "task_id", k.id)
	}
	o.startPlan(RestartDeadline, 0)
	if o.end != nil {
		return
	}
	// startPlan does nothing for a plan that is already waiting; the new overdue
	// task may be what it waits for.
	c := o.child
	left, overdue := c.ledger.seal(func() { o.post(event{kind: evIdle, child: c}) })
	if left == overdue || c.sync() {
		o.endPlanned()
	}
}

// fail kills the process: what it did, or did not do, is a crash.
func (o *owner) fail(cause, evidence string) {
	o.end = &end{kind: endCrash, cause: cause, evidence: evidence}
	o.hush()
	o.crashed(evidence)
	o.child.kill()
}

// crashed makes a crash visible at once; what follows waits for the evidence.
func (o *owner) crashed(reason string) {
	o.stalled, o.plan, o.lag = "", nil, 0
	o.s.gate.set(nil, false, "the Python process crashed: "+reason)
	if o.drain {
		o.m.note("draining; the Python process crashed: " + reason)
		return
	}
	o.to(StatusCrashed, reason)
}

// onEnded: the process is reaped and read to the end.
func (o *owner) onEnded(how ending) {
	c, e := o.child, o.end
	o.child = nil
	o.hush()
	switch {
	case e.kind == endStop, o.stop && e.kind == endReplace:
		c.ledger.settle(func(int, *call) error { return ErrStopped })
		o.finish("stopped: " + how.how)
	case e.kind == endReplace:
		inOrder := c.sync()
		c.ledger.settle(func(i int, k *call) error {
			if k.overdue && (i == 0 || !inOrder) {
				return &ReplacedError{Cause: e.cause}
			}
			return fmt.Errorf("%w: the Python process was replaced (%s)", ErrNotRun, e.cause)
		})
		if o.drain {
			o.m.note("draining; the Python process was ended: " + e.cause)
			return
		}
		o.m.note("the new Python process is starting after a planned replacement: " + e.cause)
		o.spawn(e.cause)
	default:
		cause, evidence := e.cause, e.evidence
		if e.soft {
			cause, evidence = how.cause, how.how
		}
		if !o.ready {
			cause, evidence = CauseStartup, "before it was ready: "+evidence
		}
		full := evidence + stderrNote(c)
		o.charge(c, how.consumed, &CrashError{Cause: cause, Evidence: full})
		o.afterCrash(cause, full)
	}
}

// lastLines stands between the evidence of a crash and the lines that the process wrote last.
const lastLines = "; its last lines on stderr:"

// stderrNote adds the last lines to the evidence. While requests are in flight, those that were written before the
// oldest of them began are of others, and would lead whoever reads them astray.
func stderrNote(c *child) string {
	began, running := c.ledger.spoken(c.sync())
	lines := c.tail.since(began)
	switch {
	case len(lines) > 0:
		return lastLines + "\n" + strings.Join(lines, "\n")
	case running && c.tail.count() > 0:
		return "; it wrote nothing to stderr since the task began"
	}
	return "; it wrote nothing to stderr"
}

// charge gives the crash to the tasks that were running.
func (o *owner) charge(c *child, consumed int64, crash *CrashError) {
	inOrder := c.sync()
	c.ledger.settle(func(i int, k *call) error {
		if k.start >= consumed || inOrder && i > 0 {
			return fmt.Errorf("%w: the Python process crashed (%s) before its turn", ErrNotRun, crash.Cause)
		}
		return crash
	})
}

// afterCrash counts a crash and does what the policy says. evidence has the
// stderr tail after its first line.
func (o *owner) afterCrash(cause, evidence string) {
	o.crashes++
	if f := o.o.Events.Crashed; f != nil {
		f(cause)
	}
	o.log.Error("the Python process crashed", "cause", cause, "evidence", evidence)
	o.plan = nil
	reason := fmt.Sprintf("crashed (%s): %s", cause, evidence)
	failure := fmt.Errorf("%w (%s): %s", ErrCrashed, cause, evidence)
	switch {
	case o.stop:
		o.finish("stopped after a crash")
		return
	case o.drain:
		o.m.note("draining; the Python process " + reason)
		o.answer(failure)
		return
	case o.o.OnCrash == PolicyExit:
		o.fatal = failure
		o.answer(failure)
		o.finish(reason)
		return
	case o.again != "":
		o.to(StatusRestarting, reason+"\nstarting again, as asked")
		o.s.gate.set(nil, false, "the Python process is being restarted")
		o.spawn(o.again)
		return
	}
	defer o.answer(failure) // after the state says what comes next
	if o.o.OnCrash == PolicyDegrade {
		o.degrade(reason)
		return
	}
	wait, ok := o.breaker.crash(time.Now(), jitter())
	if !ok {
		o.degrade(fmt.Sprintf("more than %d crashes within %v; the last: %s", o.o.Restart.Max, o.o.Restart.Window, reason))
		return
	}
	o.to(StatusRestarting, fmt.Sprintf("next start in %v; %s", wait.Round(time.Millisecond), reason))
	o.s.gate.set(nil, false, "the Python process crashed and will be started again")
	o.setAlarm(wait, func() {
		o.m.note("starting again; " + reason)
		o.spawn(RestartCrash)
	})
}

func (o *owner) degrade(reason string) {
	o.to(StatusDegraded, reason)
	o.s.gate.set(nil, false, "the worker is degraded: "+reason)
}

// restart is the operator's wish.
func (o *owner) restart(r restart) {
	if o.drain || o.stop {
		r.done <- fmt.Errorf("%w: the worker is draining", ErrNoRestart)
		return
	}
	o.breaker.reset()
	o.waiting = append(o.waiting, r.done)
	switch {
	case o.m.status == StatusDegraded:
		o.to(StatusRestarting, "restarting as asked: "+r.cause)
		o.spawn(r.cause)
	case o.m.status == StatusCrashed:
		o.again = r.cause
	case o.child == nil: // waiting for the backoff
		o.m.note("restarting as asked: " + r.cause)
		o.spawn(r.cause)
	case o.ready && o.end == nil:
		o.again = r.cause
		o.startPlan(r.cause, o.o.StopTimeout)
	}
	// Otherwise a process is starting, or about to: wait for it.
}

// beginDrain refuses new requests and calls off what would start a process.
func (o *owner) beginDrain(reason string) {
	if o.drain {
		return
	}
	o.drain = true
	o.s.gate.set(nil, false, "the worker is "+reason)
	o.to(StatusDraining, reason)
	o.answer(fmt.Errorf("%w: the worker is draining", ErrNoRestart))
	o.again = ""
	if o.child == nil {
		o.hush()
	}
	if o.plan != nil && o.end == nil && o.ready {
		o.plan = nil
		o.hush()
	}
}

func (o *owner) beginStop() {
	o.stop = true
	o.beginDrain("stopping")
	switch {
	case o.child == nil:
		o.finish("stopped")
	case o.end == nil:
		o.end = &end{kind: endStop}
		o.child.ledger.seal(nil)
		o.askToEnd()
	}
}

func (o *owner) killNow(reason string) {
	o.stop = true
	o.beginDrain("stopping: " + reason)
	if o.child == nil {
		o.finish("stopped")
		return
	}
	if o.end == nil {
		o.end = &end{kind: endStop}
		o.child.ledger.seal(nil)
	}
	o.hush()
	o.child.kill()
}

func (o *owner) finish(reason string) {
	if o.finished {
		return
	}
	o.finished = true
	o.hush()
	o.s.gate.set(nil, false, "the supervisor has stopped")
	o.answer(fmt.Errorf("%w: the supervisor has stopped", ErrNoRestart))
	if o.m.status != StatusStopped {
		o.to(StatusStopped, reason)
	}
}
