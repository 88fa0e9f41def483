package dashboard

import (
	"cmp"
	"slices"
	"strings"

	"github.com/runqy/runqy-worker/internal/status"
)

// serviced marks the queues of the reading of which tasks wait for nobody, and returns those of all other queues that
// are so, the most tasks first. What it cannot know is neither marked nor good.
func (d *Dashboard) serviced(v *View, r *reading) []Queue {
	r.queues = slices.Clone(r.queues)
	known := !stale(v.At, r.fleetErr, r.fleetAt) && !stale(v.At, r.systemErr, r.systemAt)
	services := d.services(*r, v.Health)
	self := d.src.Process != nil && v.Health.serving()
	for i := range r.queues {
		q := &r.queues[i]
		switch {
		case q.Err != nil || r.queuesErr != "":
		case known:
			q.judge(services[q.Name])
		case self: // it serves them itself, whoever else does
		case q.Tone == Good:
			q.Tone = Quiet
		}
	}
	if !known {
		return nil
	}
	var elsewhere []Queue
	for _, q := range r.system.Elsewhere {
		if q.Err == nil {
			q.judge(services[q.Name])
		}
		if q.Stranded > 0 || q.Err != nil {
			elsewhere = append(elsewhere, q)
		}
	}
	slices.SortStableFunc(elsewhere, func(a, b Queue) int { return cmp.Compare(b.Stranded, a.Stranded) })
	return elsewhere
}

// judge gives a queue that was read the tone that follows from who serves it.
func (q *Queue) judge(s status.Service) {
	q.Stranded, q.Fault = s.Stranded(q.Depth), s.Fault(q.Depth)
	switch {
	case q.Stranded == 0 && !s.Served() && q.Tone == Good:
		q.Tone = Quiet // nothing waits, and nobody would take it
	case q.Stranded == 0:
	case q.waits(s):
		q.Tone = Warn
	default:
		q.Tone = Bad
	}
}

// waits reports whether all that is wrong is that a worker of the queue has not begun yet.
func (q *Queue) waits(s status.Service) bool {
	return s.Starting > 0 && q.Stranded == q.Pending+q.Due
}

// services tells by queue who serves it. For the worker of this page its own health counts, and not what the fleet last
// saw.
func (d *Dashboard) services(r reading, h Health) map[string]status.Service {
	services := make(map[string]status.Service)
	add := func(q string, serving, starting bool) {
		s := services[q]
		s.Add(serving, starting)
		services[q] = s
	}
	for _, w := range r.fleet {
		if w.Self && d.src.Process != nil {
			continue
		}
		for _, q := range w.Queues {
			add(q, w.Serving, w.Starting)
		}
	}
	if d.src.Process != nil {
		for _, q := range r.queues { // every queue on a worker's page is its own
			add(q.Name, h.serving(), h.starting())
		}
	}
	for q, n := range r.system.Asynq {
		s := services[q]
		s.Asynq = n
		services[q] = s
	}
	return services
}

// serving reports whether the worker with this health takes tasks.
func (h Health) serving() bool {
	return h.Tone == Good || h.Tone == Quiet && h.Status != status.Draining && h.Status != status.Starting
}

// starting reports whether it is about to.
func (h Health) starting() bool { return h.Tone == Quiet && h.Status == status.Starting }

// systemView sums up what is wrong with the queues of the system, and lists who died.
func systemView(r reading, queues []Queue) SystemView {
	s := SystemView{Err: r.systemErr, At: r.systemAt, Unread: r.system.Unread}
	for _, q := range queues {
		if q.Stranded == 0 {
			continue
		}
		s.Unserved++
		s.Stranded += q.Stranded
		if q.Tone == Warn {
			s.Waits++
		}
	}
	s.Deaths, s.MoreDeaths = first(r.system.Deaths, maxDeaths)
	for i := range s.Deaths {
		s.Deaths[i].Reason = firstLine(s.Deaths[i].Reason)
	}
	return s
}

// headline is the state of something, in a word or two.
type headline struct {
	Tone   Tone
	Label  string
	Detail string // more of it, in a sentence; may be empty
}

// SystemState is the state of the whole system: its worst fact.
func (p page) SystemState() headline {
	f, s := p.Fleet, p.System
	none := f.Serving == 0 && !slices.ContainsFunc(p.Queues.List, func(q Queue) bool { return q.Tone == Good })
	switch {
	case p.Queues.Err != "" || f.Err != "" || s.Err != "":
		return headline{Bad, "Unknown", "It cannot be read: " + line(cmp.Or(p.Queues.Err, f.Err, s.Err))}
	case p.QueuesStale() || p.FleetStale() || p.SystemStale():
		return headline{Quiet, "Not known yet", ""}
	case p.Workers() == 0 && s.Stranded > 0:
		return headline{Bad, "No worker", waitingIn(s) + "."}
	case none && f.Starting == 0 && f.Dead+f.Unhealthy > 0:
		return headline{Bad, "No healthy worker", p.workersDetail() + strandedDetail(s)}
	case s.Unserved > s.Waits:
		return headline{Bad, plural(s.Unserved, "queue is not served", "queues are not served"), waitingIn(s) + "."}
	case f.Dead > 0:
		return headline{Bad, plural(f.Dead, "worker is dead", "workers are dead"), p.workersDetail()}
	case f.Unhealthy > 0:
		return headline{Bad, plural(f.Unhealthy, "worker is not healthy", "workers are not healthy"), p.workersDetail()}
	case p.unreadable() > 0:
		return headline{Bad, plural(p.unreadable(), "queue cannot be read", "queues cannot be read"), ""}
	case !p.IsWorker() && p.Health.Tone == Bad: // who is to look after the system cannot
		return headline{Bad, "The checker is not healthy", line(p.Health.Reason().Summary)}
	}
	return p.quietState(none)
}

// quietState is SystemState while nothing is wrong.
func (p page) quietState(none bool) headline {
	f, s := p.Fleet, p.System
	switch {
	case s.Waits > 0:
		return headline{Warn, "Starting", waitingIn(s) + " for workers that are starting."}
	case s.Unread > 0:
		return headline{Warn, plural(s.Unread, "queue is not read", "queues are not read"), "There are too many to read all of them."}
	case p.Workers() == 0 && none:
		return headline{Quiet, "No worker", "No worker is registered, and no task waits."}
	case f.Serving == 0 && f.Starting > 0:
		return headline{Quiet, "Starting", workersAre(f.Starting) + " starting."}
	case none:
		return headline{Quiet, "No worker takes tasks", "No task waits."}
	}
	return headline{Good, "Healthy", p.workersDetail()}
}

// unreadable is the number of queues that could not be read.
func (p page) unreadable() int {
	n := 0
	for _, q := range slices.Concat(p.Queues.List, p.Queues.Elsewhere) {
		if q.Err != nil {
			n++
		}
	}
	return n
}

func waitingIn(s SystemView) string {
	return waiting(s.Stranded) + " in " + plural(s.Unserved, "queue", "queues")
}

func strandedDetail(s SystemView) string {
	if s.Stranded == 0 {
		return ""
	}
	return " " + waitingIn(s) + "."
}

// workersDetail counts the workers.
func (p page) workersDetail() string {
	parts := []string{plural(p.Fleet.Serving, "worker takes tasks", "workers take tasks")}
	if n := p.Fleet.Unhealthy; n > 0 {
		parts = append(parts, grouped(n)+" not healthy")
	}
	if n := p.Fleet.Dead; n > 0 {
		parts = append(parts, grouped(n)+" dead")
	}
	return strings.Join(parts, ", ") + "."
}
