package dashboard

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// sheet is a view with what the templates derive from it.
type sheet struct {
	*View
	Build string
}

// sign is the tone as a character, for the title of the window, where there is no colour.
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

// Title is the window's.
func (s sheet) Title() string {
	return s.Health.Tone.sign() + " " + s.Health.Word + " – " + name(s.Name)
}

// check is the answer of one of the checks that make up the health.
type check struct {
	What, Answer string
	Tone         Tone
}

// Checks are what the health of this worker is made of.
func (s sheet) Checks() []check {
	var out []check
	add := func(what string, answer status.Check) {
		c := check{What: what, Answer: string(answer), Tone: Quiet}
		switch answer {
		case "":
			return
		case status.Healthy:
			c.Tone = Good
		case status.Unhealthy:
			c.Tone = s.Health.Tone // quiet while it starts
			if c.Tone == Good {
				c.Tone = Bad
			}
		}
		out = append(out, c)
	}
	if s.Process != nil {
		add("Python process", s.Health.Worker)
	}
	add("Redis", s.Health.Broker)
	add("Database", s.Health.Database)
	switch {
	case s.Active == nil: // it runs no tasks
	case !s.Health.Busy:
		out = append(out, s.taken())
	case s.Health.Tone == Good:
		out = append(out, check{"New tasks", "wait for a free slot", Quiet})
	default:
		out = append(out, check{"New tasks", "are not taken", s.Health.Tone})
	}
	return out
}

// Word is the worker's state, in which BUSY is who has enough to do and not who cannot.
func (p Peer) Word() string {
	if p.sick() {
		return "not healthy"
	}
	return string(p.State)
}

// sick tells of a worker that beats and says that it is not healthy.
func (p Peer) sick() bool { return p.State != status.Dead && p.Tone == Bad }

// Serves names the worker's queues.
func (p Peer) Serves() string { return strings.Join(p.Queues, ", ") }

// taken tells from which queues a worker takes tasks that would take some.
func (s sheet) taken() check {
	c := check{"New tasks", "are taken", Good}
	paused, all := 0, len(s.Queues.Count)
	for _, q := range s.Queues.Count {
		if q.Paused {
			paused++
		}
	}
	switch {
	case paused == 0 || s.QueuesOld():
	case paused < all || s.Queues.More > 0:
		c.Answer, c.Tone = fmt.Sprintf("are taken, from %d of %s", all-paused, plural(all, "queue", "queues")), Quiet
		if s.Queues.More > 0 {
			c.Answer = fmt.Sprintf("are taken, but not from %s", plural(paused, "queue", "queues"))
		}
	case all == 1:
		c.Answer, c.Tone = "are not taken: the queue is paused", Warn
	default:
		c.Answer, c.Tone = "are not taken: every queue is paused", Warn
	}
	return c
}

// Waits tells whether this worker stays as it is until a person acts.
func (s sheet) Waits() bool { return s.Process != nil && s.Process.Status == "degraded" }

// totals are all queues together.
type totals struct {
	Pending, Active int64
	Oldest          time.Duration
}

// Totals adds the queues up.
func (s sheet) Totals() totals {
	var t totals
	for _, q := range append(slices.Clip(s.Queues.Count), s.Queues.Rest) {
		t.Pending += q.Pending
		t.Active += q.Active
		t.Oldest = max(t.Oldest, q.Latency)
	}
	return t
}

// Failed is how many tasks wait for another attempt or are given up.
func (s sheet) Failed() int64 { return s.Failures.Retry + s.Failures.Archived }

// Running is how many tasks the Python process has.
func (s sheet) Running() int {
	if s.Active == nil {
		return 0
	}
	return len(s.Active.Tasks) + s.Active.More
}

// Workers is how many there are in the fleet, the dead included.
func (s sheet) Workers() int { return len(s.Fleet.Workers) + s.Fleet.More }

// form is a button that does something.
type form struct {
	Action, Token, Queue, ID string
	Label, About             string // About is for those who hear the label alone
	Confirm                  string // the question that is asked first; empty: none
	Danger                   bool
}

// RestartForm restarts the Python process.
func (s sheet) RestartForm() form {
	f := form{Action: "restart", Token: s.Token, Label: "Restart", About: "the Python process"}
	if n := s.Running(); n > 0 {
		f.Confirm = fmt.Sprintf("Restart the Python process? %s in it now.", are(n))
	} else {
		f.Confirm = "Restart the Python process?"
	}
	return f
}

func are(tasks int) string {
	if tasks == 1 {
		return "1 task is"
	}
	return grouped(tasks) + " tasks are"
}

// PauseForm pauses a queue, or resumes it.
func (s sheet) PauseForm(q Queue) form {
	if q.Paused {
		return form{Action: "resume", Token: s.Token, Queue: q.Name, Label: "Resume", About: "queue " + name(q.Name)}
	}
	return form{
		Action: "pause", Token: s.Token, Queue: q.Name, Label: "Pause", About: "queue " + name(q.Name),
		Confirm: "Pause the queue " + name(q.Name) + "? No worker takes its tasks until it is resumed.",
	}
}

// RetryForm runs a failed task again, now.
func (s sheet) RetryForm(f Failure) form {
	return form{Action: "retry", Token: s.Token, Queue: f.Queue, ID: f.ID, Label: "Retry now", About: "task " + name(f.ID)}
}

// DeleteForm deletes a failed task.
func (s sheet) DeleteForm(f Failure) form {
	return form{
		Action: "delete", Token: s.Token, Queue: f.Queue, ID: f.ID, Label: "Delete", About: "task " + name(f.ID), Danger: true,
		Confirm: "Delete the task " + name(f.ID) + "? Its payload is lost, and nothing brings it back.",
	}
}

// Tries tells which of its attempts has failed.
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

// notice is something that is wrong or unusual, beside the health of this worker itself.
type notice struct {
	Tone Tone
	Text string
	Href string // the section that tells more
}

// maxNotices bounds how many are shown; what is worst comes first.
const maxNotices = 6

// Notices are what an operator should know beside this worker's health, the worst first.
func (s sheet) Notices() []notice {
	var bad, warn []notice
	add := func(tone Tone, href, text string, args ...any) {
		n := notice{Tone: tone, Text: fmt.Sprintf(text, args...), Href: href}
		if tone == Bad {
			bad = append(bad, n)
		} else {
			warn = append(warn, n)
		}
	}
	if e := s.Queues.Err; e != "" {
		add(Bad, "#queues", "The queues cannot be read: %s", line(e))
	}
	for _, q := range s.Queues.Count {
		if s.QueuesOld() {
			break
		}
		switch {
		case q.Err != "":
			add(Bad, "#queues", "Queue %s cannot be read: %s", name(q.Name), line(q.Err))
		case q.Paused:
			add(Warn, "#queues", "Queue %s is paused; %s.", name(q.Name), waiting(q.Pending))
		case q.Unserved:
			add(Bad, "#queues", "%s in %s and no healthy worker serves it.", waiting(q.Pending), name(q.Name))
		case s.QueueTone(q) != Good:
			add(s.QueueTone(q), "#queues", "Queue %s: %s, the oldest for %s.", name(q.Name), waiting(q.Pending), duration(q.Latency))
		}
	}
	if l := s.Load; l != nil && l.Rate > 0 && l.FailedShare > 0.1 { // as RunqyTaskFailures has it
		add(Warn, "#load", "%s of the attempts that ended in the last minute failed.", percent(l.FailedShare))
	}
	if e := s.Failures.Err; e != "" {
		add(Bad, "#failures", "The failed tasks cannot be read: %s", line(e))
	}
	if e := s.Fleet.Err; e != "" {
		add(Bad, "#fleet", "The other workers cannot be read: %s", line(e))
	}
	if !s.FleetOld() {
		s.fleetNotices(add)
	}
	all := slices.Concat(bad, warn)
	if more := len(all) - maxNotices; more > 0 {
		all = append(all[:maxNotices], notice{Tone: Warn, Text: "And " + plural(more, "more thing", "more things") + " below."})
	}
	return all
}

// fleetNotices tells of the workers that need attention.
func (s sheet) fleetNotices(add func(tone Tone, href, text string, args ...any)) {
	if n := s.Fleet.Dead; n > 0 {
		add(Bad, "#fleet", "%s dead%s", workersAre(n), s.which(func(p Peer) bool { return p.State == status.Dead }, n))
	}
	n := s.Fleet.Sick
	if slices.ContainsFunc(s.Fleet.Workers, func(p Peer) bool { return p.Self && p.sick() }) {
		n-- // the banner tells of this one
	}
	if n > 0 {
		add(Bad, "#fleet", "%s not healthy%s", workersAre(n), s.which(func(p Peer) bool { return !p.Self && p.sick() }, n))
	}
	for _, p := range s.Fleet.Workers {
		if p.Self && p.Unreachable != "" {
			add(Warn, "#fleet", "This worker cannot be pinged, so others may take it for dead: %s", line(p.Unreachable))
		}
	}
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

// A queue with more tasks, or an older one, is worth a look: the thresholds of the alerts in metrics/rules.
const (
	manyPending = 1000
	longWait    = 5 * time.Minute
)

// QueueTone is how a queue is, also when it can be read and is not paused; how it was says nothing.
func (s sheet) QueueTone(q Queue) Tone {
	if s.QueuesOld() {
		return Quiet
	}
	if q.Tone == Good && (q.Pending > manyPending || q.Latency > longWait) {
		return Warn
	}
	return q.Tone
}

// which names the first of n workers of the fleet that match.
func (s sheet) which(match func(Peer) bool, n int) string {
	const most = 3
	var names []string
	for _, p := range s.Fleet.Workers {
		if match(p) && len(names) < most {
			names = append(names, name(p.ID))
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

// badge is a word with a tone.
type badge struct {
	Tone Tone
	Word string
}

// ProcessBadge is the state of the Python process.
func (s sheet) ProcessBadge() badge { return badge{s.Process.Tone, name(s.Process.Status)} }

// ShowStderr tells whether the last lines of standard error are the first thing to read.
func (s sheet) ShowStderr() bool { return s.Process.Tone == Bad || s.Process.Tone == Warn }

// FailuresMore is how many failed tasks are not shown.
func (s sheet) FailuresMore() int64 { return s.Failed() - int64(len(s.Failures.List)) }
