package supervisor

import (
	"fmt"
	"time"
)

const (
	maxPingInterval = time.Second
	// idleShare is the share of one CPU below which a silent process counts as
	// idle. A thread that waits for Python's GIL wakes 200 times a second, which
	// takes up to one percent.
	idleShare = 0.02
)

// pulse decides from pings, pongs and CPU samples whether a process is
// stalled. It belongs to the owner goroutine and reads no clock of its own.
type pulse struct {
	threshold time.Duration
	interval  time.Duration
	async     bool

	seq     int64
	sent    time.Time // when the outstanding ping was sent
	waiting bool      // a ping is outstanding
	next    time.Time // when the next ping is due
	lag     time.Duration
	samples []cpuSample // the last threshold's worth, oldest first
}

type cpuSample struct {
	at  time.Time
	cpu time.Duration
}

func newPulse(threshold time.Duration, async bool, now time.Time) *pulse {
	return &pulse{threshold: threshold, interval: min(maxPingInterval, threshold/5), async: async, next: now}
}

// ping returns the number of the ping to send now, if one is due. At most one
// is outstanding, so a silent process does not collect them.
func (p *pulse) ping(now time.Time) (int64, bool) {
	if p.waiting || now.Before(p.next) {
		return 0, false
	}
	p.seq++
	p.waiting, p.sent, p.next = true, now, now.Add(p.interval)
	return p.seq, true
}

// pong takes an answer; one to another ping than the outstanding says nothing.
func (p *pulse) pong(n int64, lag time.Duration) bool {
	if !p.waiting || n != p.seq {
		return false
	}
	p.waiting = false
	p.lag = lag
	return true
}

// sample notes the process' CPU time.
func (p *pulse) sample(now time.Time, cpu time.Duration) {
	p.samples = append(p.samples, cpuSample{now, cpu})
	// Keep one sample that is at least a threshold old.
	for len(p.samples) > 1 && now.Sub(p.samples[1].at) >= p.threshold {
		p.samples = p.samples[1:]
	}
}

// forgive shifts the outstanding ping: for this long the worker itself did
// not run, and cannot blame the process.
func (p *pulse) forgive(gap time.Duration) {
	p.sent = p.sent.Add(gap)
	p.samples = nil
}

// idle tells whether the process used (almost) no CPU time over a whole
// threshold; false when that is not known.
func (p *pulse) idle(now time.Time) bool {
	if len(p.samples) < 2 {
		return false
	}
	first, last := p.samples[0], p.samples[len(p.samples)-1]
	window := last.at.Sub(first.at)
	// A sample that is due but missing must not shorten the window.
	if window < p.threshold-p.threshold/10 || now.Sub(last.at) > p.threshold {
		return false
	}
	return float64(last.cpu-first.cpu) <= max(idleShare*float64(window), float64(10*time.Millisecond))
}

// verdict is the judgement at now: why the process is stalled (empty: it is
// not), and the lag to show.
func (p *pulse) verdict(now time.Time) (stalled string, lag time.Duration) {
	lag = p.lag
	var silence time.Duration
	if p.waiting {
		silence = now.Sub(p.sent)
	}
	if silence > p.interval {
		lag = max(lag, silence)
	}
	switch {
	case p.async && p.lag > p.threshold:
		return fmt.Sprintf("the event loop is blocked: %.1f s behind, threshold %v", p.lag.Seconds(), p.threshold), lag
	case silence > p.threshold && p.idle(now):
		return fmt.Sprintf("no answer to a ping for %.1f s and no CPU time used, threshold %v", silence.Seconds(), p.threshold), lag
	}
	return "", lag
}
