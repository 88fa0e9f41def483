package supervisor

import (
	"log/slog"
	"time"
)

const (
	// idleSamples is how many times the CPU time is read within the time after which a task is marked.
	idleSamples = 50
	// maxIdleWarnings bounds the lines that the log gets for tasks that are marked at once.
	maxIdleWarnings = 20
)

// idleWatch finds the tasks that have run for a while without CPU time of their process and without progress. Nothing
// follows but a mark and a warning: a task that waits for a GPU or another service looks the same.
type idleWatch struct {
	after time.Duration
	cpu   cpuWindow
	next  time.Time // when the CPU time is read again
}

// newIdleWatch returns a watch that marks tasks after this long; nil: never.
func newIdleWatch(after time.Duration) *idleWatch {
	if after == 0 {
		return nil
	}
	return &idleWatch{after: after, cpu: cpuWindow{span: after}}
}

// checkIdle marks idle tasks, and those no more that are not.
func (l *loop) checkIdle(now time.Time, readCPU func() (time.Duration, bool)) {
	w := l.idle
	if w == nil || now.Before(w.next) {
		return
	}
	w.next = now.Add(w.after / idleSamples)
	cpu, ok := readCPU()
	if !ok {
		l.idleTasks = nil // not known
		return
	}
	w.cpu.sample(now, cpu)
	all, fresh := l.child.requests.markIdle(now, w.after, w.cpu.idle(now))
	l.idleTasks = all
	if len(fresh) > 0 {
		l.takeStack("a task is idle", func(s Stack) { l.warnOfIdle(fresh, s) })
	}
}

// warnOfIdle logs the tasks that were just marked, with where the process is.
func (l *loop) warnOfIdle(fresh []idleTask, s Stack) {
	for i, t := range fresh {
		if i == maxIdleWarnings {
			l.log.Warn("tasks idle", slog.Int("tasks", len(fresh)-i))
			return
		}
		l.log.Warn("task idle", slog.String("task_id", shortened(t.id)), slog.String("queue", t.queue), slog.String("type", t.taskType),
			slog.Duration("idle", l.idle.after), slog.String("where", s.of(t.id)))
	}
}

// idleTask is a task that is marked.
type idleTask struct{ id, queue, taskType string }

// markIdle marks the tasks that have run for at least after and have reported no progress for as long, while the process
// was idle. It returns all that are marked, with since when each does nothing that is to be seen, and those that were not
// marked before. It takes the lock.
func (t *inFlightTable) markIdle(now time.Time, after time.Duration, idle bool) (all map[string]time.Time, fresh []idleTask) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all = map[string]time.Time{}
	for _, e := range t.entries {
		since := e.began
		if e.progressed.After(since) {
			since = e.progressed
		}
		if !idle || e.turn.IsZero() || now.Sub(since) < after {
			e.idle = time.Time{}
			continue
		}
		if e.idle.IsZero() {
			e.idle = now.Add(-after) // the process may have become idle later than the task began
			fresh = append(fresh, idleTask{e.id, e.queue, e.taskType})
		}
		all[e.id] = e.idle
	}
	return all, fresh
}

// progress notes that a request has reported progress, and returns it; nil: it is not in flight. It takes the lock.
func (t *inFlightTable) progress(id string, now time.Time) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[id]
	if e != nil {
		e.progressed = now
	}
	return e
}
