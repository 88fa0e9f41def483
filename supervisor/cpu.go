package supervisor

import "time"

// idleShare is the share of one CPU below which a process counts as idle. A thread that waits for Python's GIL wakes 200
// times a second, which takes up to one percent.
const idleShare = 0.02

// cpuWindow has the CPU time that a process has used over a span of time. It reads no clock of its own.
type cpuWindow struct {
	span    time.Duration
	samples []cpuSample // the last span, oldest first
}

type cpuSample struct {
	at  time.Time
	cpu time.Duration
}

// sample records the CPU time that the process has used so far.
func (w *cpuWindow) sample(now time.Time, cpu time.Duration) {
	w.samples = append(w.samples, cpuSample{now, cpu})
	// Keep one sample that is at least a span old.
	for len(w.samples) > 1 && now.Sub(w.samples[1].at) >= w.span {
		w.samples = w.samples[1:]
	}
}

// forget begins anew: the worker itself did not run for a while, and nothing is known of it.
func (w *cpuWindow) forget() { w.samples = nil }

// idle reports whether the process used (almost) no CPU time over the whole span; false when that is not known.
func (w *cpuWindow) idle(now time.Time) bool {
	if len(w.samples) < 2 {
		return false
	}
	first, last := w.samples[0], w.samples[len(w.samples)-1]
	window := last.at.Sub(first.at)
	// A sample that is due but missing must not shorten the window.
	if window < w.span-w.span/10 || now.Sub(last.at) > w.span {
		return false
	}
	return float64(last.cpu-first.cpu) <= max(idleShare*float64(window), float64(10*time.Millisecond))
}
