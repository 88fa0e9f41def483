package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
)

// Task is one attempt at one task, as its handler sees it. It is not changed after it was handed over.
type Task struct {
	ID         string
	Queue      string
	Type       string
	Payload    []byte
	Headers    map[string]string
	RetryCount int           // attempts that failed before this one
	MaxRetry   int           // attempts that may still follow after the first
	Crashes    int           // how often this task took the Python process down
	Timeout    time.Duration // as enqueued; 0 when only a deadline was given
	Deadline   time.Time     // when this attempt ends: the earlier of timeout and deadline
	Retention  time.Duration // how long asynq keeps the completed task
	Enqueued   time.Time     // since when it was pending; zero when unknown
}

// Handler runs tasks. Process blocks until the task has ended or is certain to have ended; it is called from up to
// Options.Concurrency goroutines at once, never twice at once with the same task id. When ctx is done (timeout,
// deadline, cancelled) Process should end the task early; its slot stays taken until it returns.
//
// A nil error means success with the JSON result. Any other error is a failed attempt that asynq retries, except for
// the kinds that Process may return: [ErrUntouched], [*CrashError], [*RetryError] and [*PermanentError].
type Handler interface {
	Process(ctx context.Context, t *Task) (json.RawMessage, error)
}

// Gate reports whether new tasks may be taken. Closed, nothing is asked of Redis. Changed returns a channel that is
// closed at the next change; it has to be taken before Open is asked.
type Gate interface {
	Open() bool
	Changed() <-chan struct{}
}

// ErrUntouched says that the task did not run: it goes back to the head of the pending list as it was, its retry count
// and its age unchanged.
var ErrUntouched = fmt.Errorf("the task did not run")

// CrashError says that the task was running when the process went away. It counts against the task: past
// Options.MaxTaskCrashes it is archived instead of retried.
type CrashError struct {
	Err error // the evidence
}

func (e *CrashError) Error() string { return e.Err.Error() }

// Unwrap returns the evidence.
func (e *CrashError) Unwrap() error { return e.Err }

// RetryError is a failure that says itself when the next attempt is due.
type RetryError struct {
	Delay   time.Duration // rounded up to whole seconds, which is what asynq keeps
	Message string
}

func (e *RetryError) Error() string { return e.Message }

// PermanentError is a failure that no retry would mend: the task is archived at once.
type PermanentError struct {
	Message string
}

func (e *PermanentError) Error() string { return e.Message }

// Is makes asynq skip the retries without its own words in the task's error.
func (e *PermanentError) Is(target error) bool { return target == asynq.SkipRetry }
