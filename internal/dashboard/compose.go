package dashboard

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// How many rows a table shows at most.
const (
	maxQueues  = 100
	maxActive  = 50
	maxWorkers = 100
	maxDeaths  = 20
	maxStderr  = 20
	// maxText bounds a traceback and a payload, in bytes.
	maxText = 8 << 10
)

// view puts together what one kind of visitor sees.
func (d *Dashboard) view(r reading, by visitor) *View {
	s := d.src
	v := &View{
		Name: s.Name, Version: s.Version, Environment: s.Environment, Host: s.Host, At: time.Now(),
		Trusted: by.trusted, Payloads: by.payloads, Token: by.token(d.csrf), Health: by.health(d.health()),
		Failures: failures(r, by),
	}
	if r.fleetErr == "" && r.queuesErr != "" && r.systemErr != "" { // nothing can be read: the list of the workers is kept a while
		r.fleetErr = r.queuesErr
		if r.queuesAt.Before(r.fleetRead) {
			r.fleetRead = r.queuesAt
		}
	}
	v.Fleet = fleetView(r)
	elsewhere := d.serviced(v, &r)
	v.Queues = d.queues(r)
	v.Queues.Elsewhere, _ = first(elsewhere, maxQueues)
	v.System = systemView(r, append(elsewhere, r.queues...))
	if s.Process == nil {
		return v
	}
	process, active := by.process(s.Process(), s.Actions), by.active(s.Active())
	active.Tasks, active.More = first(active.Tasks, maxActive)
	v.Process, v.Active, v.Load = &process, &active, d.load()
	return v
}

// first returns a copy of at most n elements of the list, and how many more there are.
func first[T any](list []T, n int) (shown []T, more int) {
	shown = slices.Clone(list[:min(len(list), n)])
	return shown, len(list) - len(shown)
}

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}

// health is the present Health, with the time since when its label has been what it is.
func (d *Dashboard) health() Health {
	h := d.src.Health()
	d.mu.Lock()
	defer d.mu.Unlock()
	if h.Label != d.label {
		d.label, d.since = h.Label, time.Now()
	}
	h.Since = d.since
	return h
}

func (d *Dashboard) queues(r reading) Queues {
	out := mostUrgent(r.queues)
	out.Err, out.At = r.queuesErr, r.queuesAt
	for i := range out.List {
		q := &out.List[i]
		pending, latency := d.hist.queue(q.Name)
		q.PendingChart = chart("pending tasks", settled(pending), formatCount)
		q.LatencyChart = durationChart("age of the oldest pending task", settled(latency))
	}
	return out
}

// mostUrgent returns a copy of as many queues as are shown, in their order, and the sum of the rest. A checker of a
// large fleet may have ten thousand, which no browser wants every second.
func mostUrgent(all []Queue) Queues {
	rank := make([]int, len(all))
	for i := range rank {
		rank[i] = i
	}
	if len(all) > maxQueues {
		slices.SortStableFunc(rank, func(i, j int) int {
			a, b := all[i], all[j]
			return cmp.Or(cmp.Compare(urgency(a.Tone), urgency(b.Tone)), cmp.Compare(b.Pending, a.Pending), cmp.Compare(b.Latency, a.Latency))
		})
		slices.Sort(rank[:maxQueues])
	}
	var out Queues
	for n, i := range rank {
		if q := all[i]; n < maxQueues {
			out.List = append(out.List, q)
		} else {
			out.More++
			out.Rest.Pending += q.Pending
			out.Rest.Active += q.Active
			out.Rest.Latency = older(out.Rest.Latency, q.Latency)
		}
	}
	return out
}

// settled leaves the present slot out while nothing was measured in it.
func settled(values []float64) []float64 {
	switch n := len(values); {
	case n == 0:
		return nil
	case math.IsNaN(values[n-1]):
		return values[:n-1]
	default:
		return values[1:]
	}
}

func (d *Dashboard) load() *Load {
	l := d.hist.load()
	out := &Load{
		Rate: l.rate, FailedShare: l.failedShare, P50: l.p50, P95: l.p95,
		RateChart:   chart("finished attempts a second", l.rates, formatCount),
		FailedChart: chart("failed attempts a second", l.failures, formatCount),
		P50Chart:    durationChart("median duration", l.p50s),
		P95Chart:    durationChart("95th percentile of the duration", l.p95s),
	}
	out.Processed, out.Failed = d.src.Totals()
	out.FailedChart.Top = max(out.FailedChart.Top, out.RateChart.Top)
	out.P50Chart.Top = max(out.P50Chart.Top, out.P95Chart.Top)
	return out
}

// durationChart is chart for a series in seconds, on a scale that ends where people's do: at 30 s, not at 50.
func durationChart(what string, values []float64) Chart {
	c := chart(what, values, formatSeconds)
	if c.Top > 1 {
		c.Top = roundUpSeconds(slices.MaxFunc(values, cmp.Compare[float64])) // NaN is the least
	}
	return c
}

// roundUpSeconds returns the least round duration that is not below v, in seconds.
func roundUpSeconds(v float64) float64 {
	const minute, hour, day = 60, 3600, 86400
	for _, top := range []float64{
		1, 2, 5, 10, 30, minute, 2 * minute, 5 * minute, 10 * minute, 30 * minute, hour, 2 * hour, 6 * hour, 12 * hour, day,
	} {
		if top >= v {
			return top
		}
	}
	return roundUp(v/day) * day
}

// chart makes a Chart of a series, with a label in words for screen readers.
func chart(what string, values []float64, format func(float64) string) Chart {
	c := Chart{Values: values, Top: 1}
	last, largest := math.NaN(), math.NaN()
	for _, v := range values {
		if !math.IsNaN(v) {
			last = v
			if math.IsNaN(largest) || v > largest {
				largest = v
			}
		}
	}
	if math.IsNaN(largest) {
		c.Label = fmt.Sprintf("%s over %d minutes: nothing measured yet", what, int(historySpan.Minutes()))
		return c
	}
	c.Label = fmt.Sprintf("%s over %d minutes: now %s, at most %s", what, int(historySpan.Minutes()), format(last), format(largest))
	if largest > 0 {
		c.Top = roundUp(largest)
	}
	return c
}

// roundUp returns the least of 1, 2, 5, 10, 20, … (and 0.5, 0.2, …) that is not below v, which is more than 0.
func roundUp(v float64) float64 {
	ten := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 2, 5, 10} {
		if top := step * ten; top >= v {
			return top
		}
	}
	return v
}

func formatCount(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func formatSeconds(v float64) string {
	d := time.Duration(v * float64(time.Second))
	switch {
	case d >= time.Second:
		d = d.Round(100 * time.Millisecond)
	case d >= time.Millisecond:
		d = d.Round(100 * time.Microsecond)
	}
	return d.String()
}

func failures(r reading, by visitor) Failures {
	f := Failures{Err: r.failuresErr, At: r.failuresAt}
	for _, q := range r.queues {
		f.Retry += q.Retry
		f.Archived += q.Archived
	}
	f.List, _ = first(by.failures(r.failures), maxFailures)
	return f
}

// urgency orders tones: the lower, the sooner an operator should act.
func urgency(t Tone) int { return slices.Index([]Tone{Bad, Warn, Quiet, Good}, t) }

func fleetView(r reading) Fleet {
	f := Fleet{Err: r.fleetErr, At: r.fleetAt}
	if f.Err != "" { // then it is told how old that is which is shown
		f.At = r.fleetRead
	}
	all := slices.Clone(r.fleet)
	for i := range all {
		w := &all[i]
		w.Reason = firstLine(w.Reason)
		if w.Serving {
			f.Serving++
		}
		if w.Starting {
			f.Starting++
		}
		switch {
		case w.State == status.Dead:
			f.Dead++
		case w.Tone == Bad:
			f.Unhealthy++
		case w.State == status.Free:
			f.Free++
		default:
			f.Busy++
		}
	}
	slices.SortStableFunc(all, func(a, b Worker) int {
		return cmp.Or(cmp.Compare(urgency(a.Tone), urgency(b.Tone)), strings.Compare(a.ID, b.ID))
	})
	f.Workers, f.More = first(all, maxWorkers)
	return f
}
