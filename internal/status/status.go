// Package status holds the words that several packages share: how a worker is and why, whether it is free, and how much
// waits in a queue. It imports nothing of this module, so every package may import it.
package status

import "time"

// Status is what a worker does, as the field status of its heartbeat has it.
type Status string

// The statuses of a worker.
const (
	Starting   Status = "starting"
	Running    Status = "running"
	Degraded   Status = "degraded"   // no Python process, and none is started before an operator asks for it
	Restarting Status = "restarting" // another Python process is about to run
	Draining   Status = "draining"   // takes no new task and ends when those that run are done
	Gone       Status = "gone"       // has no heartbeat any more; shown, never written
)

// State says whether a worker would take a task now, as the field state of its heartbeat has it.
type State string

// The states of a worker.
const (
	Free State = "FREE" // would take a task now
	Busy State = "BUSY" // alive, but all its slots are taken, or it takes no tasks
	Dead State = "DEAD" // does not answer, so no task should be given to it; only others can say so of a worker
)

// Check is the outcome of one of the checks that a worker's health is made of.
type Check string

// The outcomes of a check.
const (
	Healthy       Check = "healthy"
	Unhealthy     Check = "unhealthy"
	NotConfigured Check = "not configured"
	Unknown       Check = "unknown" // nobody could be asked
)

// TaskState is where asynq keeps a task.
type TaskState string

// The states of a task.
const (
	Pending   TaskState = "pending"
	Active    TaskState = "active"
	Scheduled TaskState = "scheduled"
	Retry     TaskState = "retry"    // failed, and waits for its next attempt
	Archived  TaskState = "archived" // failed, and is not tried again
	Completed TaskState = "completed"
)

// Health is whether a worker works, and why not. The zero value is not healthy.
type Health struct {
	Healthy bool     // the Python process, Redis and the database, all of them
	Reasons []Reason // why not, the most important one first; empty when healthy
	Status  Status
	State   State // of the moment at which it was asked for, since it changes with every task
	Stalled bool  // the Python process is there and does not answer
	// Probed says that tasks are taken although it is not healthy, one at a time, since nothing else would show that it is again.
	Probed bool
	// Awaits says what a healthy worker that takes no tasks waits for, as in a planned replacement; zero: nothing is told.
	Awaits Reason

	// StoodSince is when a loop that the health comes from turned last, where that is too long ago to know more than that;
	// zero else.
	StoodSince time.Time

	Worker   Check // the Python process
	Broker   Check // Redis
	Database Check
}

// Ready reports whether new tasks are being taken.
func (h Health) Ready() bool { return h.Healthy && h.Status == Running }

// Reason returns the first reason, or the zero Reason.
func (h Health) Reason() Reason {
	if len(h.Reasons) == 0 {
		return Reason{}
	}
	return h.Reasons[0]
}

// Public returns what everybody may see: the same with the public reasons.
func (h Health) Public() Health {
	reasons := make([]Reason, len(h.Reasons))
	for i, r := range h.Reasons {
		reasons[i] = r.Public()
	}
	h.Reasons, h.Awaits = reasons, h.Awaits.Public()
	return h
}

// Depth is how many tasks of one queue are in which state. A queue that has never been used reads 0 everywhere.
type Depth struct {
	Pending                                       int64 // tasks that wait for one named worker included
	Active, Scheduled, Retry, Archived, Completed int64
	Due                                           int64 // of Scheduled and Retry: their time has come
	Groups                                        int64 // of tasks that asynq would aggregate
	Aggregating                                   int64 // tasks in these groups; of the first hundred, where there are more
	// Latency is the age of the oldest pending task, 0 when none is pending, negative when it is not known.
	Latency time.Duration
	Paused  bool
	Err     error // why the queue could not be read; the numbers are then unknown
}
