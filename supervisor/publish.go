package supervisor

import (
	"context"
	"log/slog"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// to makes a checked step. An illegal one is a bug: it ends Run.
func (l *loop) to(next Status, reason status.Reason) {
	from := l.state.status
	if err := l.state.to(next, reason, time.Now()); err != nil {
		if l.illegal == nil {
			l.illegal = err
		}
		return
	}
	level := slog.LevelInfo
	if next == StatusStalled || next == StatusCrashed || next == StatusDegraded {
		level = slog.LevelWarn
	}
	l.log.LogAttrs(context.Background(), level, "python process state changed", slog.String("from", string(from)),
		slog.String("to", string(next)), slog.String("reason", reason.Summary), slog.Int("python_pid", l.pid()))
}

func (l *loop) pid() int {
	if l.child == nil || l.dead {
		return 0
	}
	return l.child.pid()
}

// healthy is what Snapshot.Healthy says.
func (l *loop) healthy() bool {
	if l.stalled != "" || l.failingCheck() != "" {
		return false
	}
	switch l.state.status {
	case StatusRunning:
		return true
	case StatusDraining:
		return l.serving && !l.dead && (l.ending == nil || l.ending.held || l.ending.kind != endCrash)
	case StatusRestarting:
		return l.replacement != nil && l.replacement.healthy
	}
	return false
}

// publish makes the state visible.
func (l *loop) publish() {
	p := &published{Snapshot: Snapshot{
		Status: l.state.status, Reason: l.state.reason, Since: l.state.since, Healthy: l.healthy(),
		PID: l.pid(), GC: l.gc, Lag: l.lag, Crashes: l.crashes, Restarts: l.restarts, Stack: l.stack, Idle: l.idleTasks,
		RecyclingSuspended: l.recycling.suspended,
	}}
	if c := l.last; c != nil {
		p.tail = c.tail
		p.ProcessStarted = c.process.Started
		if r := c.ready.Load(); r != nil {
			p.Protocol, p.Handlers, p.Types, p.Python = r.Protocol, string(r.Handlers), r.Types, PythonInfo(r.Python)
		}
	}
	l.snapshots.publish(p)
}

// answerRestarts tells the callers of Restart how it went.
func (l *loop) answerRestarts(err error) {
	if len(l.waiting) > 0 {
		l.publish() // they read the snapshot next
	}
	for _, w := range l.waiting {
		w <- err
	}
	l.waiting = nil
}
