package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/supervisor/internal/proc"
	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

// MaxTick is the longest time between two passes of the event loop.
const MaxTick = 250 * time.Millisecond

const (
	minTick = 20 * time.Millisecond
	// pipeGrace is how long a process that closed a pipe may take to be dead before that is told as what happened.
	pipeGrace = 50 * time.Millisecond
	// exitTimeout is how long such a process has to exit by itself after that.
	exitTimeout = time.Second
)

// loop is the event loop: one goroutine owns the state and handles one event after the other. All fields are its own.
type loop struct {
	opts      Options
	log       *slog.Logger
	gate      *gate
	snapshots *publisher
	mailbox   *mailbox

	state    machine
	guardian *proc.Guardian
	breaker  breaker
	timer    *time.Timer
	timeout  timeout // what timer is set for

	child        *child // nil: no process
	last         *child // the present process or the last one
	ready        bool   // child has sent its ready message
	serving      bool   // and may have requests: it has answered its first check, or is not checked
	dead         bool   // child is dead and not reaped yet
	startErr     error  // the process could not be started; nil: it could, or that is handled
	ending       *ending
	replacement  *replacement
	stalls       *stallDetector // nil: child is not pinged
	stalled      string         // why child is stalled; empty: it is not
	stalledSince time.Time
	checks       *checks // nil: child does not say whether it can do its work
	recycling    recycling
	idle         *idleWatch           // nil: tasks are not marked
	idleTasks    map[string]time.Time // the marked ones, with since when; nil: not known

	stack       *Stack        // the last that the loop has asked for; nil: none, of the present process or the last
	afterStack  []func(Stack) // what the loop does when it has the stack that it waits for; empty: it waits for none
	stackReason string        // why it has asked
	failing     bool          // failWhere waits for one
	killAt      time.Time     // when the process is killed that was asked to end

	waiting      []chan error  // callers of Restart
	restartCause string        // start another process after the present end, for this cause; empty: do not
	crashReason  status.Reason // of the last crash

	draining bool
	stopping bool
	finished bool
	illegal  error // a transition that the state diagram does not have
	fatal    error // what Run returns

	crashes, restarts int
	lag               time.Duration
	gc                []GCStats
	lastTick          time.Time
}

// ending says why a process is being ended, or what its end means that nobody asked for.
type ending struct {
	kind     endKind
	cause    string // of the crash or the replacement
	evidence string // of the crash, or the breakage that the replacement is for
	byExit   bool   // a crash whose cause is the exit itself, unless the process had to be killed
	held     bool   // the crash is not shown yet
	named    bool   // evidence was shown before the exit, and stays
	stack    *Stack // where the process was before; nil: it was not asked
}

type endKind int

const (
	endCrash endKind = iota
	endReplace
	endStop
)

// replacement is under way, until the new process is ready.
type replacement struct {
	cause    string
	healthy  bool   // the process could do its work when it began, so nobody has to be woken up
	breakage string // why it could not; empty: the replacement is planned

	limit    time.Duration // how long it waits for running requests; 0: until they end
	until    time.Time     // when that is over
	waitsFor int           // how many run
}

func newLoop(o Options, g *gate, p *publisher, m *mailbox) *loop {
	l := &loop{opts: o, log: ownLogger(o.Logger), gate: g, snapshots: p, mailbox: m}
	l.state = newMachine(time.Now())
	l.breaker = breaker{policy: o.Restart}
	if o.OnCrash == PolicyDegrade {
		l.breaker.policy.Max = min(1, o.Restart.Max) // of replacements for a breakage: a crash is not followed by a start
	}
	l.recycling = newRecycling(o)
	l.guardian = proc.NewGuardian(o.Guardian, l.log)
	l.timer = time.NewTimer(time.Hour)
	l.timer.Stop()
	return l
}

// run is the whole life: it starts the process and handles events until the process is gone for good.
func (l *loop) run(ctx context.Context) error {
	period := min(max(l.opts.BlockThreshold/20, minTick), MaxTick)
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	defer l.timer.Stop()
	defer l.guardian.Stop()

	l.lastTick = time.Now()
	l.guardian.Ensure(l.lastTick)
	l.gate.shut("the Python process is starting")
	l.start("")
	cancelled, killing, stopping, draining := ctx.Done(), l.mailbox.killing, l.mailbox.stopping, l.mailbox.draining
	for {
		l.endOnIllegalTransition()
		l.snapshots.tick.Store(time.Now().UnixNano())
		l.publish()
		if l.finished {
			return l.fatal
		}
		select {
		case <-cancelled:
			cancelled = nil
			l.beginKill("the worker is stopping at once")
		case <-killing:
			killing = nil
			l.beginKill("the time to stop has run out")
		case <-stopping:
			stopping = nil
			l.beginStop()
		case <-draining:
			draining = nil
			l.beginDrain("draining")
		case r := <-l.mailbox.restarts:
			l.restart(r)
		case e := <-l.mailbox.events:
			l.handle(e)
		case <-l.mailbox.full.C():
			if l.child != nil && l.child.requests.isFull() {
				l.replace(RestartMaxTasks, l.opts.ReplaceTimeout)
			}
		case <-l.timer.C:
			l.onTimeout()
		case <-ticker.C:
			l.tick(time.Now(), period)
		}
	}
}

// endOnIllegalTransition kills the process and ends Run after a transition that the state diagram does not have: that
// is a bug.
func (l *loop) endOnIllegalTransition() {
	if l.illegal != nil && l.fatal == nil {
		l.fatal = l.illegal
		l.beginKill("internal error")
	}
}

// handle takes one event; those of an earlier process are stale.
func (l *loop) handle(e event) {
	if e.child != l.child || l.child == nil {
		return
	}
	switch e.kind {
	case eventReady:
		l.onReady(e.message.Ready)
	case eventStartFailed:
		if l.ending == nil {
			l.fail(CauseStartup, "the process could not start: "+e.message.Error)
		}
	case eventPong:
		l.onPong(e.message)
	case eventChecked:
		l.onChecked(e.message)
	case eventQuiet:
		l.onQuiet()
	case eventBroken:
		l.onBroken(e.breakage)
	case eventStdoutClosed:
		l.onPipeClosed(CauseStdoutClosed, "it closed its stdout, the descriptor that carries its answers")
	case eventStdinClosed:
		l.onPipeClosed(CauseProtocol, "it closed its stdin, the descriptor that carries its tasks")
	case eventStack:
		l.onStack(e.stack)
	case eventDied:
		l.onDied(e.exit)
	case eventEnded:
		l.onEnded(e.exit)
	case eventIdle:
		if l.replacement != nil && l.ending == nil {
			l.endForReplacement()
		}
	}
}

// onTimeout does what the timer was set for.
func (l *loop) onTimeout() {
	expired := l.timeout
	l.timeout = timeoutNone
	switch expired {
	case timeoutNone:
	case timeoutStart:
		l.onStartError()
	case timeoutReady:
		l.failWhere(CauseStartup, fmt.Sprintf("not ready within %v (python.startup_timeout)", l.opts.StartupTimeout),
			func() bool { return !l.ready })
	case timeoutPipe:
		l.onPipeGrace()
	case timeoutExit:
		l.ending.byExit = false
		l.child.process.Kill()
	case timeoutReplace:
		l.log.Warn("replacement did not wait longer", slog.String("cause", l.replacement.cause),
			slog.Int("tasks", l.replacement.waitsFor))
		l.endForReplacement()
	case timeoutTerminate:
		l.terminateWhere()
	case timeoutKill:
		l.child.process.Kill()
	case timeoutBackoff:
		l.state.setReason(prefixed("starting again; ", l.crashReason))
		l.start(RestartCrash)
	}
}

// onEnded: the process is reaped and read to the end.
func (l *loop) onEnded(x exit) {
	c, e := l.child, l.ending
	l.child, l.afterStack, l.failing = nil, nil, false
	l.gate.process.Store(nil)
	l.stopTimer()
	switch {
	case e.kind == endStop, l.stopping && e.kind == endReplace:
		for _, e := range c.requests.takeAll() {
			c.requests.end(e, outcome{err: ErrStopped})
		}
		l.finish(because("stopped: " + x.text))
	case e.kind == endReplace:
		l.onReplaced(c, e)
	default:
		l.onCrashed(c, e, x)
	}
}

// onReady: the process has sent its ready message. It gets requests when it has answered its first check.
func (l *loop) onReady(r wire.Ready) {
	if l.ending != nil {
		return
	}
	l.ready = true
	l.stopTimer()
	l.idle = newIdleWatch(l.opts.IdleWarning)
	if r.Protocol >= 2 {
		l.stalls = newStallDetector(l.opts.BlockThreshold, r.Handlers == wire.Async, time.Now())
	}
	if r.Protocol >= 2 && r.Has(wire.FeatureCheck) && l.opts.CheckInterval > 0 && !l.draining {
		l.checks = newChecks(l.opts)
		if l.ask(time.Now()) {
			return
		}
	}
	l.serve()
}

// serve gives the process requests from now on, unless its first check has failed.
func (l *loop) serve() {
	l.serving = true
	l.replacement = nil
	l.recycling.begin(l.child.pid())
	if !l.draining {
		l.to(StatusRunning, because("ready"))
		l.settle("")
	}
	if failing := l.failingCheck(); failing != "" {
		l.answerRestarts(fmt.Errorf("%w: %s", ErrCheck, firstLine(failing)))
		return
	}
	l.answerRestarts(nil)
}

// openGate lets requests through to the process, and says so.
func (l *loop) openGate() {
	l.gate.open(l.child)
	l.roomChanged()
}

// roomChanged says that requests may be submitted again.
func (l *loop) roomChanged() {
	l.publish() // who is told may read the snapshot
	if f := l.opts.Events.RoomChanged; f != nil {
		f()
	}
}
