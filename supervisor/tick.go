package supervisor

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/runqy/runqy-worker/supervisor/internal/proc"
	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

const (
	// memoryInterval is how often memory is checked when no task has finished.
	memoryInterval = 2 * time.Second
	// withdrawAge is how long a request waits in the process before it is asked back, so that another worker may take it.
	withdrawAge = time.Second
	// maxGap between two ticks: after a longer one the worker may have been frozen, and the process with it.
	maxGap = 10 * time.Second
)

// tick checks regularly what sends no event: the guardian, requests that wait or run for too long, stalls and memory.
func (l *loop) tick(now time.Time, period time.Duration) {
	gap := now.Sub(l.lastTick)
	l.lastTick = now
	l.guardian.Ensure(now)
	if l.child == nil || !l.ready || l.ending != nil {
		return
	}
	l.child.askBack(now, withdrawAge)
	l.checkOverdue(now)
	if l.stalls != nil && l.ending == nil {
		if gap > 5*period+100*time.Millisecond {
			l.stalls.skip(gap - period)
		}
		if n, due := l.stalls.ping(now); due {
			l.child.in.Put(wire.EncodePing(n))
		}
		if cpu, ok := proc.CPUTime(l.child.pid()); ok {
			l.stalls.cpu.sample(now, cpu)
		}
		l.checkStall(now)
	}
	if l.ending == nil {
		if l.idle != nil && gap > maxGap {
			l.idle.cpu.forget()
		}
		l.checkIdle(now, func() (time.Duration, bool) { return proc.CPUTime(l.child.pid()) })
		l.checkMemory(now)
	}
}

func (l *loop) onPong(m wire.Message) {
	if l.stalls == nil || l.ending != nil || !l.stalls.pong(m.Pong, m.Lag) {
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
		l.beginStall(why)
		l.takeStack("stalled: "+why, func(Stack) {})
	case was != "" && why == "":
		l.endStall()
	}
	if why != "" && l.opts.StallTimeout > 0 && now.Sub(l.stalledSince) >= l.opts.StallTimeout {
		l.failWhere(CauseStalled, fmt.Sprintf("stalled for %v: %s", l.opts.StallTimeout, why), func() bool { return l.stalled != "" })
	}
}

func (l *loop) beginStall(why string) {
	switch l.state.status {
	case StatusRunning:
		l.to(StatusStalled, because(why))
		l.gate.shut("the Python process is stalled: " + why)
	case StatusRestarting:
		l.gate.shut("the Python process is stalled: " + why)
		l.state.setReason(l.state.reason.WithSummary(func(s string) string { return s + "; stalled: " + why }))
	case StatusDraining:
		l.state.setReason(because("draining; stalled: " + why))
	}
}

func (l *loop) endStall() {
	switch l.state.status {
	case StatusStalled:
		l.to(StatusRunning, because("answering again"))
		l.openGate()
	case StatusRestarting:
		l.state.setReason(because("planned replacement: " + l.replacement.cause))
		l.gate.shut(l.state.reason.Summary)
	case StatusDraining:
		l.state.setReason(because("draining"))
	}
}

// checkMemory replaces a process that is larger than MaxMemory. It looks every memoryInterval, and soon after a task
// has finished.
func (l *loop) checkMemory(now time.Time) {
	if l.opts.MaxMemory == 0 || l.replacement != nil || l.draining {
		return
	}
	answered := l.child.requests.answered()
	if answered == l.lastAnswered && now.Sub(l.lastMemoryCheck) < memoryInterval {
		return
	}
	l.lastAnswered, l.lastMemoryCheck = answered, now
	if size, ok := proc.ResidentSize(l.child.pid()); ok && size > l.opts.MaxMemory {
		l.log.Info("replacing python process", slog.String("cause", RestartMaxMemory),
			slog.Int64("resident_bytes", size), slog.Int64("max_memory_bytes", l.opts.MaxMemory))
		l.replace(RestartMaxMemory, 0)
	}
}
