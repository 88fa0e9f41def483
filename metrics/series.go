package metrics

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// exemplarLabel is the one label of a duration's exemplar.
	exemplarLabel = "task_id"

	// maxTypes and maxTypeLength bound what a Python process can make the worker export.
	maxTypes      = 100
	maxTypeLength = 128
	// maxSeeded is for how many pairs of queue and type the histograms exist before the first attempt. Each has more
	// than twenty series, and of many queues and types few pairs are ever in use.
	maxSeeded = 100
)

// queueSeries are the series of one queue. They are kept, because at full load several are counted for every task, and
// a lookup by label values costs locks, hashes and copies.
type queueSeries struct {
	retried, archived, lost, fenced prometheus.Counter
	wait                            prometheus.Observer

	byType atomic.Pointer[map[string]*attemptSeries] // a map that is only read; Set.mu guards its replacement
	other  *attemptSeries
}

// attemptSeries are the series of one queue and type.
type attemptSeries struct {
	processed, failed prometheus.Counter
	duration          func() *durationSeries // made when it is first called
}

// exemplarHistogram is what a histogram of client_golang can do.
type exemplarHistogram interface {
	prometheus.Histogram
	prometheus.ExemplarObserver
}

// durationSeries is a histogram with now and then an exemplar.
type durationSeries struct {
	histogram exemplarHistogram
	noted     []atomic.Int64 // the second of each classic bucket's last exemplar
}

// queue returns the series of a queue, which are made if there are none.
func (s *Set) queue(name string) *queueSeries {
	if q := (*s.queues.Load())[name]; q != nil {
		return q
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := *s.queues.Load()
	if q := known[name]; q != nil {
		return q
	}
	value := label(name)
	q := &queueSeries{
		retried: s.retried.WithLabelValues(value), archived: s.archived.WithLabelValues(value),
		lost: s.lost.WithLabelValues(value), fenced: s.fenced.WithLabelValues(value),
		wait: s.wait.WithLabelValues(value), other: s.newAttempts(value, OtherType),
	}
	q.byType.Store(&map[string]*attemptSeries{})
	s.addTypes(q, value)
	all := maps.Clone(known)
	all[name] = q
	s.queues.Store(&all)
	return q
}

// attempts returns the series of a type.
func (q *queueSeries) attempts(typ string) *attemptSeries {
	if a := (*q.byType.Load())[typ]; a != nil {
		return a
	}
	return q.other
}

// announce makes the series of these types in every queue.
func (s *Set) announce(types []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, typ := range types {
		if typ != "" && len(typ) <= maxTypeLength && len(s.types) < maxTypes && !slices.Contains(s.types, typ) {
			s.types = append(s.types, typ)
		}
	}
	for name, q := range *s.queues.Load() {
		s.addTypes(q, label(name))
	}
	s.seedDurations()
}

// addTypes makes the series of those types that a queue has none of. The caller holds mu.
func (s *Set) addTypes(q *queueSeries, queue string) {
	all := maps.Clone(*q.byType.Load())
	for _, typ := range s.types {
		if all[typ] == nil {
			all[typ] = s.newAttempts(queue, label(typ))
		}
	}
	q.byType.Store(&all)
}

// seedDurations makes all the histograms, unless they are too many. The caller holds mu.
func (s *Set) seedDurations() {
	queues := *s.queues.Load()
	if len(queues)*(1+len(s.types)) > maxSeeded {
		return
	}
	for _, q := range queues {
		q.other.duration()
		for _, a := range *q.byType.Load() {
			a.duration()
		}
	}
}

func (s *Set) newAttempts(queue, typ string) *attemptSeries {
	return &attemptSeries{
		processed: s.processed.WithLabelValues(queue, typ), failed: s.failed.WithLabelValues(queue, typ),
		duration: sync.OnceValue(func() *durationSeries {
			return &durationSeries{
				histogram: s.duration.WithLabelValues(queue, typ).(exemplarHistogram),
				noted:     make([]atomic.Int64, len(durationBuckets)+1),
			}
		}),
	}
}

// observe counts a duration, with the task as its exemplar unless its bucket got one within this second: an exemplar
// costs more than all the rest, and the next scrape sees only the last of each bucket.
func (d *durationSeries) observe(seconds float64, taskID string) {
	bucket, _ := slices.BinarySearch(durationBuckets, seconds)
	now := time.Now().Unix()
	if last := d.noted[bucket].Load(); last != now && fitsExemplar(taskID) && d.noted[bucket].CompareAndSwap(last, now) {
		d.histogram.ObserveWithExemplar(seconds, prometheus.Labels{exemplarLabel: taskID})
		return
	}
	d.histogram.Observe(seconds)
}

// fitsExemplar reports whether client_golang takes id as an exemplar; it panics on those it would not, and ids are
// chosen by clients.
func fitsExemplar(id string) bool {
	return id != "" && utf8.ValidString(id) &&
		utf8.RuneCountInString(exemplarLabel)+utf8.RuneCountInString(id) <= prometheus.ExemplarMaxRunes
}
