package supervisor

import (
	"fmt"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// beginKill ends the process with SIGKILL, and Run when it is reaped.
func (l *loop) beginKill(reason string) {
	l.stopping = true
	l.beginDrain("stopping: " + reason)
	if l.child == nil {
		l.finish(because("stopped"))
		return
	}
	if l.ending == nil {
		l.ending = &ending{kind: endStop}
		l.child.requests.close(nil)
	}
	l.stopTimer()
	l.child.process.Kill()
}

// beginStop asks the process to end, and ends Run when it is reaped.
func (l *loop) beginStop() {
	l.stopping = true
	l.beginDrain("stopping")
	switch {
	case l.child == nil:
		l.finish(because("stopped"))
	case l.ending == nil:
		l.ending = &ending{kind: endStop}
		l.child.requests.close(nil)
		l.askToEnd()
	}
}

// beginDrain refuses new requests, asks back what has not begun, and gives up what would start a process.
func (l *loop) beginDrain(reason string) {
	if l.draining {
		return
	}
	l.draining = true
	if l.child != nil && l.ready && l.ending == nil {
		l.child.askBack(time.Now(), 0)
	}
	l.gate.shut("the worker is " + reason)
	l.to(StatusDraining, because(reason))
	l.answerRestarts(fmt.Errorf("%w: the worker is draining", ErrNoRestart))
	l.restartCause = ""
	if l.child == nil && l.startErr == nil {
		l.stopTimer()
	}
	if r := l.replacement; r != nil && r.breakage == "" && l.ending == nil && l.ready {
		l.replacement = nil
		l.stopTimer()
	}
}

// askToEnd closes stdin, then sends SIGTERM, then SIGKILL.
func (l *loop) askToEnd() {
	l.child.in.Finish()
	l.killAt = time.Now().Add(l.opts.StopTimeout)
	if !l.ready {
		l.terminate() // it loads, and does not read yet
		return
	}
	l.setTimer(l.opts.StopTimeout/2, timeoutTerminate)
}

// terminate sends SIGTERM, and SIGKILL when the stop timeout is over, of which asking where the process is took a part.
func (l *loop) terminate() {
	l.child.process.Terminate()
	l.setTimer(max(0, time.Until(l.killAt)), timeoutKill)
}

// finish ends Run.
func (l *loop) finish(reason status.Reason) {
	if l.finished {
		return
	}
	l.finished = true
	l.stopTimer()
	l.gate.shut("the supervisor has stopped")
	l.answerRestarts(fmt.Errorf("%w: the supervisor has stopped", ErrNoRestart))
	if l.state.status != StatusStopped {
		l.to(StatusStopped, reason)
	}
}
