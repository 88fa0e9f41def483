package health

import (
	"errors"
	"fmt"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// This file composes the health and its reasons: that of the Python process first, then Redis's, then the database's.

// OfProcess returns the health of a worker as far as its Python process decides it: Healthy, Status, Worker and a
// reason. reason says why the process is not healthy, or what is waited for while it is being replaced.
func OfProcess(s status.Status, healthy bool, reason status.Reason) status.Health {
	h := status.Health{Healthy: healthy, Status: s, Worker: status.Healthy}
	if healthy && s == status.Restarting {
		h.Awaits = reason
	}
	if !healthy {
		h.Worker = status.Unhealthy
		h.Reasons = []status.Reason{processReason(s, reason)}
	}
	return h
}

func processReason(s status.Status, reason status.Reason) status.Reason {
	if reason.Summary == "" {
		return status.Reason{Summary: fmt.Sprintf("The Python process is not healthy (%s).", s)}
	}
	end := "."
	if reason.HasStderr() {
		end = "" // the heading of its lines follows
	}
	return reason.WithSummary(func(summary string) string { return "The Python process is not healthy: " + summary + end })
}

// wedgedAfter is how long a loop may stand still before the worker is not live. It is longer than what makes it
// unhealthy: whoever asks whether it is live is going to kill it.
const wedgedAfter = 10 * time.Second

// StoodStill returns a health that comes from a loop which has not turned for too long: nothing is known of the
// present.
func StoodStill(h status.Health, loop string, since time.Time) status.Health {
	h.Healthy, h.Probed, h.Worker = false, false, status.Unhealthy
	if h.StoodSince.IsZero() {
		h.StoodSince = since
	}
	text := fmt.Sprintf("%s has not turned since %s: nothing newer is known.", loop, since.UTC().Format(time.RFC3339))
	h.Reasons = append([]status.Reason{{Summary: text}}, h.Reasons...)
	return h
}

// Live reports whether the loops that the health comes from turn, and why not, as /livez answers.
func Live(h status.Health) (ok bool, reason string) {
	if h.StoodSince.IsZero() || time.Since(h.StoodSince) <= wedgedAfter {
		return true, ""
	}
	return false, h.Reason().Summary
}

// Health adds to the health of the process what Redis and the database answered last. It never blocks. State is for the
// caller to fill in.
func (d *Dependencies) Health(process status.Health) status.Health {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, h := time.Now(), process
	add := func(w *watch) status.Check {
		reasons, unhealthy := w.reasons(), status.Unhealthy
		if d.stale(w, now) {
			text := fmt.Sprintf("%s has not been asked since %s: a part of this process hangs.", w.title, w.ended.UTC().Format(time.RFC3339))
			reasons, unhealthy, h.Worker = []string{text}, status.Unknown, status.Unhealthy
		}
		if len(reasons) == 0 {
			return status.Healthy
		}
		h.Healthy = false
		h.Reasons = h.Reasons[:len(h.Reasons):len(h.Reasons)]
		for _, reason := range reasons {
			h.Reasons = append(h.Reasons, status.Reason{Summary: reason})
		}
		return unhealthy
	}
	h.Broker = add(d.redis)
	if c, ok := errors.AsType[*hinderedError](d.redis.err); ok && !d.stale(d.redis, now) {
		if c.Worker {
			h.Worker = status.Unhealthy
		}
		if !c.Broker {
			h.Broker = status.Healthy
		}
	}
	h.Database = status.NotConfigured
	if d.database != nil {
		h.Database = add(d.database)
	}
	h.Probed = !h.Healthy && process.Ready() && d.open(d.redis, now) && (d.database == nil || d.open(d.database, now))
	return h
}

// reasons say why the dependency counts as unhealthy; none when it is healthy. The caller holds Dependencies.mu.
func (w *watch) reasons() []string {
	if !w.asked {
		return []string{w.title + " has not been asked yet."}
	}
	if w.err == nil {
		return nil
	}
	if c, ok := errors.AsType[*hinderedError](w.err); ok {
		return c.Reasons
	}
	return []string{fmt.Sprintf("%s does not answer: %v.", w.title, w.err)}
}
