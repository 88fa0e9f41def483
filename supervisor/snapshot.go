package supervisor

import (
	"sync/atomic"
	"time"

	"github.com/runqy/runqy-worker/internal/broadcast"
	"github.com/runqy/runqy-worker/internal/status"
)

// Snapshot is what is known about the process at one moment. Its slices and its map are shared with other snapshots: do
// not change what they hold.
type Snapshot struct {
	Status Status
	Reason status.Reason // why it is in this state; after a crash with the lines of stderr that are evidence
	Since  time.Time     // when it came into it
	// Healthy: the process is running, answering and passing its own check, or is being replaced as planned.
	Healthy bool

	PID            int       // the process that the ready message names, else the one that was started; 0: none
	ProcessStarted time.Time // of the present process, or the last
	Protocol       int       // 1 or 2; 0 before the first ready message
	Handlers       string    // "sync" (also for protocol 1) or "async"; empty before the first ready message
	// Types are the task types that the process announced, [AnyType] among them, with the kind of handler of each ("sync",
	// "async"); nil: it has announced none.
	Types  map[string]string
	Python PythonInfo
	GC     []GCStats

	Lag      time.Duration // of the event loop, or how long a ping has been unanswered
	Crashes  int           // since New
	Restarts int           // since New
	// RecyclingSuspended says why a process above Options.MaxMemory is not replaced; empty: it would be.
	RecyclingSuspended string
	Stderr             []string // the last lines of stderr and log of the present process, or the last; at most 20, 4 KiB
	Stack              *Stack   // where the present process, or the last, was when it was found hanging; nil: it was not
	// Idle are the ids of the tasks that are marked, each with since when nothing is to be seen of it: neither CPU time of
	// the process nor progress. nil: it is not known, or tasks are not marked.
	Idle     map[string]time.Time
	InFlight int // requests that the process was given and has not answered

	// LoopTick is when the supervisor's event loop last ran. While Run runs that is at least every [MaxTick].
	LoopTick time.Time
}

// PythonInfo is what the process tells about its interpreter; empty if nothing.
type PythonInfo struct {
	Implementation      string
	Version             string
	Major, Minor, Patch int
}

// GCStats are the interpreter's figures for one garbage collector generation.
type GCStats struct {
	Generation                            int
	Collections, Collected, Uncollectable uint64
}

// publisher makes the state visible to other goroutines. Only the event loop publishes.
type publisher struct {
	inFlight atomic.Int64
	tick     atomic.Int64 // LoopTick, Unix nanoseconds
	base     atomic.Pointer[published]
	changed  broadcast.Notifier
}

// published is a Snapshot without what changes too often.
type published struct {
	Snapshot
	tail *outputTail
}

func newPublisher(now time.Time) *publisher {
	p := &publisher{}
	p.tick.Store(now.UnixNano())
	m := newMachine(now)
	p.base.Store(&published{Snapshot: Snapshot{Status: m.status, Reason: m.reason, Since: now}})
	return p
}

// publish makes a snapshot visible and wakes those that wait for a change.
func (p *publisher) publish(next *published) {
	last := p.base.Swap(next)
	if last.Status == next.Status && last.Healthy == next.Healthy && last.PID == next.PID && last.Reason.Equal(next.Reason) {
		return
	}
	p.changed.Notify()
}

func (p *publisher) snapshot() Snapshot {
	base := p.base.Load()
	s := base.Snapshot
	if base.tail != nil {
		s.Stderr = base.tail.last()
	}
	s.InFlight = int(p.inFlight.Load())
	s.LoopTick = time.Unix(0, p.tick.Load())
	return s
}
