package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

// Policy says what follows a crash.
type Policy string

// The policies.
const (
	PolicyDegrade Policy = "degrade" // stay without a process until Restart
	PolicyRestart Policy = "restart" // start another after a backoff, until the breaker trips
	PolicyExit    Policy = "exit"    // end Run with an error that wraps ErrCrashed
)

// RestartPolicy bounds PolicyRestart, and under every policy the replacements of a process that is broken: one that has
// said so, or whose tasks fail all. Under PolicyDegrade one such replacement is made within Window.
type RestartPolicy struct {
	Max          int           // restarts within Window; one crash more leads to degraded
	Window       time.Duration // how long a crash counts
	InitialDelay time.Duration // the wait after the first crash; it doubles with each further one
	MaxDelay     time.Duration // its upper bound
}

// Events are called by the supervisor's event loop and must return at once. Each may be nil.
type Events struct {
	Crashed   func(cause string) // one of the Cause constants
	Restarted func(cause string) // one of the Restart constants; called when the new process is started
	// RoomChanged: Room has grown for another reason than an answer. A process is ready, or a stall is over.
	RoomChanged func()
}

// Options configure a Supervisor. All durations must be positive unless stated otherwise.
type Options struct {
	Command []string // program and arguments; a relative path with a slash is relative to Dir
	Dir     string   // working directory; empty: the worker's
	Env     []string // the whole environment, "KEY=value"; only RUNQY_CHILD_NONCE is added

	Concurrency    int           // requests with the process at once, at least 1; of those that run in order, prefetch included
	StartupTimeout time.Duration // from the start to the ready message
	StopTimeout    time.Duration // for a graceful end, and for a cancelled task to react

	OnCrash Policy
	Restart RestartPolicy

	// CheckInterval is how often a process that can say whether it can do its work is asked that, while it has nothing to
	// do; CheckTimeout bounds the answer, and CheckFailures in a row are a crash. Interval 0: it is never asked.
	CheckInterval, CheckTimeout time.Duration
	CheckFailures               int
	// MaxConsecutiveFailures is how many attempts may fail without a success before the process is replaced; 0: any number.
	MaxConsecutiveFailures int

	MaxTasks   int   // replace the process after this many tasks; 0: never
	MaxMemory  int64 // replace it above this resident size in bytes; 0: never
	MaxMessage int64 // longest protocol line in bytes, in both directions; at least 1 KiB

	BlockThreshold time.Duration // no answer, or a lag of the event loop, beyond this is a stall
	StallTimeout   time.Duration // a stall this long is a crash; 0: never
	ReplaceTimeout time.Duration // how long a planned replacement waits for running tasks; 0: until they end

	// IdleWarning is how long a task may run without CPU time of its process and without progress before it is marked; 0:
	// for ever.
	IdleWarning time.Duration

	// StackSignal is the signal that asks the process for the stacks of its threads when it does not answer otherwise; a
	// number from 1 to 64, 0: none. It is sent only to a process in which the SDK has registered it.
	StackSignal int

	// Guardian is the argv of a program that calls RunGuardian; empty: none.
	Guardian []string

	// Logger gets what the supervisor logs, with component=supervisor, and what the process writes, with its origin
	// (stdout, stderr or log). It must never wait for what reads the log: the event loop waits for it, and what reads the
	// process' output. nil: nothing is logged.
	Logger *slog.Logger
	Events Events
}

// maxSignal is the last real-time signal.
const maxSignal = 64

func (o Options) check() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	positive := func(name string, d time.Duration) {
		if d <= 0 {
			bad("%s is %v; it must be positive", name, d)
		}
	}
	if len(o.Command) == 0 || o.Command[0] == "" {
		bad("Command is empty; give the program to run")
	}
	if o.Concurrency < 1 {
		bad("Concurrency is %d; it must be at least 1", o.Concurrency)
	}
	positive("StartupTimeout", o.StartupTimeout)
	positive("StopTimeout", o.StopTimeout)
	positive("BlockThreshold", o.BlockThreshold)
	if o.StallTimeout < 0 {
		bad("StallTimeout is %v; it must be positive, or 0 for never", o.StallTimeout)
	}
	if o.CheckInterval < 0 || o.MaxConsecutiveFailures < 0 || o.ReplaceTimeout < 0 {
		bad("CheckInterval is %v, MaxConsecutiveFailures %d and ReplaceTimeout %v; none may be negative",
			o.CheckInterval, o.MaxConsecutiveFailures, o.ReplaceTimeout)
	}
	if o.CheckInterval > 0 {
		positive("CheckTimeout", o.CheckTimeout)
		if o.CheckFailures < 1 {
			bad("CheckFailures is %d; it must be at least 1", o.CheckFailures)
		}
	}
	if o.MaxTasks < 0 || o.MaxMemory < 0 {
		bad("MaxTasks is %d and MaxMemory is %d; both must be positive, or 0 for never", o.MaxTasks, o.MaxMemory)
	}
	if o.IdleWarning < 0 {
		bad("IdleWarning is %v; it must be positive, or 0 for never", o.IdleWarning)
	}
	if o.StackSignal < 0 || o.StackSignal > maxSignal {
		bad("StackSignal is %d; it must be a signal's number, or 0 for none", o.StackSignal)
	}
	if o.MaxMessage < wire.MinLine {
		bad("MaxMessage is %d bytes; it must be at least %d", o.MaxMessage, wire.MinLine)
	}
	switch o.OnCrash {
	case PolicyDegrade, PolicyExit:
	case PolicyRestart:
		positive("Restart.Window", o.Restart.Window)
		positive("Restart.InitialDelay", o.Restart.InitialDelay)
		if o.Restart.Max < 0 {
			bad("Restart.Max is %d; it must not be negative", o.Restart.Max)
		}
		if o.Restart.MaxDelay < o.Restart.InitialDelay {
			bad("Restart.MaxDelay is %v; it must not be below Restart.InitialDelay (%v)", o.Restart.MaxDelay, o.Restart.InitialDelay)
		}
	default:
		bad("OnCrash is %q; use %q, %q or %q", o.OnCrash, PolicyDegrade, PolicyRestart, PolicyExit)
	}
	return errors.Join(faults...)
}
