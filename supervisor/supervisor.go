package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Snapshot is what is known about the process at one moment.
type Snapshot struct {
	Status Status
	Reason string    // why it is in this state; after a crash the stderr tail follows the first line
	Since  time.Time // when it came into it
	// Healthy: the process is running and answering, or is being replaced as
	// planned. False while it is stalled.
	Healthy bool

	PID            int       // the process that the ready line names, else the one that was started; 0: none
	ProcessStarted time.Time // of the present process, or the last
	Protocol       int       // 0 before the first ready line
	Handlers       string    // "sync" (also for protocol 1) or "async"; empty before the first ready line
	Python         PythonInfo
	GC             []GCStats

	Lag      time.Duration // the loop's lag, or how long a ping has been unanswered
	Crashes  int           // since New
	Restarts int           // since New
	Stderr   []string      // the last lines of stderr and log of the present process, or the last; at most 20, 4 KiB
	InFlight int           // requests given and not answered

	// LoopTick is when the owner loop last turned. While Run runs it turns at
	// least every second.
	LoopTick time.Time
}

// Supervisor runs one Python process. All methods may be called from any
// goroutine. Run must be called exactly once.
type Supervisor struct {
	opts  Options
	gate  *gate
	slots chan struct{} // one element per request with the process

	inFlight atomic.Int64
	tick     atomic.Int64 // LoopTick, Unix nanoseconds
	base     atomic.Pointer[published]

	changedMu sync.Mutex // guards changed
	changed   chan struct{}

	events   chan event
	restarts chan restart
	draining chan struct{} // closed by Drain
	stopping chan struct{} // closed by Stop
	killing  chan struct{} // closed when Stop has lost its patience
	done     chan struct{} // closed when Run has returned, or Stop came before it

	drainOnce, stopOnce, killOnce sync.Once

	startMu sync.Mutex // guards started and stopped
	started bool
	stopped bool
}

// published is a Snapshot without what changes too often.
type published struct {
	Snapshot
	tail *tail
}

type restart struct {
	cause string
	done  chan error // capacity 1
}

// New checks the options. It starts nothing.
func New(o Options) (*Supervisor, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("supervisor options: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Supervisor{
		opts:     o,
		gate:     newGate("the Python process has not been started"),
		slots:    make(chan struct{}, o.Concurrency),
		changed:  make(chan struct{}),
		events:   make(chan event),
		restarts: make(chan restart),
		draining: make(chan struct{}),
		stopping: make(chan struct{}),
		killing:  make(chan struct{}),
		done:     make(chan struct{}),
	}
	now := time.Now()
	s.tick.Store(now.UnixNano())
	m := newMachine(now)
	s.base.Store(&published{Snapshot: Snapshot{Status: m.status, Reason: m.reason, Since: now}})
	return s, nil
}

// Run starts the process and supervises it until Stop, the end of ctx (which
// kills the process at once), or a crash under PolicyExit. When it returns,
// the process, its group and all goroutines are gone. The error is nil when
// the end was asked for, and wraps ErrCrashed under PolicyExit.
func (s *Supervisor) Run(ctx context.Context) error {
	s.startMu.Lock()
	if s.started {
		s.startMu.Unlock()
		return errors.New("supervisor: Run was called twice")
	}
	s.started = true
	stopped := s.stopped
	s.startMu.Unlock()
	if stopped {
		return nil // Stop came first and has closed done
	}
	defer close(s.done)
	return newOwner(s).run(ctx)
}

// Snapshot is cheap.
func (s *Supervisor) Snapshot() Snapshot {
	b := s.base.Load()
	snap := b.Snapshot
	if b.tail != nil {
		snap.Stderr = b.tail.last()
	}
	snap.InFlight = int(s.inFlight.Load())
	snap.LoopTick = time.Unix(0, s.tick.Load())
	return snap
}

// Changed returns a channel that is closed at the next change of status,
// health, reason or pid. Take it before the Snapshot that it is to follow.
func (s *Supervisor) Changed() <-chan struct{} {
	s.changedMu.Lock()
	defer s.changedMu.Unlock()
	return s.changed
}

// publish makes a snapshot visible and wakes those who wait for a change.
func (s *Supervisor) publish(p *published) {
	old := s.base.Swap(p)
	if old.Status == p.Status && old.Healthy == p.Healthy && old.Reason == p.Reason && old.PID == p.PID {
		return
	}
	s.changedMu.Lock()
	defer s.changedMu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Restart replaces the process, or starts one when there is none, and waits
// until the new one is ready. A running process is let finish its requests
// for up to StopTimeout; those it has not answered then are returned as
// ErrNotRun. The breaker forgets earlier crashes. cause is what
// Events.Restarted reports, usually RestartManual.
//
// Errors: ErrNoRestart while draining or stopped; an error wrapping
// ErrCrashed when the new process did not become ready; ctx's.
func (s *Supervisor) Restart(ctx context.Context, cause string) error {
	r := restart{cause: cause, done: make(chan error, 1)}
	select {
	case s.restarts <- r:
	case <-s.done:
		return fmt.Errorf("%w: the supervisor has stopped", ErrNoRestart)
	case <-ctx.Done():
		return fmt.Errorf("restart the Python process: %w", context.Cause(ctx))
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("restart the Python process: %w", context.Cause(ctx))
	}
}

// Drain refuses new requests from now on; those in flight go on. It returns at
// once and cannot be undone.
func (s *Supervisor) Drain() { s.drainOnce.Do(func() { close(s.draining) }) }

// killPatience is how long Stop waits after SIGKILL: only a process that
// hangs in the kernel takes longer.
const killPatience = 10 * time.Second

// Stop ends the process: its stdin is closed, which asks it to finish what it
// has read; after half of StopTimeout its group gets SIGTERM, after the other
// half SIGKILL. The end of ctx means SIGKILL now. When Stop returns nil, the
// process and its group are dead and Run has returned. It may be called more
// than once, and before Run, which then starts nothing. Requests that are
// still unanswered get ErrStopped.
func (s *Supervisor) Stop(ctx context.Context) error {
	s.startMu.Lock()
	if !s.started && !s.stopped {
		s.gate.set(nil, false, "the supervisor has stopped")
		close(s.done)
	}
	s.stopped = true
	s.startMu.Unlock()
	s.stopOnce.Do(func() { close(s.stopping) })
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	s.killOnce.Do(func() { close(s.killing) })
	patience := time.NewTimer(killPatience)
	defer patience.Stop()
	select {
	case <-s.done:
		return nil
	case <-patience.C:
		return fmt.Errorf("the Python process (pid %d) did not die within %v of SIGKILL", s.Snapshot().PID, killPatience)
	}
}
