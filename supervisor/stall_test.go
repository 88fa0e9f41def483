package supervisor

import (
	"strings"
	"testing"
	"time"
)

// stallTest runs a stall detector tick by tick through a scenario.
type stallTest struct {
	t   *testing.T
	d   *stallDetector
	now time.Time
	cpu time.Duration
}

const tickStep = 250 * time.Millisecond

func newStallTest(t *testing.T, async bool) *stallTest {
	now := time.Unix(1000, 0)
	return &stallTest{t: t, d: newStallDetector(5*time.Second, async, now), now: now}
}

// run lets span pass; share is the part of one CPU used, answer whether pings are answered, with lag. It returns when
// the first stall was seen, or -1.
func (c *stallTest) run(span time.Duration, share float64, answer bool, lag time.Duration) (stalledAfter time.Duration) {
	stalledAfter = -1
	for passed := time.Duration(0); passed < span; passed += tickStep {
		c.now = c.now.Add(tickStep)
		c.cpu += time.Duration(share * float64(tickStep))
		n, due := c.d.ping(c.now)
		c.d.cpu.sample(c.now, c.cpu)
		if answer && c.d.waiting {
			if due || n == 0 {
				c.d.pong(c.d.seq, lag)
			}
		}
		if why, _ := c.d.check(c.now); why != "" && stalledAfter < 0 {
			stalledAfter = passed + tickStep
		}
	}
	return stalledAfter
}

func (c *stallTest) never(what string, at time.Duration) {
	c.t.Helper()
	if at >= 0 {
		c.t.Errorf("%s: stalled after %v, want never", what, at)
	}
}

func TestStallDetectorAnsweringIsHealthy(t *testing.T) {
	c := newStallTest(t, false)
	c.never("idle", c.run(time.Minute, 0, true, 0))
	c.never("busy", c.run(time.Minute, 1, true, 0))
	c.never("sync handlers have no loop that lags", c.run(time.Minute, 0, true, time.Hour))
}

func TestStallDetectorUnansweredAndIdle(t *testing.T) {
	c := newStallTest(t, false)
	c.run(10*time.Second, 0.3, true, 0)
	at := c.run(20*time.Second, 0, false, 0)
	// Not before the threshold, and not much later: one ping interval, two ticks.
	if at < 5*time.Second || at > 6500*time.Millisecond {
		t.Errorf("stalled after %v, want 5 to 6.5 s", at)
	}
	c.run(time.Second, 0, true, 0)
	if why, lag := c.d.check(c.now); why != "" || lag != 0 {
		t.Errorf("after two answers: stalled %q, lag %v; want neither", why, lag)
	}
}

func TestStallDetectorUnansweredAndBusy(t *testing.T) {
	c := newStallTest(t, false)
	c.never("computing", c.run(time.Hour, 1, false, 0))
	if _, lag := c.d.check(c.now); lag < 59*time.Minute {
		t.Errorf("the lag is %v, want the time without an answer, about an hour", lag)
	}
	// It stops computing and still does not answer.
	if at := c.run(20*time.Second, 0, false, 0); at < 4*time.Second || at > 6*time.Second {
		t.Errorf("stalled %v after it went idle, want 4 to 6 s", at)
	}
}

// A thread that waits for the GIL uses a little CPU time.
func TestStallDetectorWaitingForTheGILIsIdle(t *testing.T) {
	c := newStallTest(t, false)
	if at := c.run(20*time.Second, 0.01, false, 0); at < 5*time.Second || at > 7*time.Second {
		t.Errorf("stalled after %v, want 5 to 7 s", at)
	}
}

func TestStallDetectorLoopLag(t *testing.T) {
	c := newStallTest(t, true)
	c.never("a lag at the threshold", c.run(10*time.Second, 1, true, 5*time.Second))
	if at := c.run(3*time.Second, 1, true, 6*time.Second); at < 0 {
		t.Error("a blocked loop is not stalled")
	}
	why, lag := c.d.check(c.now)
	if !strings.Contains(why, "event loop") || lag != 6*time.Second {
		t.Errorf("stalled %q, lag %v; want a blocked event loop, 6 s", why, lag)
	}
	c.run(2*time.Second, 0, true, 0)
	if why, _ := c.d.check(c.now); why != "" {
		t.Errorf("still stalled after it answered: %s", why)
	}
}

func TestStallDetectorWithoutCPUFigures(t *testing.T) {
	d := newStallDetector(time.Second, false, time.Unix(0, 0))
	d.ping(time.Unix(0, 0))
	if why, lag := d.check(time.Unix(100, 0)); why != "" || lag != 100*time.Second {
		t.Errorf("stalled %q, lag %v; want not stalled, 100 s", why, lag)
	}
}

func TestStallDetectorSkipsItsOwnAbsence(t *testing.T) {
	c := newStallTest(t, false)
	c.run(10*time.Second, 0, true, 0)
	c.run(time.Second, 0, false, 0) // a ping is outstanding
	c.now = c.now.Add(time.Hour)    // the machine slept
	c.d.skip(time.Hour)
	c.never("right after the sleep", c.run(3*time.Second, 0, false, 0))
}

// One answer may be the doing of the signal that asks for the stacks.
func TestStallDetectorWantsTwoAnswers(t *testing.T) {
	c := newStallTest(t, false)
	stall := func() {
		t.Helper()
		if at := c.run(15*time.Second, 0, false, 0); at < 0 {
			t.Fatal("a silent process is not stalled")
		}
	}
	stalled := func() bool {
		why, _ := c.d.check(c.now)
		return why != ""
	}
	stall()
	c.d.pong(c.d.seq, 0)
	if !stalled() {
		t.Error("not stalled after one answer")
	}
	if c.run(3*time.Second, 0, false, 0); !stalled() {
		t.Error("not stalled when it is silent again")
	}
	c.run(3*time.Second, 0, true, 0)
	if stalled() {
		t.Error("stalled still, when it answers again")
	}
	stall()
	c.d.pong(c.d.seq, 0)
	if c.run(3*time.Second, 1, false, 0); stalled() {
		t.Error("stalled still, when it computes")
	}
}

func TestStallDetectorPings(t *testing.T) {
	now := time.Unix(0, 0)
	d := newStallDetector(2*time.Second, false, now)
	if d.interval != 400*time.Millisecond {
		t.Errorf("the interval is %v, want 400ms", d.interval)
	}
	n, due := d.ping(now)
	if !due || n != 1 {
		t.Fatalf("the first ping is number %d, due %v; want 1, true", n, due)
	}
	if _, due := d.ping(now.Add(time.Hour)); due {
		t.Error("a second ping was sent before the first was answered")
	}
	if d.pong(7, 0) {
		t.Error("a pong for another ping was taken")
	}
	if !d.pong(1, 0) || d.pong(1, 0) {
		t.Error("a pong was not taken, or taken twice; want once")
	}
	if newStallDetector(time.Hour, false, now).interval != time.Second {
		t.Error("the interval for an hour is not a second")
	}
}
