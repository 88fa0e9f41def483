package supervisor

import (
	"fmt"
	"time"
)

const (
	maxPingInterval = time.Second
	// idleShare is the share of one CPU below which a process that does not answer counts as idle. A thread that waits
	// for Python's GIL wakes 200 times a second, which takes up to one percent.
	idleShare = 0.02
)

// stallDetector decides from pings, pongs and CPU samples whether a process is stalled. It belongs to the event loop
// and reads no clock of its own.
type stallDetector struct {
	threshold time.Duration
	interval  time.Duration
	async     bool

	seq     int64
	sent    time.Time // when the outstanding ping was sent
	waiting bool      // a ping is outstanding
	next    time.Time // when the next ping is due
	lag     time.Duration
	samples []cpuSample // the last threshold, oldest first
}

type cpuSample struct {
	at  time.Time
	cpu time.Duration
}

func newStallDetector(threshold time.Duration, async bool, now time.Time) *stallDetector {
	return &stallDetector{threshold: threshold, interval: min(maxPingInterval, threshold/5), async: async, next: now}
}

// ping returns the number of the ping to send now, if one is due. At most one is outstanding, so a process that does
// not read does not collect them.
func (d *stallDetector) ping(now time.Time) (int64, bool) {
	if d.waiting || now.Before(d.next) {
		return 0, false
	}
	d.seq++
	d.waiting, d.sent, d.next = true, now, now.Add(d.interval)
	return d.seq, true
}

// pong takes an answer; one to another ping than the outstanding says nothing.
func (d *stallDetector) pong(n int64, lag time.Duration) bool {
	if !d.waiting || n != d.seq {
		return false
	}
	d.waiting = false
	d.lag = lag
	return true
}

// sample records the CPU time that the process has used so far.
func (d *stallDetector) sample(now time.Time, cpu time.Duration) {
	d.samples = append(d.samples, cpuSample{now, cpu})
	// Keep one sample that is at least a threshold old.
	for len(d.samples) > 1 && now.Sub(d.samples[1].at) >= d.threshold {
		d.samples = d.samples[1:]
	}
}

// skip leaves a gap out of the measurement: for this long the worker itself did not run, and the process may have
// answered.
func (d *stallDetector) skip(gap time.Duration) {
	d.sent = d.sent.Add(gap)
	d.samples = nil
}

// idle reports whether the process used (almost) no CPU time over a whole threshold; false when that is not known.
func (d *stallDetector) idle(now time.Time) bool {
	if len(d.samples) < 2 {
		return false
	}
	first, last := d.samples[0], d.samples[len(d.samples)-1]
	window := last.at.Sub(first.at)
	// A sample that is due but missing must not shorten the window.
	if window < d.threshold-d.threshold/10 || now.Sub(last.at) > d.threshold {
		return false
	}
	return float64(last.cpu-first.cpu) <= max(idleShare*float64(window), float64(10*time.Millisecond))
}

// check returns why the process is stalled now (empty: it is not), and the lag to show.
func (d *stallDetector) check(now time.Time) (stalled string, lag time.Duration) {
	lag = d.lag
	var silence time.Duration
	if d.waiting {
		silence = now.Sub(d.sent)
	}
	if silence > d.interval {
		lag = max(lag, silence)
	}
	switch {
	case d.async && d.lag > d.threshold:
		return fmt.Sprintf("the event loop is blocked: %.1f s behind, threshold %v", d.lag.Seconds(), d.threshold), lag
	case silence > d.threshold && d.idle(now):
		return fmt.Sprintf("no answer to a ping for %.1f s and no CPU time used, threshold %v", silence.Seconds(), d.threshold), lag
	}
	return "", lag
}
