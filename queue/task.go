package queue

import (
	"encoding/json"
	"fmt"
	"time"
)

// Task is one attempt at one task, as its handler sees it. It is not changed after it was handed over.
type Task struct {
	ID             string
	Queue          string
	Type           string
	Payload        []byte
	Headers        map[string]string
	RetryCount     int           // attempts that failed before this one
	MaxRetry       int           // attempts that may still follow after the first
	Crashes        int           // how often this task alone took the Python process down
	Suspicions     int           // how often the process died while this task ran beside others
	Recoveries     int           // how often its worker vanished
	Timeout        time.Duration // from when the handler begins; 0: none
	Deadline       time.Time     // absolute, as enqueued; zero: none
	Retention      time.Duration // how long asynq keeps the completed task
	Enqueued       time.Time     // since when it was pending; zero when unknown
	uniqueKey      string        // of asynq's lock; empty: none
	timeoutSeconds int64         // as asynq stores them, negative values included
	deadlineUnix   int64
}

// Handler runs tasks. Its methods are called by the consumer's loop and must return at once.
type Handler interface {
	// Submit hands over an attempt, never two with the same task id at once. What becomes of it is told to a.
	Submit(t *Task, a Attempt)
	// Cancel asks for the end of a submitted task, because its time is over or somebody has cancelled it. The answer
	// still counts; an answer that never comes has to be replaced by an error before long.
	Cancel(t *Task)
	// Room says how many tasks may be submitted.
	Room() Room
}

// Room is what a handler has room for.
type Room struct {
	Free int     // further tasks that may be submitted now
	Rate float64 // tasks a second that begin, by what was measured; 0: unknown, or none will begin soon
	Idle bool    // a task submitted now would begin now
}

// Attempt is told what becomes of a submitted task. Its methods return at once and may be called from any goroutine.
type Attempt interface {
	// Began says that the handler has begun; at most once. Timeouts count from there.
	Began(at time.Time)
	// Progress notes what the handler reports: the share that is done, clamped to at most 1 (negative or NaN: as
	// before), and a message, which replaces the one before.
	Progress(fraction float64, message string)
	// Ended ends the attempt; exactly once. A nil error means success with the JSON result. Any other error is a failed
	// attempt, except for [ErrUntouched], [*CrashError], [*SuspicionError], [*RetryError] and [*PermanentError]. took is
	// the handler's own time.
	Ended(result json.RawMessage, took time.Duration, err error)
}

// Gate reports whether new tasks may be taken. Closed, nothing is taken or waited for. Changed returns a channel that is
// closed at the next change; it has to be taken before Open is asked.
type Gate interface {
	Open() bool
	Changed() <-chan struct{}
}

// ErrUntouched says that the task did not run: it goes back to the head of the pending list as it was, its retry count
// and its age unchanged.
var ErrUntouched = fmt.Errorf("the task did not run")

// CrashError says that the process went away while this task alone was running. It counts against the task: at
// Options.MaxTaskCrashes it is archived instead of retried.
type CrashError struct {
	Err error // the evidence
}

func (e *CrashError) Error() string { return e.Err.Error() }

// Unwrap returns the evidence.
func (e *CrashError) Unwrap() error { return e.Err }

// SuspicionError says that the process went away while this task and others were running. The task goes back uncharged;
// at Options.MaxTaskCrashes of them it runs alone, so that the one that takes the process down is found.
type SuspicionError struct {
	Err error // the evidence
}

func (e *SuspicionError) Error() string { return e.Err.Error() }

// Unwrap returns the evidence.
func (e *SuspicionError) Unwrap() error { return e.Err }

// RetryError is a failure that says itself when the next attempt is due.
type RetryError struct {
	Delay   time.Duration // rounded up to whole seconds, which is what asynq keeps; 0: at once
	Message string
}

func (e *RetryError) Error() string { return e.Message }

// PermanentError is a failure that no retry would mend: the task is archived at once.
type PermanentError struct {
	Message string
}

func (e *PermanentError) Error() string { return e.Message }
