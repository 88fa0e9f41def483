package supervisor

import (
	"fmt"
	"time"
)

const (
	maxPingInterval = time.Second
	// answersAfterStall is how many pings in a row a process answers before its stall is over. The signal that asks where it
	// hangs can interrupt what it waits in, and let it answer one.
	answersAfterStall = 2
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
	cpu     cpuWindow // over the threshold

	silent string // the last silence that was a stall
	wanted int    // how many answers that one still needs to be over
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
	d.wanted = max(0, d.wanted-1)
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
	idle := d.cpu.idle(now)
	switch {
	case d.async && d.lag > d.threshold:
		return fmt.Sprintf("the event loop is blocked: %.1f s behind, threshold %v", d.lag.Seconds(), d.threshold), lag
	case !idle:
		d.wanted = 0
	case silence > d.threshold:
		d.wanted = answersAfterStall
		d.silent = fmt.Sprintf("no answer to a ping for %.1f s and no CPU time used, threshold %v", silence.Seconds(), d.threshold)
		return d.silent, lag
	case d.wanted > 0:
		return d.silent, lag
	}
	return "", lag
}
