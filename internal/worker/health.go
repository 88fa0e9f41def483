package worker

import (
	"context"
	"fmt"
	"sync"

	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/supervisor"
)

// monitor joins the supervisor's snapshot with what the checker knows of Redis and the database. It is the queue's
// gate, and what tells the heartbeat that something has changed.
type monitor struct {
	supervisor *supervisor.Supervisor
	checker    *health.Checker

	mu       sync.Mutex // guards the rest
	begun    bool       // the supervisor runs: before, its snapshot says nothing
	draining bool
	reason   string // why it has not begun
	refused  bool   // Redis did not let it begin at the first try
	changed  chan struct{}
}

func newMonitor(s *supervisor.Supervisor, c *health.Checker) *monitor {
	return &monitor{supervisor: s, checker: c, reason: "the worker is starting", changed: make(chan struct{})}
}

// process is what is said of the Python process everywhere.
func (s *monitor) process() health.Process {
	s.mu.Lock()
	begun, draining, reason := s.begun, s.draining, s.reason
	s.mu.Unlock()
	if !begun {
		return health.Process{Reason: status.Reason{Summary: "the Python process has not been started: " + reason}, Status: status.Starting}
	}
	snap := s.supervisor.Snapshot()
	p := health.Process{Healthy: snap.Healthy, Status: statusOf(snap, draining)}
	if !p.Healthy {
		p.Reason = snap.Reason
	}
	return p
}

// statusOf maps the supervisor's states to those that the heartbeat has. Stalled and crashed are passing states: the
// one is a running process that is not healthy, the other is on its way to what its policy says.
func statusOf(snap supervisor.Snapshot, draining bool) status.Status {
	switch {
	case draining, snap.Status == supervisor.StatusDraining, snap.Status == supervisor.StatusStopped:
		return status.Draining
	case snap.Status == supervisor.StatusStalled:
		return status.Running
	case snap.Status == supervisor.StatusCrashed:
		return status.Degraded
	}
	return status.Status(snap.Status)
}

// report is the worker's health without the numbers.
func (s *monitor) report() health.Report { return s.checker.Report(s.process()) }

// Open implements queue.Gate: a task is taken only while everything is well and the process is there.
func (s *monitor) Open() bool { return s.report().Ready() }

// Changed implements queue.Gate.
func (s *monitor) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// waiting says why the worker has not begun.
func (s *monitor) waiting(what string, err error) {
	s.set(func() { s.reason, s.refused = fmt.Sprintf("%s (%v)", what, err), true })
}

// held tells whether the worker has not begun because Redis does not let it.
func (s *monitor) held() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused && !s.begun
}

// begin says that the supervisor runs.
func (s *monitor) begin() { s.set(func() { s.begun = true }) }

// drain says that no task is taken any more.
func (s *monitor) drain() { s.set(func() { s.draining = true }) }

// set makes a change, tells whoever waits for one, and returns the channel of the next.
func (s *monitor) set(change func()) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
	return s.changed
}

// run passes changes of the supervisor and the checker on until ctx is over, and calls notify after each.
func (s *monitor) run(ctx context.Context, notify func()) error {
	process, dependencies, own := s.supervisor.Changed(), s.checker.Changed(), s.Changed()
	for {
		// Each channel is replaced before its change is told: a change that follows closes the new one.
		select {
		case <-process:
			process = s.supervisor.Changed()
			own = s.set(func() {})
		case <-dependencies:
			dependencies = s.checker.Changed()
			own = s.set(func() {})
		case <-own:
			own = s.Changed()
		case <-ctx.Done():
			return nil
		}
		notify()
	}
}
