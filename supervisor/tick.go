package supervisor

import (
	"fmt"
	"time"

	"github.com/runqy/runqy-worker/internal/pause"
	"github.com/runqy/runqy-worker/supervisor/internal/proc"
	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

const (
	// withdrawAge is how long a request waits in the process before it is asked back, so that another worker may take it.
	withdrawAge = time.Second
	// maxGap between two ticks: after a longer one the worker may have been frozen, and the process with it.
	maxGap = 10 * time.Second
)

// tick checks regularly what sends no event: the guardian, requests that wait or run for too long, stalls and memory.
func (l *loop) tick(now time.Time, period time.Duration) {
	gap, missed := now.Sub(l.lastTick), pause.Between(l.lastTick, now, period)
	l.lastTick = now
	l.guardian.Ensure(now)
	if l.child == nil || !l.ready || l.ending != nil {
		return
	}
	l.child.askBack(now, withdrawAge)
	l.checkOverdue(now)
	if l.replacement != nil && l.serving && l.ending == nil {
		l.watchReplacement()
	}
	if missed > 0 {
		l.skip(missed)
	}
	if l.stalls != nil && l.ending == nil {
		if n, due := l.stalls.ping(now); due {
			l.child.in.Put(wire.EncodePing(n))
		}
		if cpu, ok := proc.CPUTime(l.child.pid()); ok {
			l.stalls.cpu.sample(now, cpu)
		}
		l.checkStall(now)
	}
	l.checkRegularly(now)
	if l.ending == nil {
		if l.idle != nil && gap > maxGap {
			l.idle.cpu.forget()
		}
		l.checkIdle(now, func() (time.Duration, bool) { return proc.CPUTime(l.child.pid()) })
	}
	if l.ending == nil && l.serving {
		l.checkMemory(now)
	}
}

// skip leaves out a time in which the worker itself did not run: the process may have answered.
func (l *loop) skip(gap time.Duration) {
	if l.stalls != nil {
		l.stalls.skip(gap)
	}
	if l.checks != nil {
		l.checks.skip(gap)
	}
}

func (l *loop) onPong(m wire.Message) {
	if l.stalls == nil || l.ending != nil || !l.stalls.pong(m.Pong, m.Lag) {
		return
	}
	if m.MainGone {
		l.fail(CauseProtocol, "its main thread has ended or left run(): it answers and runs no tasks")
		return
	}
	if m.GC != nil {
		l.gc = nil // a new slice: the last one belongs to a published snapshot
		for _, g := range m.GC {
			l.gc = append(l.gc, GCStats(g))
		}
	}
	l.checkStall(time.Now())
}

// checkStall brings what the stall detector finds into the state.
func (l *loop) checkStall(now time.Time) {
	why, lag := l.stalls.check(now)
	l.lag = lag
	was := l.stalled
	l.stalled = why
	switch {
	case was == "" && why != "":
		l.stalledSince = now
		l.settle("")
		l.takeStack("stalled: "+why, func(Stack) {})
	case was != "" && why == "":
		l.settle("answering again")
	}
	if why != "" && l.opts.StallTimeout > 0 && now.Sub(l.stalledSince) >= l.opts.StallTimeout {
		l.failWhere(CauseStalled, fmt.Sprintf("stalled for %v: %s", l.opts.StallTimeout, why), func() bool { return l.stalled != "" })
	}
}
