package health

import (
	"errors"
	"fmt"

	"github.com/runqy/runqy-worker/internal/status"
)

// This file composes the health and its reasons: that of the Python process first, then Redis's, then the database's.

// OfProcess returns the health of a worker as far as its Python process decides it: Healthy, Status, Worker and a
// reason. reason says why the process is not healthy; it is ignored when it is.
func OfProcess(s status.Status, healthy bool, reason status.Reason) status.Health {
	h := status.Health{Healthy: healthy, Status: s, Worker: status.Healthy}
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

// Health adds to the health of the process what Redis and the database answered last. It never blocks. State is for the
// caller to fill in.
func (d *Dependencies) Health(process status.Health) status.Health {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := process
	add := func(w *watch) status.Check {
		reasons := w.reasons()
		if len(reasons) == 0 {
			return status.Healthy
		}
		h.Healthy = false
		h.Reasons = h.Reasons[:len(h.Reasons):len(h.Reasons)]
		for _, reason := range reasons {
			h.Reasons = append(h.Reasons, status.Reason{Summary: reason})
		}
		return status.Unhealthy
	}
	h.Broker = add(d.redis)
	if c, ok := errors.AsType[*hinderedError](d.redis.err); ok {
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
