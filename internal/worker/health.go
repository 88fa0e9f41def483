package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/pause"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/supervisor"
)

// monitor judges the worker's health by the supervisor's snapshot, by what the work with Redis comes to, and by what is known
// of the database. Its reporter owns what comes of that; everything that shows the health, and the queue's gate, reads the
// reporter's report.
type monitor struct {
	supervisor   *supervisor.Supervisor
	dependencies *health.Dependencies
	reporter     *health.Reporter
	loop         *loopWatch // of the supervisor; only judge uses it

	mu       sync.Mutex // guards the rest
	begun    bool       // the supervisor runs: before, its snapshot says nothing
	draining bool
	waitsFor string // why it has not begun
	refused  bool   // Redis did not let it begin at the first try
}

func newMonitor(s *supervisor.Supervisor, d *health.Dependencies, pauses *pause.Watch) *monitor {
	m := &monitor{supervisor: s, dependencies: d, loop: &loopWatch{pauses: pauses}, waitsFor: "the worker is starting"}
	m.reporter = health.NewReporter(m.judge)
	return m
}

// report is the worker's health without its State. It never blocks.
func (m *monitor) report() status.Report { return m.reporter.Report() }

// judge is called by the reporter alone.
func (m *monitor) judge() status.Health { return m.dependencies.Health(m.process()) }

// process is the health as far as the Python process decides it; for judge alone.
func (m *monitor) process() status.Health {
	m.mu.Lock()
	begun, draining, waitsFor := m.begun, m.draining, m.waitsFor
	m.mu.Unlock()
	if !begun {
		return health.OfProcess(status.Starting, false, status.Reason{Summary: "the Python process has not been started: " + waitsFor})
	}
	snap := m.supervisor.Snapshot()
	h := health.OfProcess(workerStatus(snap, draining), snap.Healthy, snap.Reason)
	h.Stalled = snap.Status == supervisor.StatusStalled
	if m.loop.standsStill(time.Now(), snap) {
		h = health.StoodStill(h, "The supervisor's loop", snap.LoopTick)
	}
	return h
}

// loopLimit is how long the supervisor's event loop may stand still before nothing is known of the Python process.
const loopLimit = 2*supervisor.MaxTick + 2*time.Second

// loopWatch measures for how long the supervisor's event loop has been seen to stand still. A pause of the whole program
// is no part of that: the loop could not turn in it.
type loopWatch struct {
	pauses *pause.Watch
	tick   time.Time // the loop's, last
	turned time.Time // when that was new
}

// standsStill takes one look.
func (l *loopWatch) standsStill(now time.Time, snap supervisor.Snapshot) bool {
	if !snap.LoopTick.Equal(l.tick) || l.turned.IsZero() || snap.Status == supervisor.StatusStopped { // which has no loop
		l.tick, l.turned = snap.LoopTick, now
	}
	return l.pauses.Running(l.turned, now) > loopLimit
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
func (m *monitor) Open() bool {
	r := m.report()
	return r.Ready() || r.Probed
}

// Changed implements queue.Gate. The channel is closed when there is a report of another number; take it before reading
// the report.
func (m *monitor) Changed() <-chan struct{} { return m.reporter.Changed() }

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

// set makes a change, which the reporter soon reports.
func (m *monitor) set(change func()) {
	m.mu.Lock()
	change()
	m.mu.Unlock()
	m.reporter.Wake()
}

// run makes the reports until ctx is over, and calls announce after each new one.
func (m *monitor) run(ctx context.Context, announce func()) error {
	return m.reporter.Run(ctx, announce, m.supervisor.Changed, m.dependencies.Changed)
}
