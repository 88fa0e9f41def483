package supervisor

import (
	"strings"
	"testing"
	"time"
)

// clock runs a pulse tick by tick through a scenario.
type clock struct {
	t   *testing.T
	p   *pulse
	now time.Time
	cpu time.Duration
}

const tickStep = 250 * time.Millisecond

func newClock(t *testing.T, async bool) *clock {
	now := time.Unix(1000, 0)
	return &clock{t: t, p: newPulse(5*time.Second, async, now), now: now}
}

// run lets d pass; share is the part of one CPU used, answer whether pings
// are answered, with lag. It returns when the first stall was seen, or -1.
func (c *clock) run(d time.Duration, share float64, answer bool, lag time.Duration) (stalledAfter time.Duration) {
	stalledAfter = -1
	for passed := time.Duration(0); passed < d; passed += tickStep {
		c.now = c.now.Add(tickStep)
		c.cpu += time.Duration(share * float64(tickStep))
		n, due := c.p.ping(c.now)
		c.p.sample(c.now, c.cpu)
		if answer && c.p.waiting {
			if due || n == 0 {
				c.p.pong(c.p.seq, lag)
			}
		}
		if why, _ := c.p.verdict(c.now); why != "" && stalledAfter < 0 {
			stalledAfter = passed + tickStep
		}
	}
	return stalledAfter
}

func (c *clock) never(what string, at time.Duration) {
	c.t.Helper()
	if at >= 0 {
		c.t.Errorf("%s: stalled after %v", what, at)
	}
}

func TestPulseAnsweringIsHealthy(t *testing.T) {
	c := newClock(t, false)
	c.never("idle", c.run(time.Minute, 0, true, 0))
	c.never("busy", c.run(time.Minute, 1, true, 0))
	c.never("sync handlers have no loop that lags", c.run(time.Minute, 0, true, time.Hour))
}

func TestPulseSilentAndIdle(t *testing.T) {
	c := newClock(t, false)
	c.run(10*time.Second, 0.3, true, 0)
	at := c.run(20*time.Second, 0, false, 0)
	// Not before the threshold, and not much later: one ping interval, two ticks.
	if at < 5*time.Second || at > 6500*time.Millisecond {
		t.Errorf("stalled after %v", at)
	}
	c.p.pong(c.p.seq, 0)
	if why, lag := c.p.verdict(c.now); why != "" || lag != 0 {
		t.Errorf("after the pong: %q %v", why, lag)
	}
}

func TestPulseSilentAndBusy(t *testing.T) {
	c := newClock(t, false)
	c.never("computing", c.run(time.Hour, 1, false, 0))
	if _, lag := c.p.verdict(c.now); lag < 59*time.Minute {
		t.Errorf("the lag must show the silence: %v", lag)
	}
	// It stops computing and still does not answer.
	if at := c.run(20*time.Second, 0, false, 0); at < 4*time.Second || at > 6*time.Second {
		t.Errorf("stalled %v after it went idle", at)
	}
}

// A thread that waits for the GIL uses a little CPU time.
func TestPulseWaitingForTheGILIsIdle(t *testing.T) {
	c := newClock(t, false)
	if at := c.run(20*time.Second, 0.01, false, 0); at < 5*time.Second || at > 7*time.Second {
		t.Errorf("stalled after %v", at)
	}
}

func TestPulseLoopLag(t *testing.T) {
	c := newClock(t, true)
	c.never("a lag at the threshold", c.run(10*time.Second, 1, true, 5*time.Second))
	if at := c.run(3*time.Second, 1, true, 6*time.Second); at < 0 {
		t.Error("a blocked loop is not stalled")
	}
	why, lag := c.p.verdict(c.now)
	if !strings.Contains(why, "event loop") || lag != 6*time.Second {
		t.Errorf("%q %v", why, lag)
	}
	c.run(2*time.Second, 0, true, 0)
	if why, _ := c.p.verdict(c.now); why != "" {
		t.Errorf("not recovered: %s", why)
	}
}

func TestPulseWithoutCPUFigures(t *testing.T) {
	p := newPulse(time.Second, false, time.Unix(0, 0))
	p.ping(time.Unix(0, 0))
	if why, lag := p.verdict(time.Unix(100, 0)); why != "" || lag != 100*time.Second {
		t.Errorf("%q %v", why, lag)
	}
}

func TestPulseForgivesItsOwnAbsence(t *testing.T) {
	c := newClock(t, false)
	c.run(10*time.Second, 0, true, 0)
	c.run(time.Second, 0, false, 0) // a ping is outstanding
	c.now = c.now.Add(time.Hour)    // the machine slept
	c.p.forgive(time.Hour)
	c.never("right after the sleep", c.run(3*time.Second, 0, false, 0))
}

func TestPulsePings(t *testing.T) {
	now := time.Unix(0, 0)
	p := newPulse(2*time.Second, false, now)
	if p.interval != 400*time.Millisecond {
		t.Errorf("interval %v", p.interval)
	}
	n, due := p.ping(now)
	if !due || n != 1 {
		t.Fatalf("first: %d %v", n, due)
	}
	if _, due := p.ping(now.Add(time.Hour)); due {
		t.Error("a second ping was sent before the first was answered")
	}
	if p.pong(7, 0) {
		t.Error("a pong for another ping was taken")
	}
	if !p.pong(1, 0) || p.pong(1, 0) {
		t.Error("a pong counts once")
	}
	if newPulse(time.Hour, false, now).interval != time.Second {
		t.Error("the interval is at most a second")
	}
}
