package supervisor

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

// holdTime bounds how long requests are held back so that a process whose handlers run side by side has nothing to do
// and can be asked. Where handlers run one at a time it has nothing to do after each.
const holdTime = 100 * time.Millisecond

// checks decides when the process is asked whether it can do its work, and what follows from the answers. It belongs to
// the event loop and reads no clock of its own.
type checks struct {
	interval, timeout time.Duration
	max               int // so many failures in a row are a crash

	number   int64 // of the last check
	waiting  bool  // it is unanswered
	timedOut bool  // and has failed by that
	asked    time.Time
	missing  time.Time // when the unanswered check fails, or fails once more
	attempts int64     // how many attempts of tasks had failed when it was asked
	held     time.Time // since when requests are held back for the next one; zero: they are not
	failures int       // in a row
	failing  string    // what the last check found; empty: nothing is wrong
}

func newChecks(o Options) *checks {
	return &checks{interval: o.CheckInterval, timeout: o.CheckTimeout, max: o.CheckFailures}
}

// next returns the number of the check that is asked now; attempts is how many attempts have failed by now.
func (c *checks) next(now time.Time, attempts int64) {
	c.waiting, c.timedOut = true, false
	c.asked, c.missing, c.attempts, c.held = now, now.Add(c.timeout), attempts, time.Time{}
}

// due reports whether a process that has nothing to do is to be asked.
func (c *checks) due(now time.Time) bool { return !c.waiting && now.Sub(c.asked) >= c.interval }

// answered takes the answer to a check. It reports whether it counts: one that came too late has failed already.
func (c *checks) answered(number int64, now time.Time) bool {
	if !c.waiting || number != c.number {
		return false
	}
	c.waiting = false
	if c.timedOut {
		// What has ended after all may do so in time at the next try; so that one comes soon.
		c.asked = now.Add(min(c.timeout, c.interval) - c.interval)
		return false
	}
	return true
}

// overdue reports whether the unanswered check fails now: after its timeout, and again after each interval.
func (c *checks) overdue(now time.Time) bool {
	if !c.waiting || now.Before(c.missing) {
		return false
	}
	c.timedOut = true
	c.missing = now.Add(max(c.interval, c.timeout))
	return true
}

// skip leaves a gap out of the measurement: for this long the worker itself did not run.
func (c *checks) skip(gap time.Duration) { c.missing = c.missing.Add(gap) }

// checkRegularly asks the process when that is due and it has nothing to do, or sees to it that it soon has, after a
// failed task; and it fails a check that is not answered.
func (l *loop) checkRegularly(now time.Time) {
	c := l.checks
	if c == nil || l.draining || l.ending != nil || l.serving && l.replacement != nil {
		return
	}
	if c.overdue(now) {
		l.checkHangs(fmt.Sprintf("the check has not ended after %v", c.timeout))
		return
	}
	if !c.due(now) || l.stalled != "" || l.ask(now) {
		return
	}
	requests := l.child.requests
	switch {
	case requests.failedAttempts() == c.attempts:
	case c.held.IsZero():
		c.held = now
		child := l.child
		if requests.hold(func() { child.mailbox.post(event{kind: eventQuiet, child: child}) }) {
			l.ask(now)
		}
	case requests.runsSideBySide() && now.Sub(c.held) >= holdTime:
		// It may take long. The next try comes after another interval.
		c.held, c.asked = time.Time{}, now
		requests.release()
		l.roomChanged()
	}
}

// ask asks the process, if it has nothing to do.
func (l *loop) ask(now time.Time) bool {
	c := l.checks
	attempts, ok := l.child.requests.beginCheck(func() {
		c.number++
		l.child.in.Put(wire.EncodeCheck(c.number))
	})
	if ok {
		c.next(now, attempts)
	}
	return ok
}

// onQuiet: nothing is in flight, and requests are held back.
func (l *loop) onQuiet() {
	if l.checks != nil && l.ending == nil && !l.draining && l.replacement == nil && !l.checks.waiting {
		l.ask(time.Now())
	}
}

// onChecked: the process has answered a check.
func (l *loop) onChecked(m wire.Message) {
	c := l.checks
	if c == nil || l.ending != nil {
		return
	}
	if c.waiting && m.Check == c.number {
		l.child.requests.endCheck()
	}
	switch {
	case l.draining:
	case !c.answered(m.Check, time.Now()):
	case m.Error != "":
		l.checkFailed(m.Error)
	default:
		l.checkPassed()
	}
}

func (l *loop) checkPassed() {
	c := l.checks
	failed := c.failing != ""
	c.failures, c.failing = 0, ""
	if !l.serving {
		l.serve()
		return
	}
	if failed {
		l.log.Info("check passed")
		l.settle("its check passes again")
	}
	l.roomChanged()
}

func (l *loop) checkFailed(text string) {
	l.noteFailedCheck(text)
	if c := l.checks; c.failures >= c.max {
		l.fail(CauseCheck, c.evidence())
		return
	}
	l.afterFailedCheck()
}

// checkHangs is checkFailed for a check that does not end; the process is asked where it is.
func (l *loop) checkHangs(text string) {
	l.noteFailedCheck(text)
	c := l.checks
	if c.failures >= c.max {
		l.failWhere(CauseCheck, c.evidence(), func() bool { return l.checks == c && c.failures >= c.max })
		return
	}
	if c.failures == 1 {
		l.takeStack(text, func(Stack) {})
	}
	l.afterFailedCheck()
}

func (l *loop) noteFailedCheck(text string) {
	c := l.checks
	c.failures++
	c.failing = text
	l.log.Warn("check failed", slog.String("error", text), slog.Int("failures", c.failures))
}

// evidence is that of the crash that too many failures are.
func (c *checks) evidence() string {
	return fmt.Sprintf("its check failed %d times in a row: %s", c.failures, c.failing)
}

// afterFailedCheck shows what the check has found: the process is not given up yet.
func (l *loop) afterFailedCheck() {
	if !l.serving {
		l.serve()
		return
	}
	l.settle("")
}

// failingCheck says what the last check has found; empty: nothing is wrong, or nothing is checked.
func (l *loop) failingCheck() string {
	if l.checks == nil || l.checks.failing == "" {
		return ""
	}
	return "its check fails: " + l.checks.failing
}

// firstLine is what of a text may stand in a sentence.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
