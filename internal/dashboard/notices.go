package dashboard

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// notice is something that is wrong or unusual, beside the health of this worker itself.
type notice struct {
	Tone Tone
	Text string
	Href string // the section that tells more
}

// maxNotices bounds how many are shown; what is worst comes first.
const maxNotices = 6

// Notices are what an operator should know beside this worker's health, the worst first.
func (p page) Notices() []notice {
	var bad, warn []notice
	add := func(tone Tone, href, text string, args ...any) {
		n := notice{Tone: tone, Text: fmt.Sprintf(text, args...), Href: href}
		if tone == Bad {
			bad = append(bad, n)
		} else {
			warn = append(warn, n)
		}
	}
	if e := p.Queues.Err; e != "" {
		add(Bad, "#queues", "The queues cannot be read: %s", line(e))
	}
	for _, q := range p.QueueRows() {
		if p.QueuesStale() {
			break
		}
		switch {
		case q.Err != nil:
			add(Bad, "#queues", "Queue %s cannot be read: %s", name(q.Name), line(q.Problem()))
		case q.Paused && q.Fault == "":
			add(Warn, "#queues", "Queue %s is paused; %s.", name(q.Name), waiting(q.Pending))
		case q.Fault != "":
			add(q.Tone, "#queues", "Queue %s: %s.", name(q.Name), line(q.Fault))
		case p.QueueTone(q) == Warn || p.QueueTone(q) == Bad:
			oldest := "" // its age is not known
			if q.Latency >= 0 {
				oldest = ", the oldest for " + duration(q.Latency)
			}
			add(p.QueueTone(q), "#queues", "Queue %s: %s%s.", name(q.Name), waiting(q.Pending), oldest)
		}
	}
	if l := p.Load; l != nil && l.Rate > 0 && l.FailedShare > 0.1 { // as RunqyTaskFailures has it
		add(Warn, "#load", "%s of the attempts that ended in the last minute failed.", percent(l.FailedShare))
	}
	if c := p.Process; c != nil && c.TooLarge != "" {
		add(Warn, "#process", "The Python process is too large and is not replaced: %s.", line(c.TooLarge))
	}
	if e := p.Failures.Err; e != "" {
		add(Bad, "#failures", "The failed tasks cannot be read: %s", line(e))
	}
	if e := p.Fleet.Err; e != "" {
		add(Bad, "#fleet", "The other workers cannot be read: %s", line(e))
	}
	if e := p.System.Err; e != "" && p.Queues.Err == "" {
		add(Bad, "#queues", "Whether all queues are served is not known: %s", line(e))
	}
	if !p.FleetStale() {
		p.fleetNotices(add)
	}
	if !p.SystemStale() {
		p.deathNotices(add)
	}
	all := slices.Concat(bad, warn)
	if more := len(all) - maxNotices; more > 0 {
		all = append(all[:maxNotices], notice{Tone: Warn, Text: "And " + plural(more, "more thing", "more things") + " below."})
	}
	return all
}

// fleetNotices adds the workers that need attention.
func (p page) fleetNotices(add func(tone Tone, href, text string, args ...any)) {
	if n := p.Fleet.Dead; n > 0 {
		add(Bad, "#fleet", "%s dead%s", workersAre(n), p.which(func(w Worker) bool { return w.State == status.Dead }, n))
	}
	n := p.Fleet.Unhealthy
	if slices.ContainsFunc(p.Fleet.Workers, func(w Worker) bool { return w.Self && w.unhealthy() }) {
		n-- // the banner shows this one
	}
	if n > 0 {
		add(Bad, "#fleet", "%s not healthy%s", workersAre(n), p.which(func(w Worker) bool { return !w.Self && w.unhealthy() }, n))
	}
	for _, w := range p.Fleet.Workers {
		if w.Self && w.Unreachable != "" {
			add(Warn, "#fleet", "This worker cannot be pinged, so others may take it for dead: %s", line(w.Unreachable))
		}
	}
}

// deathNotices tells that workers died within the last hour, which may be over by now.
func (p page) deathNotices(add func(tone Tone, href, text string, args ...any)) {
	n := len(p.System.Deaths) + p.System.MoreDeaths
	if n == 0 {
		return
	}
	last := p.System.Deaths[0]
	who := "1 worker died"
	if n > 1 {
		who = grouped(n) + " workers died"
	}
	add(Warn, "#fleet", "%s within the last hour, %s %s: %s.", who, name(last.ID), at(p.At, last.At).Ago(), tasksBack(last.Tasks))
}

// tasksBack says what is known of the tasks of a worker that died: what a successor or a dispatcher took back is not counted
// everywhere.
func tasksBack(n int) string {
	switch n {
	case 0:
		return "no task is known to have gone back"
	case 1:
		return "1 task went back"
	}
	return grouped(n) + " tasks went back"
}

func waiting(n int64) string {
	switch n {
	case 0:
		return "nothing waits in it"
	case 1:
		return "1 task waits"
	}
	return grouped(n) + " tasks wait"
}

func workersAre(n int) string {
	if n == 1 {
		return "1 worker is"
	}
	return grouped(n) + " workers are"
}

// A queue with more pending tasks, or an older one, gets a notice: the thresholds of the alerts in metrics/rules.
const (
	manyPending = 1000
	longWait    = 5 * time.Minute
)

// QueueTone is how a queue is, also when it can be read and is not paused; how it was says nothing.
func (p page) QueueTone(q Queue) Tone {
	if p.QueuesStale() {
		return Quiet
	}
	if (q.Tone == Good || q.Tone == Quiet) && (q.Pending > manyPending || q.Latency > longWait) {
		return Warn
	}
	return q.Tone
}

// which names the first of n workers of the fleet that match.
func (p page) which(match func(Worker) bool, n int) string {
	const most = 3
	var names []string
	for _, w := range p.Fleet.Workers {
		if match(w) && len(names) < most {
			names = append(names, name(w.ID))
		}
	}
	switch more := n - len(names); {
	case len(names) == 0:
		return "."
	case more > 0:
		return ": " + strings.Join(names, ", ") + " and " + grouped(more) + " more."
	}
	return ": " + strings.Join(names, ", ") + "."
}
