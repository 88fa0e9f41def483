package fleet

import (
	"fmt"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
)

// observation is all that is known about a worker at one moment.
type observation struct {
	worker heartbeat.Worker // with the last beat seen, when it has none now
	silent bool             // it has written no heartbeat for two of its intervals
	gone   bool             // its process is proven to be gone
	pinged bool             // pong or err is the outcome
	pong   rpc.Pong
	err    error
}

// classify decides from an observation alone whether a worker is FREE, BUSY or DEAD, and whether its death is proven.
func classify(o observation) Worker {
	w := Worker{Worker: o.worker}
	beat := o.worker.Beat
	dead := func(cause, reason string) { w.State, w.Cause, w.Reason = status.Dead, cause, reason }
	evidence := true // the process is gone or does not listen, whatever the heartbeat says
	switch {
	case o.gone:
		dead(CauseProcessGone, fmt.Sprintf("process %d does not exist any more on host %s", beat.PID, beat.Host))
	case o.pinged && o.err != nil:
		cause, detail := causeOf(o.err)
		dead(cause, detail)
		evidence = cause == CauseRefused
	case o.pinged && !answersAs(o.pong, o.worker):
		dead(CauseWrongIdentity, fmt.Sprintf("at %s answers worker %s (nonce %s)", beat.Address, o.pong.WorkerID, o.pong.Nonce))
	default:
		evidence = false
		w.State, w.Reason = status.Busy, o.pong.Reason
		free := o.pong.State == status.Free
		if !o.pinged {
			free, w.Reason = beat.State == status.Free, beat.Reason.Summary
		}
		if free {
			w.State, w.Reason = status.Free, ""
		}
		if o.pinged && o.worker.Alive && o.pong.Status != "" {
			// Its answer is younger than its heartbeat; a list that mixed the two would contradict itself.
			w.Beat.Status, w.Beat.Healthy, w.Beat.ActiveTasks = o.pong.Status, o.pong.Healthy, o.pong.ActiveTasks
		}
	}
	switch {
	case !o.worker.Alive && o.worker.Err != nil:
		dead(CauseError, o.worker.Err.Error())
	case !o.worker.Alive && !evidence:
		dead(CauseHeartbeatExpired, "its heartbeat expired at "+o.worker.Expiry.UTC().Format(time.RFC3339))
	case w.State != status.Dead && o.silent && !o.pinged:
		dead(CauseHeartbeatExpired, fmt.Sprintf("no heartbeat for %s", o.worker.Age.Round(time.Second)))
	case w.State == status.Free && o.silent:
		w.State, w.Reason = status.Busy, fmt.Sprintf("it answers, but its last heartbeat is %s old", o.worker.Age.Round(time.Second))
	case w.State == status.Dead && o.worker.Alive && !o.silent && beat.Status == status.Draining:
		// It stops in an orderly manner, and its port may close before its heartbeat ends.
		w.State, w.Cause, w.Reason = status.Busy, "", "it is stopping"
	}
	w.Proven = w.State == status.Dead && evidence && o.silent
	return w
}

// answersAs reports whether a pong comes from the process that writes w's heartbeat.
func answersAs(p rpc.Pong, w heartbeat.Worker) bool {
	return p.WorkerID == w.ID && (w.Beat.Nonce == "" || p.Nonce == w.Beat.Nonce)
}

// silent reports whether a worker that has a heartbeat has missed two of its own intervals.
func silent(w heartbeat.Worker) bool {
	return w.Alive && w.Beat.Interval > 0 && w.Age >= 2*w.Beat.Interval
}
