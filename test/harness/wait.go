package harness

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

const (
	// Timeout bounds every wait. It asserts no speed: a loaded machine is no reason to fail.
	Timeout = 60 * time.Second
	// PollInterval is the least pause between two checks of a wait.
	PollInterval = 15 * time.Millisecond
)

// FatalError is an error that no waiting changes: it ends the wait, and the test.
type FatalError struct{ error }

// Fatal returns a FatalError, for a check of Eventually.
func Fatal(format string, args ...any) error { return FatalError{fmt.Errorf(format, args...)} }

// Eventually waits until check returns nil, and returns how long that took. It fails the test with the last error after
// Timeout, or at once after a FatalError.
func Eventually(t *testing.T, what string, check func() error) time.Duration {
	t.Helper()
	return EventuallyWithin(t, Timeout, what, check)
}

// EventuallyWithin is Eventually with another limit.
func EventuallyWithin(t *testing.T, limit time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		start := time.Now()
		err := check()
		end := time.Now()
		took := end.Sub(began)
		var final FatalError
		switch {
		case err == nil:
			return took
		case errors.As(err, &final):
			t.Fatalf("%s: %v", what, err)
		case took > limit:
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(pause(took, end.Sub(start)))
	}
}

// pause is how long a wait that has taken so long sleeps after a check that has: a check that is dear, as one that runs
// a command, must not have the processors that the others need, and long waits need no sharp end.
func pause(waited, check time.Duration) time.Duration {
	return max(PollInterval, 2*check, min(waited/50, 5*PollInterval))
}

// Consistently fails the test if check returns an error within d.
func Consistently(t *testing.T, d time.Duration, check func() error) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * PollInterval) {
		if err := check(); err != nil {
			t.Fatalf("not for all of %v: %v", d, err)
		}
	}
}

// NotYet returns an error for a check of Eventually: a FatalError if the worker has ended.
func NotYet(w *Worker, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if w.Ended() {
		return FatalError{err}
	}
	return err
}
