package supervisor

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"
)

// owner is the goroutine that owns the state. All fields are its own.
type owner struct {
	s   *Supervisor
	o   Options
	log *slog.Logger

	m       machine
	guard   *guardian
	breaker breaker
	timer   *time.Timer // fires alarm
	alarm   func()      // nil: not set

	child   *child // nil: no process
	last    *child // the present process or the last one
	ready   bool   // child has sent its ready line
	dead    bool   // child is dead and not cleared up yet
	end     *end   // child is being ended, or has ended; nil: it has not
	plan    *plan  // a planned replacement is under way, until the new process is ready
	pulse   *pulse // nil: child is not pinged
	stalled string // why child is stalled; empty: it is not
	since   time.Time

	waiting []chan error // callers of Restart
	again   string       // start another process after the present end, for this cause

	drain    bool
	stop     bool
	finished bool
	fatal    error // what Run returns

	crashes, restarts int
	lag               time.Duration
	gc                []GCStats
	lastTick          time.Time
	lastMemory        time.Time
	lastAnswered      int64
}

// end says why a process is being ended, or what its unasked end means.
type end struct {
	kind     endKind
	cause    string // of the crash or the replacement
	evidence string // of the crash
	soft     bool   // a crash whose cause is the exit itself, unless the process had to be killed
}

type endKind int

const (
	endCrash endKind = iota
	endReplace
	endStop
)

// plan is a replacement that was asked for.
type plan struct {
	cause   string
	healthy bool // the process was answering when it began: nobody has to worry
}

const (
	minTick = 20 * time.Millisecond
	maxTick = 250 * time.Millisecond
	// exitGrace is how long a process that closed a pipe has to exit by itself.
	exitGrace = time.Second
	// memoryEvery is how often memory is looked at when no task has finished.
	memoryEvery = 2 * time.Second
)

func newOwner(s *Supervisor) *owner {
	o := &owner{s: s, o: s.opts, log: s.opts.Logger, m: newMachine(time.Now()), breaker: breaker{policy: s.opts.Restart}}
	o.guard = newGuardian(o.o.Guardian, o.log)
	o.timer = time.NewTimer(time.Hour)
	o.timer.Stop()
	return o
}

// run is the whole life: it starts the process and handles one event after
// the other until the process is gone for good.
func (o *owner) run(ctx context.Context) error {
	period := min(max(o.o.BlockThreshold/20, minTick), maxTick)
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	defer o.timer.Stop()
	defer o.guard.dismiss()

	o.lastTick = time.Now()
	o.guard.ensure(o.lastTick)
	o.s.gate.set(nil, false, "the Python process is starting")
	o.spawn("")
	cancelled, killing, stopping, draining := ctx.Done(), o.s.killing, o.s.stopping, o.s.draining
	for {
		now := time.Now()
		o.s.tick.Store(now.UnixNano())
		o.publish()
		if o.finished {
			return o.fatal
		}
		select {
		case <-cancelled:
			cancelled = nil
			o.killNow("the worker is stopping at once")
		case <-killing:
			killing = nil
			o.killNow("the time to stop has run out")
		case <-stopping:
			stopping = nil
			o.beginStop()
		case <-draining:
			draining = nil
			o.beginDrain("draining")
		case r := <-o.s.restarts:
			o.restart(r)
		case ev := <-o.s.events:
			o.handle(ev)
		case <-o.timer.C:
			if f := o.alarm; f != nil {
				o.alarm = nil
				f()
			}
		case <-ticker.C:
			o.turn(time.Now(), period)
		}
	}
}

// to makes a checked step. An illegal one is a bug: it ends Run.
func (o *owner) to(next Status, reason string) {
	from := o.m.status
	if err := o.m.to(next, reason, time.Now()); err != nil {
		if o.fatal == nil {
			o.fatal = err
		}
		o.killNow("internal error")
		return
	}
	reason, _, _ = strings.Cut(reason, lastLines) // which are logged already
	level := slog.LevelInfo
	if next == StatusStalled || next == StatusCrashed || next == StatusDegraded {
		level = slog.LevelWarn
	}
	o.log.Log(context.Background(), level, "Python process: "+string(next),
		slog.String("from", string(from)), slog.String("reason", reason), slog.Int("python_pid", o.pid()))
}

func (o *owner) setAlarm(d time.Duration, f func()) {
	o.alarm = f
	o.timer.Reset(d)
}

func (o *owner) hush() {
	o.alarm = nil
	o.timer.Stop()
}

func (o *owner) pid() int {
	if o.child == nil || o.dead {
		return 0
	}
	return o.child.python()
}

// healthy is the one truth that everything else reads.
func (o *owner) healthy() bool {
	if o.stalled != "" {
		return false
	}
	switch o.m.status {
	case StatusRunning:
		return true
	case StatusDraining:
		return o.ready && !o.dead && (o.end == nil || o.end.kind != endCrash)
	case StatusRestarting:
		return o.plan != nil && o.plan.healthy
	}
	return false
}

func (o *owner) publish() {
	p := &published{Snapshot: Snapshot{
		Status: o.m.status, Reason: o.m.reason, Since: o.m.since, Healthy: o.healthy(),
		PID: o.pid(), GC: o.gc, Lag: o.lag, Crashes: o.crashes, Restarts: o.restarts,
	}}
	if c := o.last; c != nil {
		p.tail = c.tail
		p.ProcessStarted = c.started
		if h := c.hello.Load(); h != nil {
			p.Protocol, p.Handlers, p.Python = h.protocol, h.handlers, h.python
		}
	}
	o.s.publish(p)
}

// spawn starts a process. cause is empty for the first one.
func (o *owner) spawn(cause string) {
	o.hush()
	o.ready, o.dead, o.end, o.pulse, o.stalled, o.again = false, false, nil, nil, "", ""
	o.lag, o.gc = 0, nil
	if cause != "" {
		o.restarts++
		if f := o.o.Events.Restarted; f != nil {
			f(cause)
		}
	}
	c, err := startChild(o.o, o.guard, o.post)
	if err != nil {
		o.crashed(err.Error())
		o.afterCrash(CauseStartup, err.Error())
		return
	}
	o.child, o.last = c, c
	o.setAlarm(o.o.StartupTimeout, func() {
		o.fail(CauseStartup, "not ready within the startup timeout of "+o.o.StartupTimeout.String())
	})
}

// post brings an event to the owner; it blocks until the owner takes it, or
// there is no owner any more.
func (o *owner) post(ev event) {
	select {
	case o.s.events <- ev:
	case <-o.s.done:
	}
}

// handle takes one event; those of an earlier process are stale.
func (o *owner) handle(ev event) {
	if ev.child != o.child || o.child == nil {
		return
	}
	switch ev.kind {
	case evReady:
		o.onReady(ev.msg)
	case evFailed:
		if o.end == nil {
			o.fail(CauseStartup, "the process could not start: "+ev.msg.err)
		}
	case evPong:
		o.onPong(ev.msg)
	case evEOF:
		o.onClosed(CauseStdoutClosed, "it closed its stdout")
	case evWriteFailed:
		o.onClosed(CauseProtocol, "it closed its stdin")
	case evDied:
		o.dead = true
		o.hush()
		if o.end == nil {
			o.end = &end{kind: endCrash, soft: true}
			o.crashed("the process is gone")
		}
	case evEnded:
		o.onEnded(ev.end)
	case evFull:
		o.startPlan(RestartMaxTasks, 0)
	case evIdle:
		if o.plan != nil && o.end == nil {
			o.endPlanned()
		}
	case evOverdue:
		o.onOverdue(ev.call)
	}
}

func (o *owner) onReady(m message) {
	if o.end != nil {
		return
	}
	o.ready = true
	o.hush()
	o.plan = nil
	o.lastMemory, o.lastAnswered = time.Now(), 0
	if m.protocol >= 2 {
		o.pulse = newPulse(o.o.BlockThreshold, m.handlers == handlersAsync, time.Now())
	}
	if !o.drain {
		o.to(StatusRunning, "ready")
		o.s.gate.set(o.child, false, "")
	}
	o.answer(nil)
}

// onClosed: a process that closes its end of a pipe usually exits, and then
// its exit is the cause; it is not waited for long.
func (o *owner) onClosed(cause, evidence string) {
	if o.end != nil {
		return
	}
	o.end = &end{kind: endCrash, cause: cause, evidence: evidence, soft: true}
	o.crashed(evidence)
	c := o.child
	o.setAlarm(exitGrace, func() {
		o.end.soft = false
		c.kill()
	})
}

// answer tells the callers of Restart how it went.
func (o *owner) answer(err error) {
	if len(o.waiting) > 0 {
		o.publish() // they look at the snapshot next
	}
	for _, w := range o.waiting {
		w <- err
	}
	o.waiting = nil
}

func jitter() float64 { return rand.Float64() }
