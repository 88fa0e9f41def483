package supervisor

import (
	"fmt"
	"slices"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// Status is the state of the supervised process; see the package comment for what each means and how they follow each
// other. It is not the status of the worker: that knows no stalled, crashed and stopped process.
type Status string

// The states, with the names that users see. Those that are made of a status of the worker mean the same.
const (
	StatusStarting          = Status(status.Starting)
	StatusRunning           = Status(status.Running)
	StatusStalled    Status = "stalled" // the worker's status is then running, and it is not healthy
	StatusCrashed    Status = "crashed" // the worker's status is then degraded
	StatusRestarting        = Status(status.Restarting)
	StatusDegraded          = Status(status.Degraded)
	StatusDraining          = Status(status.Draining)
	StatusStopped    Status = "stopped" // the worker's status is then draining
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
	Reason   string // one line
}

func (e *TransitionError) Error() string {
	return fmt.Sprintf("illegal transition of the Python process from %s to %s (%s)", e.From, e.To, e.Reason)
}

// machine is the state with its reason. It belongs to the event loop.
type machine struct {
	status Status
	reason status.Reason
	since  time.Time
}

func newMachine(now time.Time) machine {
	return machine{status: StatusStarting, reason: because("the Python process is starting"), since: now}
}

// to makes one checked step. The machine is unchanged when it fails.
func (m *machine) to(next Status, reason status.Reason, now time.Time) error {
	if !slices.Contains(transitions[m.status], next) {
		return &TransitionError{From: m.status, To: next, Reason: reason.Summary}
	}
	m.status, m.reason, m.since = next, reason, now
	return nil
}

// setReason replaces the reason within the same state.
func (m *machine) setReason(reason status.Reason) { m.reason = reason }

// because is a reason of one line.
func because(summary string) status.Reason { return status.Reason{Summary: summary} }

// prefixed is r with text before its summary.
func prefixed(text string, r status.Reason) status.Reason {
	return r.WithSummary(func(summary string) string { return text + summary })
}
