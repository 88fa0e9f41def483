package fleet

import (
	"fmt"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
)

// sighting is all that is known about a worker at one moment.
type sighting struct {
	worker heartbeat.Worker // with the last beat seen, when it has none now
	silent bool             // it has not beaten for two of its intervals
	gone   bool             // its process is proven to be gone
	asked  bool             // it was pinged, and pong or err is the outcome
	pong   rpc.Pong
	err    error
}

// judge is the whole law: who is free, who is dead, and whose death is proven.
func judge(s sighting) Worker {
	w := Worker{Worker: s.worker}
	beat := s.worker.Beat
	dead := func(cause, reason string) { w.State, w.Cause, w.Reason = status.Dead, cause, reason }
	evidence := true // speaks for death whatever the heartbeat says
	switch {
	case s.gone:
		dead(CauseProcessGone, fmt.Sprintf("process %d does not exist any more on host %s", beat.PID, beat.Host))
	case s.asked && s.err != nil:
		cause, detail := causeOf(s.err)
		dead(cause, detail)
		evidence = cause == CauseRefused
	case s.asked && !answersAs(s.pong, s.worker):
		dead(CauseWrongIdentity, fmt.Sprintf("at %s answers worker %s (nonce %s)", beat.Address, s.pong.WorkerID, s.pong.Nonce))
	default:
		evidence = false
		w.State, w.Reason = status.Busy, s.pong.Reason
		free := s.pong.State == status.Free
		if !s.asked {
			free, w.Reason = beat.State == status.Free, beat.Reason.Summary
		}
		if free {
			w.State, w.Reason = status.Free, ""
		}
		if s.asked && s.worker.Alive && s.pong.Status != "" {
			// What it says now is younger than what it wrote; a list that mixed the two would contradict itself.
			w.Beat.Status, w.Beat.Healthy, w.Beat.ActiveTasks = s.pong.Status, s.pong.Healthy, s.pong.ActiveTasks
		}
	}
	switch {
	case !s.worker.Alive && s.worker.Err != nil:
		dead(CauseError, s.worker.Err.Error())
	case !s.worker.Alive && !evidence:
		dead(CauseHeartbeatExpired, "no heartbeat since "+s.worker.Expiry.UTC().Format(time.RFC3339))
	case w.State != status.Dead && s.silent && !s.asked:
		dead(CauseHeartbeatExpired, fmt.Sprintf("no heartbeat for %s", s.worker.Age.Round(time.Second)))
	case w.State == status.Free && s.silent:
		w.State, w.Reason = status.Busy, fmt.Sprintf("it answers, but its last heartbeat is %s old", s.worker.Age.Round(time.Second))
	case w.State == status.Dead && s.worker.Alive && !s.silent && beat.Status == status.Draining:
		// It is going away in an orderly manner, and its port may close before its heartbeat ends.
		w.State, w.Cause, w.Reason = status.Busy, "", "it is stopping"
	}
	w.Proven = w.State == status.Dead && evidence && s.silent
	return w
}

// answersAs tells whether a pong comes from the process that beats as w.
func answersAs(p rpc.Pong, w heartbeat.Worker) bool {
	return p.WorkerID == w.ID && (w.Beat.Nonce == "" || p.Nonce == w.Beat.Nonce)
}

// silent tells whether a worker that has a heartbeat has missed two of its own intervals.
func silent(w heartbeat.Worker) bool {
	return w.Alive && w.Beat.Interval > 0 && w.Age >= 2*w.Beat.Interval
}
