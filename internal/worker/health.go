package worker

import (
	"context"
	"fmt"
	"sync"

	"github.com/runqy/runqy-worker/internal/broadcast"
	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/supervisor"
)

// monitor makes the worker's health of the supervisor's snapshot, of what the work with Redis comes to, and of what is known
// about the database. It is the queue's gate, and announces that something has changed.
type monitor struct {
	supervisor   *supervisor.Supervisor
	dependencies *health.Dependencies
	changed      broadcast.Notifier

	mu       sync.Mutex // guards the rest
	begun    bool       // the supervisor runs: before, its snapshot says nothing
	draining bool
	waitsFor string // why it has not begun
	refused  bool   // Redis did not let it begin at the first try
}

func newMonitor(s *supervisor.Supervisor, d *health.Dependencies) *monitor {
	return &monitor{supervisor: s, dependencies: d, waitsFor: "the worker is starting"}
}

// health is the worker's health without its State. It never blocks.
func (m *monitor) health() status.Health { return m.dependencies.Health(m.process()) }

// process is the health as far as the Python process decides it.
func (m *monitor) process() status.Health {
	m.mu.Lock()
	begun, draining, waitsFor := m.begun, m.draining, m.waitsFor
	m.mu.Unlock()
	if !begun {
		return health.OfProcess(status.Starting, false, status.Reason{Summary: "the Python process has not been started: " + waitsFor})
	}
	snap := m.supervisor.Snapshot()
	return health.OfProcess(workerStatus(snap, draining), snap.Healthy, snap.Reason)
}

// workerStatus maps the supervisor's states to those of the heartbeat. A stalled process is a running one that is not
// healthy; a crashed one is about to become what python.on_crash says, and shows as degraded until then.
func workerStatus(snap supervisor.Snapshot, draining bool) status.Status {
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

// Open implements queue.Gate: a task is taken only while everything is healthy and the process runs, or where only a task
// that is taken would show that it is.
func (m *monitor) Open() bool { return m.dependencies.Open(m.process()) }

// Changed implements queue.Gate. The channel is closed when the health next changes; take it before reading the health.
func (m *monitor) Changed() <-chan struct{} { return m.changed.Next() }

// waiting says why the worker has not begun.
func (m *monitor) waiting(what string, err error) {
	m.set(func() { m.waitsFor, m.refused = fmt.Sprintf("%s (%v)", what, err), true })
}

// held reports whether the worker has not begun because Redis does not let it.
func (m *monitor) held() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refused && !m.begun
}

// begin says that the supervisor runs.
func (m *monitor) begin() { m.set(func() { m.begun = true }) }

// drain says that no task is taken any more.
func (m *monitor) drain() { m.set(func() { m.draining = true }) }

// set makes a change and announces it.
func (m *monitor) set(change func()) {
	m.mu.Lock()
	change()
	m.mu.Unlock()
	m.changed.Notify()
}

// run passes changes of the supervisor and of the dependencies on until ctx is over, and calls notify after each, as
// after those of its own.
func (m *monitor) run(ctx context.Context, notify func()) error {
	process, dependencies, own := m.supervisor.Changed(), m.dependencies.Changed(), m.Changed()
	for {
		select {
		case <-process:
			process = m.supervisor.Changed()
			m.changed.Notify()
		case <-dependencies:
			dependencies = m.dependencies.Changed()
			m.changed.Notify()
		case <-own:
		case <-ctx.Done():
			return nil
		}
		own = m.Changed() // before notify reads the health: a change that follows is not missed
		notify()
	}
}
