package supervisor

import (
	"fmt"
	"time"
)

// Status is the state of the supervised process; see the package comment for
// what each means and how they follow each other.
type Status string

// The states, with the names that users see.
const (
	StatusStarting   Status = "starting"
	StatusRunning    Status = "running"
	StatusStalled    Status = "stalled"
	StatusCrashed    Status = "crashed"
	StatusRestarting Status = "restarting"
	StatusDegraded   Status = "degraded"
	StatusDraining   Status = "draining"
	StatusStopped    Status = "stopped"
)

// transitions holds every legal step; what is not here is a bug.
var transitions = map[Status][]Status{
	StatusStarting:   {StatusRunning, StatusCrashed, StatusDraining, StatusStopped},
	StatusRunning:    {StatusStalled, StatusCrashed, StatusRestarting, StatusDraining, StatusStopped},
	StatusStalled:    {StatusRunning, StatusCrashed, StatusRestarting, StatusDraining, StatusStopped},
	StatusCrashed:    {StatusRestarting, StatusDegraded, StatusDraining, StatusStopped},
	StatusRestarting: {StatusRunning, StatusCrashed, StatusDraining, StatusStopped},
	StatusDegraded:   {StatusRestarting, StatusDraining, StatusStopped},
	StatusDraining:   {StatusStopped},
	StatusStopped:    {},
}

// TransitionError reports a step that the state diagram does not have.
type TransitionError struct {
	From, To Status
	Reason   string
}

func (e *TransitionError) Error() string {
	return fmt.Sprintf("illegal transition of the Python process from %s to %s (%s)", e.From, e.To, e.Reason)
}

// machine is the state with its reason. It belongs to the owner goroutine.
type machine struct {
	status Status
	reason string
	since  time.Time
}

func newMachine(now time.Time) machine {
	return machine{status: StatusStarting, reason: "the Python process is starting", since: now}
}

// to makes one checked step. The machine is unchanged when it fails.
func (m *machine) to(next Status, reason string, now time.Time) error {
	for _, s := range transitions[m.status] {
		if s == next {
			m.status, m.reason, m.since = next, reason, now
			return nil
		}
	}
	return &TransitionError{From: m.status, To: next, Reason: reason}
}

// note replaces the reason within the same state.
func (m *machine) note(reason string) { m.reason = reason }
