package supervisor

import (
	"fmt"

	"github.com/runqy/runqy-worker/internal/status"
)

// settle brings what is wrong with the process that serves, a stall or a failing check, into the state, its reason and
// the gate. well is the reason when nothing is.
func (l *loop) settle(well string) {
	trouble := l.failingCheck()
	if l.stalled != "" {
		trouble = l.stalled
	}
	switch l.state.status {
	case StatusRunning, StatusStalled:
		l.settleRunning(trouble, well)
	case StatusRestarting:
		if l.replacement != nil {
			l.showReplacement()
		}
	case StatusDraining:
		reason := because("draining")
		if trouble != "" {
			reason = status.NewReason("draining; "+trouble, nil)
		}
		l.state.setReason(reason)
	}
}

func (l *loop) settleRunning(trouble, well string) {
	next, reason := StatusRunning, because(well)
	if l.stalled != "" {
		next = StatusStalled
	}
	if trouble != "" {
		reason = status.NewReason(trouble, nil)
	}
	if next != l.state.status {
		l.to(next, reason)
	} else if reason.Summary != "" {
		l.state.setReason(reason)
	}
	if trouble != "" {
		l.gate.shut("the Python process is not healthy: " + reason.Summary)
		return
	}
	if c, _ := l.gate.current(); c != l.child {
		l.openGate()
	}
}

// showReplacement says why the process is being replaced and what that waits for.
func (l *loop) showReplacement() {
	r := l.replacement
	text := "planned replacement: " + r.cause
	if r.breakage != "" {
		text = "the process is being replaced (" + r.cause + "): " + firstLine(r.breakage)
	}
	if r.waitsFor == 1 {
		text += "; it waits for a running task"
	} else if r.waitsFor > 1 {
		text += fmt.Sprintf("; it waits for %d running tasks", r.waitsFor)
	}
	if r.waitsFor > 0 && r.limit > 0 {
		text += fmt.Sprintf(", for at most %v", r.limit)
	}
	if l.stalled != "" {
		text += "; stalled: " + l.stalled
	}
	if l.draining {
		text = "draining; " + text
	}
	reason := because(text)
	if r.breakage != "" {
		reason.Stderr = status.NewReason(r.breakage, nil).Stderr
	}
	l.state.setReason(reason)
	l.gate.shut(text)
}
