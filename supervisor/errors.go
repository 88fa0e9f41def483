package supervisor

import (
	"errors"
	"fmt"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// Crash causes, as CrashError.Cause and Events.Crashed carry them.
const (
	CauseExit         = "exit"
	CauseSignal       = "signal"
	CauseOOM          = "oom"
	CauseStalled      = "stalled"
	CauseStdoutClosed = "stdout_closed"
	CauseStartup      = "startup"
	CauseProtocol     = "protocol"
	CauseCheck        = "check"    // its own check failed too often
	CauseBroken       = "broken"   // a handler said that the process cannot work any more
	CauseFailures     = "failures" // too many attempts failed without a success
)

// CrashCauses lists every cause of a crash.
func CrashCauses() []string {
	return []string{
		CauseExit, CauseSignal, CauseOOM, CauseStalled, CauseStdoutClosed, CauseStartup, CauseProtocol, CauseCheck, CauseBroken,
		CauseFailures,
	}
}

// Restart causes, as Events.Restarted and ReplacedError.Cause carry them.
const (
	RestartCrash     = "crash"
	RestartManual    = "manual"
	RestartMaxTasks  = "max_tasks"
	RestartMaxMemory = "max_memory"
	RestartDeadline  = "deadline"
)

// RestartCauses lists every cause of a restart.
func RestartCauses() []string {
	return []string{RestartCrash, RestartManual, RestartMaxTasks, RestartMaxMemory, RestartDeadline}
}

var (
	// ErrNotRun says that the task had not begun when the process went away or gave it back, never reached it, or cannot
	// be given to it now. It may be run elsewhere as if nothing had happened.
	ErrNotRun = errors.New("the task was not run")
	// ErrStopped says that the task was unanswered when Stop, or the end of Run's context, ended the process.
	ErrStopped = errors.New("the Python process was stopped before the task was answered")
	// ErrDuplicate says that a request with this task id is in flight already.
	ErrDuplicate = errors.New("a task with this id is in flight")
	// ErrCrashed is wrapped by Run's error under PolicyExit, and by the error of a Restart whose process did not start.
	ErrCrashed = errors.New("the Python process crashed")
	// ErrCheck is wrapped by the error of a Restart whose process has started and does not pass its own check.
	ErrCheck = errors.New("the Python process does not pass its check")
	// ErrNoRestart says that Restart is refused because the supervisor drains or has stopped.
	ErrNoRestart = errors.New("restart refused")
)

// CrashError says that the process went away while it ran this task and no other.
type CrashError struct {
	Cause    string        // one of the Cause constants
	Where    string        // the line of the handler where a process that hung was, as in Stack; empty: it is not known
	Evidence status.Reason // exit code or signal and hints; the last lines of stderr, and where it hung, apart
}

// Error gives the evidence with the lines of stderr.
func (e *CrashError) Error() string {
	return fmt.Sprintf("the Python process crashed (%s) while this task was running%s: %s", e.Cause, at(e.Where), e.Evidence.Text())
}

// SuspicionError says that the process went away while it ran this task and others: any of them may be the cause.
type SuspicionError struct {
	Cause    string        // one of the Cause constants
	Where    string        // as CrashError has it
	Evidence status.Reason // as CrashError has it
}

// Error gives the evidence with the lines of stderr.
func (e *SuspicionError) Error() string {
	return fmt.Sprintf("the Python process crashed (%s) while this task and others were running%s: %s",
		e.Cause, at(e.Where), e.Evidence.Text())
}

// ReplacedError says that the task was killed by replacing the process: it was past its deadline and did not react to
// being cancelled, or it had not ended within the time that a planned replacement waits.
type ReplacedError struct {
	Cause string // one of the Restart constants
	Stack Stack  // where the process was then; zero: it was not asked
	// Waited is how long a planned replacement has waited for the task; 0: it was cancelled.
	Waited time.Duration
}

func (e *ReplacedError) Error() string {
	text := fmt.Sprintf("the task did not end after it was cancelled%s; its Python process was replaced (%s)", at(e.Stack.Where), e.Cause)
	if e.Waited > 0 {
		text = fmt.Sprintf("the task did not end within %v%s (python.replace_timeout); its Python process was replaced (%s)",
			e.Waited, at(e.Stack.Where), e.Cause)
	}
	if stacks := e.Stack.Brief(maxErrorStack); stacks != "" {
		text += "\nits stacks:\n" + stacks
	}
	return text
}

// at says where a process hung, if that is known.
func at(where string) string {
	if where == "" {
		return ""
	}
	return ", at " + where
}
