package supervisor

import (
	"errors"
	"strings"
	"testing"
)

// failedStart is an event loop whose process could not be started, before it has handled that.
func failedStart(t *testing.T) *loop {
	t.Helper()
	o := testOptions("")
	o.Command = []string{"/does/not/exist"}
	s, err := New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	l := newLoop(s.opts, s.gate, s.snapshots, s.mailbox)
	l.start("")
	if l.startErr == nil || l.timeout != timeoutStart {
		t.Fatalf("after a failed start: error %v, timeout %d; want an error and timeoutStart", l.startErr, l.timeout)
	}
	return l
}

// A failed start is handled by the next turn of the loop. What comes between must neither lose it nor start a second
// process beside it.
func TestFailedStartIsHandledWhateverComesBetween(t *testing.T) {
	t.Run("drain", func(t *testing.T) {
		l := failedStart(t)
		l.beginDrain("draining")
		l.onTimeout()
		if l.crashes != 1 || l.state.status != StatusDraining || !strings.Contains(l.state.reason.Summary, "/does/not/exist") {
			t.Errorf("%d crashes, state %s (%s); want one, draining and the program's name", l.crashes, l.state.status, l.state.reason)
		}
	})
	t.Run("restart", func(t *testing.T) {
		l := failedStart(t)
		r := restart{cause: RestartManual, done: make(chan error, 1)}
		l.restart(r)
		if l.restarts != 0 {
			t.Errorf("%d restarts before the failed start was handled, want none", l.restarts)
		}
		l.onTimeout()
		if l.crashes != 1 || l.restarts != 1 || l.state.status != StatusRestarting {
			t.Errorf("%d crashes, %d restarts, state %s; want 1, 1 and restarting", l.crashes, l.restarts, l.state.status)
		}
		l.onTimeout()
		if l.crashes != 2 || l.restarts != 1 || l.state.status != StatusDegraded {
			t.Errorf("%d crashes, %d restarts, state %s; want 2, 1 and degraded", l.crashes, l.restarts, l.state.status)
		}
		select {
		case err := <-r.done:
			if !errors.Is(err, ErrCrashed) {
				t.Errorf("Restart returned %v, want ErrCrashed", err)
			}
		default:
			t.Error("the caller of Restart has no answer")
		}
	})
	t.Run("stop", func(t *testing.T) {
		l := failedStart(t)
		l.beginStop()
		if !l.finished || l.timeout != timeoutNone || l.state.status != StatusStopped {
			t.Errorf("finished %v, timeout %d, state %s; want a loop that has stopped", l.finished, l.timeout, l.state.status)
		}
	})
}
