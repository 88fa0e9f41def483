package supervisor

import (
	"fmt"
	"time"
)

const maxPingInterval = time.Second

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
	cpu     cpuWindow // over the threshold
}

func newStallDetector(threshold time.Duration, async bool, now time.Time) *stallDetector {
	return &stallDetector{threshold: threshold, interval: min(maxPingInterval, threshold/5), async: async, next: now,
		cpu: cpuWindow{span: threshold}}
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

// skip leaves a gap out of the measurement: for this long the worker itself did not run, and the process may have
// answered.
func (d *stallDetector) skip(gap time.Duration) {
	d.sent = d.sent.Add(gap)
	d.cpu.forget()
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
	case silence > d.threshold && d.cpu.idle(now):
		return fmt.Sprintf("no answer to a ping for %.1f s and no CPU time used, threshold %v", silence.Seconds(), d.threshold), lag
	}
	return "", lag
}
