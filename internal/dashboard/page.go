package dashboard

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// page is a View with what the templates derive from it.
type page struct {
	*View
	Build string
}

// sign is the tone as a character, for the title of the window, which has no colour.
func (t Tone) sign() string {
	switch t {
	case Good:
		return "✓"
	case Warn:
		return "▲"
	case Bad:
		return "✕"
	case Quiet:
	}
	return "●"
}

// IsWorker reports whether the page is a worker's, and not the fleet's.
func (p page) IsWorker() bool { return p.Process != nil }

// MainTone is the tone of the page: of its worker, or of the system where it has none.
func (p page) MainTone() Tone {
	if p.IsWorker() {
		return p.Health.Tone
	}
	return p.SystemState().Tone
}

// Title is the title of the window. A worker's has the state of the system too, where that is worse.
func (p page) Title() string {
	system := p.SystemState()
	if !p.IsWorker() {
		return system.Tone.sign() + " " + system.Label + " – " + name(p.Name)
	}
	title := p.Health.Tone.sign() + " " + p.Health.Label + " – " + name(p.Name)
	if urgency(system.Tone) < urgency(p.Health.Tone) && system.Tone != Quiet {
		title += " – system: " + system.Tone.sign() + " " + system.Label
	}
	return title
}

// QueueRows are the queues as they are listed: those of the page, then those elsewhere that have a fault.
func (p page) QueueRows() []Queue { return slices.Concat(p.Queues.List, p.Queues.Elsewhere) }

// Elsewhere reports whether a queue of the list is not this worker's.
func (p page) Elsewhere(q Queue) bool {
	return slices.ContainsFunc(p.Queues.Elsewhere, func(e Queue) bool { return e.Name == q.Name })
}

// Scope says of which queues the page's figures are.
func (p page) Scope() string {
	if p.IsWorker() {
		return "this worker's queues"
	}
	return "all queues"
}

// check is the outcome of one of the checks that the health is made of.
type check struct {
	What, Answer string
	Tone         Tone
}

// Checks are what the health of this worker is made of.
func (p page) Checks() []check {
	var out []check
	add := func(what string, answer status.Check) {
		c := check{What: what, Answer: string(answer), Tone: Quiet}
		switch answer {
		case "":
			return
		case status.Healthy:
			c.Tone = Good
		case status.Unhealthy:
			c.Tone = p.Health.Tone // quiet while it starts
			if c.Tone == Good {
				c.Tone = Bad
			}
		}
		out = append(out, c)
	}
	if !p.IsWorker() { // of a checker only whether it sees the system
		c := check{"Redis", "answers", Good}
		switch p.Health.Broker {
		case status.Healthy:
		case status.Unhealthy:
			c.Answer, c.Tone = "does not answer or refuses", Bad
		default:
			c.Answer, c.Tone = "is not known yet", Quiet
		}
		return []check{c}
	}
	add("Python process", p.Health.Worker)
	add("Redis", p.Health.Broker)
	add("Database", p.Health.Database)
	switch {
	case p.Active == nil: // it runs no tasks
	case p.Health.State != status.Busy:
		out = append(out, p.taken())
	case p.Health.Tone == Good:
		out = append(out, check{"New tasks", "wait for a free slot", Quiet})
	default:
		out = append(out, check{"New tasks", "are not taken", p.Health.Tone})
	}
	return out
}

// Label is the worker's state; a BUSY worker that is not healthy is called so.
func (w Worker) Label() string {
	if w.unhealthy() {
		return "not healthy"
	}
	return string(w.State)
}

// ShownStatus is the worker's status, which a worker that does not answer has none of.
func (w Worker) ShownStatus() status.Status {
	if w.State == status.Dead && w.Status != status.Gone {
		return ""
	}
	return w.Status
}

// unhealthy reports whether the worker has a heartbeat that says that it is not healthy.
func (w Worker) unhealthy() bool { return w.State != status.Dead && w.Tone == Bad }

// Serves names the worker's queues.
func (w Worker) Serves() string { return strings.Join(w.Queues, ", ") }

// taken says from which queues a FREE worker takes tasks.
func (p page) taken() check {
	c := check{"New tasks", "are taken", Good}
	paused, all := 0, len(p.Queues.List)
	for _, q := range p.Queues.List {
		if q.Paused {
			paused++
		}
	}
	switch {
	case paused == 0 || p.QueuesStale():
	case paused < all || p.Queues.More > 0:
		c.Answer, c.Tone = fmt.Sprintf("are taken, from %d of %s", all-paused, plural(all, "queue", "queues")), Quiet
		if p.Queues.More > 0 {
			c.Answer = fmt.Sprintf("are taken, but not from %s", plural(paused, "queue", "queues"))
		}
	case all == 1:
		c.Answer, c.Tone = "are not taken: the queue is paused", Warn
	default:
		c.Answer, c.Tone = "are not taken: every queue is paused", Warn
	}
	return c
}

// NeedsRestart reports whether this worker stays as it is until an operator acts.
func (p page) NeedsRestart() bool {
	return p.Process != nil && p.Process.Status == string(status.Degraded)
}

// totals are all queues together.
type totals struct {
	Pending, Active int64
	Oldest          time.Duration // negative: not known
}

// Totals adds the queues up.
func (p page) Totals() totals {
	var t totals
	for _, q := range append(slices.Clip(p.Queues.List), p.Queues.Rest) {
		t.Pending += q.Pending
		t.Active += q.Active
		t.Oldest = older(t.Oldest, q.Latency)
	}
	return t
}

// older is the higher of two ages. One that is not known hides an age of 0, since that says that nothing waits.
func older(a, b time.Duration) time.Duration {
	if oldest := max(a, b); oldest > 0 {
		return oldest
	}
	return min(a, b)
}

// Failed is the number of tasks that wait for another attempt or are archived.
func (p page) Failed() int64 { return p.Failures.Retry + p.Failures.Archived }

// Running is the number of tasks in the Python process.
func (p page) Running() int {
	if p.Active == nil {
		return 0
	}
	return len(p.Active.Tasks) + p.Active.More
}

// Workers is the number of workers in the fleet, the dead included.
func (p page) Workers() int { return len(p.Fleet.Workers) + p.Fleet.More }

// Tries says which attempt has failed.
func (f Failure) Tries() string {
	tries := grouped(f.Attempts) + " of " + grouped(f.MaxAttempts)
	switch {
	case f.State != status.Archived:
		return "attempt " + tries
	case f.Attempts < f.MaxAttempts:
		return "given up after " + tries
	}
	return "given up after " + plural(f.Attempts, "attempt", "attempts")
}

// badge is a label with a tone.
type badge struct {
	Tone  Tone
	Label string
}

// ProcessBadge is the state of the Python process.
func (p page) ProcessBadge() badge { return badge{p.Process.Tone, name(p.Process.Status)} }

// ShowStderr reports whether the last lines of standard error are open without a click.
func (p page) ShowStderr() bool { return p.Process.Tone == Bad || p.Process.Tone == Warn }

// FailuresMore is the number of failed tasks that are not shown.
func (p page) FailuresMore() int64 { return p.Failed() - int64(len(p.Failures.List)) }
