package supervisor

import (
	"fmt"
	"time"
)

// turn is the owner's regular look at everything that sends no event.
func (o *owner) turn(now time.Time, period time.Duration) {
	gap := now.Sub(o.lastTick)
	o.lastTick = now
	o.guard.ensure(now)
	if o.child == nil || !o.ready || o.end != nil {
		return
	}
	if o.pulse != nil {
		if gap > 5*period+100*time.Millisecond {
			o.pulse.forgive(gap - period)
		}
		if n, due := o.pulse.ping(now); due {
			o.child.in.put(encodePing(n))
		}
		if cpu, ok := cpuTime(o.child.python()); ok {
			o.pulse.sample(now, cpu)
		}
		o.judge(now)
	}
	if o.end == nil {
		o.weigh(now)
	}
}

func (o *owner) onPong(m message) {
	if o.pulse == nil || o.end != nil || !o.pulse.pong(m.pong, m.lag) {
		return
	}
	if m.gc != nil {
		o.gc = m.gc
	}
	o.judge(time.Now())
}

// judge brings the pulse's verdict into the state.
func (o *owner) judge(now time.Time) {
	why, lag := o.pulse.verdict(now)
	o.lag = lag
	was := o.stalled
	o.stalled = why
	switch {
	case was == "" && why != "":
		o.since = now
		switch o.m.status {
		case StatusRunning:
			o.to(StatusStalled, why)
			o.s.gate.set(nil, false, "the Python process is stalled: "+why)
		case StatusRestarting:
			o.s.gate.set(nil, false, "the Python process is stalled: "+why)
			o.m.note(o.m.reason + "; stalled: " + why)
		case StatusDraining:
			o.m.note("draining; stalled: " + why)
		}
	case was != "" && why == "":
		switch o.m.status {
		case StatusStalled:
			o.to(StatusRunning, "answering again")
			o.s.gate.set(o.child, false, "")
		case StatusRestarting:
			o.m.note("planned replacement: " + o.plan.cause)
			o.s.gate.set(nil, o.plan.healthy, o.m.reason)
		case StatusDraining:
			o.m.note("draining")
		}
	}
	if why != "" && o.o.StallTimeout > 0 && now.Sub(o.since) >= o.o.StallTimeout {
		o.fail(CauseStalled, fmt.Sprintf("stalled for %v: %s", o.o.StallTimeout, why))
	}
}

// weigh looks at the process' memory: every memoryEvery, and soon after a
// task has finished.
func (o *owner) weigh(now time.Time) {
	if o.o.MaxMemory == 0 || o.plan != nil || o.drain {
		return
	}
	answered := o.child.ledger.answered()
	if answered == o.lastAnswered && now.Sub(o.lastMemory) < memoryEvery {
		return
	}
	o.lastAnswered, o.lastMemory = answered, now
	if size, ok := residentSize(o.child.python()); ok && size > o.o.MaxMemory {
		o.log.Info("the Python process has outgrown max_memory and will be replaced",
			"resident_bytes", size, "max_memory_bytes", o.o.MaxMemory)
		o.startPlan(RestartMaxMemory, 0)
	}
}
