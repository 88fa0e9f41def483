package metrics

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// exemplarLabel is the one label of a duration's exemplar.
const exemplarLabel = "task_id"

// Set counts what the worker does. All methods may be called from any goroutine and never block.
type Set struct {
	processed *prometheus.CounterVec
	failed    *prometheus.CounterVec
	fenced    *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	crashes   *prometheus.CounterVec
	restarts  *prometheus.CounterVec
}

// New registers the whole metric set with reg and returns the part of it that is counted by hand. Serve the gatherer
// behind the same reg with [Handler].
//
// It fails when src is incomplete, or when reg already holds one of the metrics; reg is then left as it was.
func New(reg prometheus.Registerer, src Sources) (*Set, error) {
	if reg == nil {
		return nil, errors.New("metrics: no registry given; pass prometheus.NewRegistry()")
	}
	if err := src.validate(); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	s := newSet()
	s.seed(src)

	own := []prometheus.Collector{s.processed, s.failed, s.fenced, s.duration, s.crashes, s.restarts}
	if err := registerAll(reg, append(own, collectorsFor(src)...)); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return s, nil
}

func newSet() *Set {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	return &Set{
		processed: counter("runqy_tasks_processed_total",
			"Attempts that this worker finished, whether they succeeded or failed; a task that is retried twice counts three times.", "queue"),
		failed: counter("runqy_tasks_failed_total",
			"Attempts that this worker finished and that failed; a part of runqy_tasks_processed_total.", "queue"),
		fenced: counter("runqy_tasks_fenced_total",
			"Acknowledgements of this worker that were dropped because the task had meanwhile been given to another attempt.", "queue"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "runqy_task_duration_seconds",
			Help:    "Time from handing an attempt to the Python process to its answer.",
			Buckets: classicBuckets(),
			// A factor of 1.1 makes eight buckets to each power of two. 1 ms to 30 min are 21 powers of two, so 200
			// buckets hold that whole range at full resolution; tasks spread wider than that reset the histogram at
			// most once an hour and are widened otherwise.
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  200,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"queue"}),
		crashes: counter("runqy_worker_crashes_total",
			"Exits of the Python process that nobody asked for, by cause.", "cause"),
		restarts: counter("runqy_worker_restarts_total",
			"Starts of the Python process after the first one, by cause.", "cause"),
	}
}

// classicBuckets spans 1 ms to 30 min in steps of two to three.
func classicBuckets() []float64 {
	return []float64{
		0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
		1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800,
	}
}

// seed creates every series whose labels are known beforehand. A counter that appears at its first event has no zero
// before it, and rate() and increase() then never see that event.
func (s *Set) seed(src Sources) {
	for _, q := range src.QueueNames {
		s.processed.WithLabelValues(q)
		s.failed.WithLabelValues(q)
		s.fenced.WithLabelValues(q)
		s.duration.WithLabelValues(q)
	}
	for _, cause := range src.CrashCauses {
		s.crashes.WithLabelValues(cause)
	}
	for _, cause := range src.RestartCauses {
		s.restarts.WithLabelValues(cause)
	}
}

// TaskFinished counts one finished attempt that took d, and keeps taskID as the exemplar of its duration. An id that
// cannot be an exemplar (not UTF-8, or longer than OpenMetrics allows) is left out; the duration counts all the same.
func (s *Set) TaskFinished(queue, taskID string, d time.Duration, failed bool) {
	s.processed.WithLabelValues(queue).Inc()
	if failed {
		s.failed.WithLabelValues(queue).Inc()
	}
	seconds := max(d, 0).Seconds()
	h := s.duration.WithLabelValues(queue)
	if eo, ok := h.(prometheus.ExemplarObserver); ok && fitsExemplar(taskID) {
		eo.ObserveWithExemplar(seconds, prometheus.Labels{exemplarLabel: taskID})
		return
	}
	h.Observe(seconds)
}

// fitsExemplar reports whether client_golang would take id as an exemplar; it panics on those it would not, and ids are
// chosen by whoever enqueues.
func fitsExemplar(id string) bool {
	return id != "" && utf8.ValidString(id) &&
		utf8.RuneCountInString(exemplarLabel)+utf8.RuneCountInString(id) <= prometheus.ExemplarMaxRunes
}

// Crashed counts one exit of the Python process that nobody asked for.
func (s *Set) Crashed(cause string) { s.crashes.WithLabelValues(cause).Inc() }

// Restarted counts one start of the Python process after the first.
func (s *Set) Restarted(cause string) { s.restarts.WithLabelValues(cause).Inc() }

// TaskFenced counts one acknowledgement that came too late: the task belonged to another attempt by then.
func (s *Set) TaskFenced(queue string) { s.fenced.WithLabelValues(queue).Inc() }

// registerAll registers all of cs or none.
func registerAll(reg prometheus.Registerer, cs []prometheus.Collector) error {
	for i, c := range cs {
		if err := reg.Register(c); err != nil {
			for _, done := range cs[:i] {
				reg.Unregister(done)
			}
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}
