package queue

import (
	"encoding/base64"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	viewPayloadMost = 4 << 10 // bytes of a payload that a view shows
	// viewAfter is how long a task has run when its view is written while it runs: the views of shorter ones are written
	// once, when they end.
	viewAfter = 20 * time.Millisecond
	// viewProgressEvery is how long reported progress may wait to be written.
	viewProgressEvery = 500 * time.Millisecond
	viewsAtOnce       = 64 // views of running tasks in one cycle
)

// The views are the readable hashes asynq:t:<id>. They ride in the cycles: with the outcome of a task, or while it runs.

// completedView returns the fields of a new view of a task that has succeeded.
func completedView(a *attempt, now time.Time, took time.Duration) []string {
	return append(whatItIs(a, "completed"), "duration_seconds", viewSeconds(took), "completed", viewTime(now))
}

// startedView returns all fields of a task that runs. They replace what the view was before.
func startedView(a *attempt) []string {
	return append(whatItIs(a, "active"), "suspicions", itoa(a.task.Suspicions), "recoveries", itoa(a.task.Recoveries),
		"completed", "", "duration_seconds", "", "error", "", "progress", "", "progress_message", "")
}

func whatItIs(a *attempt, state string) []string {
	t := a.task
	return append(make([]string, 0, 2*14), "id", t.ID, "queue", t.Queue, "worker", a.loop.opts.WorkerID, "state", state,
		"type", t.Type, "payload", PayloadText(t.Payload), "retried", itoa(t.RetryCount), "max_retry", itoa(t.MaxRetry),
		"timeout", viewSeconds(t.Timeout), "enqueued", viewTime(t.Enqueued), "started", viewTime(a.began), "crashes", itoa(t.Crashes))
}

// set replaces the value of a field.
func set(fields []string, name, value string) []string {
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == name {
			fields[i+1] = value
			return fields
		}
	}
	return append(fields, name, value)
}

// endView returns the fields that a task's end changes; all of them, when none was written while it ran.
func (l *loop) endView(a *attempt, now time.Time, took time.Duration, state, failure string, retried int) (fields []string, anew bool) {
	if !l.opts.Views {
		return nil, false
	}
	if a.viewed.IsZero() {
		if t := a.task; state == "completed" && t.Suspicions == 0 && t.Recoveries == 0 {
			return l.withProgress(a, completedView(a, now, took)), true
		}
		fields, anew = startedView(a), true
	}
	fields = set(fields, "state", state)
	if !a.began.IsZero() {
		fields = set(fields, "duration_seconds", viewSeconds(took))
	}
	if state == "completed" {
		fields = set(fields, "completed", viewTime(now))
	}
	if failure != "" {
		fields = set(fields, "error", failure)
		fields = set(fields, "retried", itoa(retried))
	}
	return l.withProgress(a, fields), anew
}

// withProgress adds what was reported and not yet written.
func (l *loop) withProgress(a *attempt, fields []string) []string {
	p, changed := l.table.takeProgress(a)
	if !changed {
		return fields
	}
	for i, f := 0, p.fields(); i < len(f); i += 2 {
		fields = set(fields, f[i], f[i+1])
	}
	return fields
}

// returnView returns the fields of a task that goes back without having run. They say what it is, since it may have no
// view yet; what is known of an earlier attempt stays.
func (l *loop) returnView(a *attempt, state string) []string {
	if !l.opts.Views {
		return nil
	}
	return set(set(withoutRun(whatItIs(a, state)), "started", ""), "worker", "")
}

// withoutRun adds the fields that have nothing to say of a task which has not run.
func withoutRun(fields []string) []string {
	return append(fields, "completed", "", "duration_seconds", "", "progress", "", "progress_message", "")
}

// viewArgs returns the arguments of the view script.
func viewArgs(ttl time.Duration, fields []string) []any {
	args := make([]any, 0, 1+len(fields))
	args = append(args, ttl.Milliseconds())
	for _, f := range fields {
		args = append(args, f)
	}
	return args
}

func (p progress) fields() []string {
	fraction := ""
	if p.reported {
		fraction = strconv.FormatFloat(math.Round(p.fraction*1e4)/1e4, 'f', -1, 64)
	}
	return []string{"progress", fraction, "progress_message", p.message}
}

// viewsDue reports whether views of running tasks should be written now.
func (l *loop) viewsDue(q *queueState, now time.Time) bool {
	at := l.nextView(q)
	return !at.IsZero() && !now.Before(at)
}

// nextView is when views of running tasks are to be written next; zero: there are none.
func (l *loop) nextView(q *queueState) time.Time {
	if !l.opts.Views || q.busy {
		return time.Time{}
	}
	var next time.Time
	q.unseen = dropEnded(q.unseen)
	if len(q.unseen) > 0 {
		next = q.unseen[0].began.Add(viewAfter)
	}
	q.moved = dropEnded(q.moved)
	for _, a := range q.moved {
		if at := a.viewed.Add(viewProgressEvery); !a.viewed.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// dropEnded drops the attempts at the front that are over.
func dropEnded(attempts []*attempt) []*attempt {
	n := 0
	for n < len(attempts) && attempts[n].ended {
		attempts[n] = nil
		n++
	}
	return attempts[n:]
}

// takeViews returns what the next cycle writes of running tasks.
func (l *loop) takeViews(q *queueState, now time.Time) []viewWrite {
	if !l.opts.Views || len(q.unseen) == 0 && len(q.moved) == 0 {
		return nil
	}
	var views []viewWrite
	unseen := q.unseen
	for len(unseen) > 0 && len(views) < viewsAtOnce && now.Sub(unseen[0].began) >= viewAfter {
		if a := unseen[0]; !a.ended && a.viewed.IsZero() {
			a.viewed = now
			views = append(views, viewWrite{id: a.task.ID, owner: a.owner, fields: l.withProgress(a, startedView(a)), anew: true})
		}
		unseen[0] = nil
		unseen = unseen[1:]
	}
	q.unseen = unseen
	moved := q.moved[:0]
	for _, a := range q.moved {
		switch {
		case a.ended:
		case len(views) >= viewsAtOnce, a.viewed.IsZero(), now.Sub(a.viewed) < viewProgressEvery:
			moved = append(moved, a)
		default:
			a.viewed = now
			if p, changed := l.table.takeProgress(a); changed {
				views = append(views, viewWrite{id: a.task.ID, owner: a.owner, fields: p.fields()})
			}
		}
	}
	clear(q.moved[len(moved):])
	q.moved = moved
	return views
}

func itoa(n int) string { return strconv.Itoa(n) }

// PayloadText shows the beginning of a payload, 4 KiB at most: as it is when it is text, else in base64.
func PayloadText(b []byte) string {
	cut := b[:min(len(b), viewPayloadMost)]
	text := strings.ToValidUTF8(string(cut), "")
	if len(cut)-len(text) < utf8.UTFMax && utf8.ValidString(text) { // at most the last character was cut in two
		if len(b) > len(cut) {
			return text + "… (" + strconv.Itoa(len(b)) + " bytes)"
		}
		if len(text) == len(b) {
			return text
		}
	}
	return "base64:" + base64.StdEncoding.EncodeToString(cut)
}

// viewTime is RFC 3339 in UTC with milliseconds, or empty.
func viewTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// viewSeconds is a plain decimal number of seconds.
func viewSeconds(d time.Duration) string {
	return strconv.FormatFloat(d.Round(time.Microsecond).Seconds(), 'f', -1, 64)
}
