package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/supervisor/internal/proc"
)

// killTimeout is how long Stop waits after SIGKILL: only a process that hangs in the kernel takes longer.
const killTimeout = 10 * time.Second

// Supervisor runs one Python process. All methods may be called from any goroutine. Run must be called exactly once.
type Supervisor struct {
	opts      Options
	gate      *gate
	snapshots *publisher
	mailbox   *mailbox

	startMu sync.Mutex // guards started and stopped
	started bool
	stopped bool
}

// New checks the options. It starts nothing.
func New(o Options) (*Supervisor, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("supervisor options: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Supervisor{
		opts:      o,
		gate:      newGate("the Python process has not been started"),
		snapshots: newPublisher(time.Now()),
		mailbox:   newMailbox(),
	}, nil
}

// Run starts the process and supervises it until Stop, the end of ctx (which kills the process at once), or a crash
// under PolicyExit. When it returns, the process, its group and all goroutines are gone. The error is nil when the end
// was asked for, and wraps ErrCrashed under PolicyExit.
func (s *Supervisor) Run(ctx context.Context) error {
	s.startMu.Lock()
	if s.started {
		s.startMu.Unlock()
		return errors.New("Run was called twice")
	}
	s.started = true
	stopped := s.stopped
	s.startMu.Unlock()
	if stopped {
		return nil // Stop came first and has closed done
	}
	defer close(s.mailbox.done)
	return newLoop(s.opts, s.gate, s.snapshots, s.mailbox).run(ctx)
}

// Snapshot is cheap and never blocks.
func (s *Supervisor) Snapshot() Snapshot { return s.snapshots.snapshot() }

// Changed returns a channel that is closed at the next change of status, health, reason or pid. Take it before the
// Snapshot that it is to follow.
func (s *Supervisor) Changed() <-chan struct{} { return s.snapshots.changed.Next() }

// Restart replaces the process, or starts one when there is none, and waits until the new one is ready. A running
// process may finish its requests for up to StopTimeout; those that it has not answered then are returned as ErrNotRun.
// Earlier crashes do not count any more for PolicyRestart. cause is what Events.Restarted reports, usually
// RestartManual.
//
// Errors: ErrNoRestart while draining or stopped; an error wrapping ErrCrashed when the new process did not become
// ready; ctx's. It returns no later than ctx's end, and the restart goes on then.
func (s *Supervisor) Restart(ctx context.Context, cause string) error {
	r := restart{cause: cause, done: make(chan error, 1)}
	select {
	case s.mailbox.restarts <- r:
	case <-s.mailbox.done:
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

// Drain refuses new requests from now on; those in flight go on. It returns at once and cannot be undone.
func (s *Supervisor) Drain() { s.mailbox.drain() }

// Stop ends the process: its stdin is closed, which asks it to finish what it has read; after half of StopTimeout its
// group gets SIGTERM, after the other half SIGKILL. The end of ctx means SIGKILL now. When Stop returns nil, the
// process and its group are dead and Run has returned. It may be called more than once, and before Run, which then
// starts nothing. Requests that are still unanswered get ErrStopped. The error says that the process did not die within
// ten seconds of SIGKILL.
func (s *Supervisor) Stop(ctx context.Context) error {
	s.startMu.Lock()
	if !s.started && !s.stopped {
		s.gate.shut("the supervisor has stopped")
		close(s.mailbox.done)
	}
	s.stopped = true
	s.startMu.Unlock()
	s.mailbox.stop()
	select {
	case <-s.mailbox.done:
		return nil
	case <-ctx.Done():
	}
	s.mailbox.kill()
	timeout := time.NewTimer(killTimeout)
	defer timeout.Stop()
	select {
	case <-s.mailbox.done:
		return nil
	case <-timeout.C:
		return fmt.Errorf("the Python process (pid %d) did not die within %v of SIGKILL", s.Snapshot().PID, killTimeout)
	}
}

// RunGuardian is the body of the guardian process, which Options.Guardian starts: it waits until the worker is done, or
// is gone; then it kills every process group that it was told of, and whatever else carries their RUNQY_CHILD_NONCE. It
// ignores SIGINT, SIGTERM and SIGHUP, because it must outlive the worker. It returns an error when it was not started
// by a worker.
func RunGuardian() error { return proc.RunGuardian() }
