package supervisor

import "time"

// timeout is what the loop's timer is set for. There is one at a time; [loop.onTimeout] does what follows.
type timeout int

const (
	timeoutNone      timeout = iota
	timeoutStart             // the process could not be started; set without a wait, so that the loop handles that next
	timeoutReady             // the process has not sent its ready message
	timeoutPipe              // the process closed a pipe and is not dead
	timeoutExit              // the process closed a pipe and has not exited
	timeoutReplace           // the process has not answered all before its replacement
	timeoutTerminate         // the process was asked to end and has not
	timeoutKill              // the process was sent SIGTERM and has not ended
	timeoutBackoff           // the next start after a crash is due
)

func (l *loop) setTimer(d time.Duration, t timeout) {
	l.timeout = t
	l.timer.Reset(d)
}

func (l *loop) stopTimer() {
	l.timeout = timeoutNone
	l.timer.Stop()
}

// start starts a process. cause is empty for the first one.
func (l *loop) start(cause string) {
	l.stopTimer()
	l.ready, l.serving, l.dead, l.ending, l.restartCause = false, false, false, nil, ""
	l.stalls, l.stalled, l.checks = nil, "", nil
	l.idle, l.idleTasks, l.stack = nil, nil, nil
	l.lag, l.gc, l.startErr, l.recycling.suspended = 0, nil, nil, ""
	if cause != "" {
		l.restarts++
		if f := l.opts.Events.Restarted; f != nil {
			f(cause)
		}
	}
	c, err := startChild(l.opts, l.guardian, l.mailbox, &l.snapshots.inFlight)
	if err != nil {
		l.startErr = err
		l.setTimer(0, timeoutStart)
		return
	}
	l.child, l.last = c, c
	l.gate.process.Store(c)
	l.setTimer(l.opts.StartupTimeout, timeoutReady)
}
