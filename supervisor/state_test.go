package supervisor

import (
	"errors"
	"reflect"
	"testing"
	"time"
)

var allStatuses = []Status{
	StatusStarting, StatusRunning, StatusStalled, StatusCrashed,
	StatusRestarting, StatusDegraded, StatusDraining, StatusStopped,
}

func TestMachineRefusesIllegalSteps(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, tc := range []struct{ from, to Status }{
		{StatusStarting, StatusStalled},
		{StatusRunning, StatusRunning},
		{StatusRunning, StatusDegraded},
		{StatusDegraded, StatusRunning},
		{StatusDraining, StatusRunning},
		{StatusDraining, StatusCrashed},
		{StatusStopped, StatusStarting},
		{StatusStopped, StatusDraining},
	} {
		m := machine{status: tc.from, reason: because("before"), since: now}
		err := m.to(tc.to, because("because"), now.Add(time.Second))
		var illegal *TransitionError
		if !errors.As(err, &illegal) || illegal.From != tc.from || illegal.To != tc.to || illegal.Reason != "because" {
			t.Errorf("%s to %s: %v, want a TransitionError", tc.from, tc.to, err)
		}
		if !reflect.DeepEqual(m, machine{status: tc.from, reason: because("before"), since: now}) {
			t.Errorf("%s to %s was refused and changed the state: %+v", tc.from, tc.to, m)
		}
	}
}

func TestMachineCarriesReasonAndTime(t *testing.T) {
	m := newMachine(time.Unix(1, 0))
	if err := m.to(StatusRunning, because("ready"), time.Unix(2, 0)); err != nil {
		t.Fatalf("starting to running: %v", err)
	}
	if !reflect.DeepEqual(m, machine{StatusRunning, because("ready"), time.Unix(2, 0)}) {
		t.Errorf("after the step: %+v, want the new reason and time", m)
	}
	m.setReason(because("still"))
	if !reflect.DeepEqual(m, machine{StatusRunning, because("still"), time.Unix(2, 0)}) {
		t.Errorf("setReason changed more than the reason: %+v", m)
	}
}

// Every state but the last can be drained, and stopped: Stop works anywhere.
func TestTransitionTable(t *testing.T) {
	for _, from := range allStatuses {
		next, ok := transitions[from]
		if !ok {
			t.Errorf("%s is not in the table of transitions", from)
		}
		legal := map[Status]bool{}
		for _, to := range next {
			legal[to] = true
		}
		if from == StatusStopped {
			if len(next) != 0 {
				t.Errorf("stopped leads to %v, want no step", next)
			}
			continue
		}
		if !legal[StatusStopped] || from != StatusDraining && !legal[StatusDraining] {
			t.Errorf("%s leads to %v: it cannot be drained or stopped", from, next)
		}
	}
}
