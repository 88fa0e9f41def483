package metrics

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// OtherType is the label type of attempts whose type the Python process has not announced.
const OtherType = "other"

// durationBuckets span 1 ms to 30 min in steps of two to three.
var durationBuckets = []float64{
	0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
	1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800,
}

// waitBuckets span 1 ms to an hour in steps of five: waits differ by more than durations do, and every bucket of every
// queue is a part of each scrape.
var waitBuckets = []float64{0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 300, 3600}

// Set counts what the worker does. All methods may be called from any goroutine and never block.
type Set struct {
	processed *prometheus.CounterVec
	failed    *prometheus.CounterVec
	retried   *prometheus.CounterVec
	archived  *prometheus.CounterVec
	lost      *prometheus.CounterVec
	fenced    *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	wait      *prometheus.HistogramVec
	crashes   *prometheus.CounterVec
	restarts  *prometheus.CounterVec
	dropped   prometheus.Counter // views

	// queues are the series of each queue, in a map that is only read: what is added replaces it.
	queues atomic.Pointer[map[string]*queueSeries]

	mu    sync.Mutex // guards the rest, and every replacement of a map
	types []string   // announced so far
}

// New registers the whole metric set with reg and returns the part of it that is counted by hand. Serve the gatherer
// behind the same reg with [Handler].
//
// It fails when src is incomplete, or when reg already holds one of the metrics; reg is then left as it was.
func New(reg prometheus.Registerer, src Sources) (*Set, error) {
	if reg == nil {
		return nil, errors.New("no registry given; pass prometheus.NewRegistry()")
	}
	if err := src.validate(); err != nil {
		return nil, err
	}
	s := newSet()
	s.seed(src)

	own := []prometheus.Collector{
		s.processed, s.failed, s.retried, s.archived, s.lost, s.fenced, s.duration, s.wait, s.crashes, s.restarts, s.dropped,
	}
	if err := registerAll(reg, append(own, collectorsFor(src)...)); err != nil {
		return nil, err
	}
	return s, nil
}

func newSet() *Set {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	s := &Set{
		processed: counter("runqy_tasks_processed_total",
			"Attempts that this worker finished, whether they succeeded or failed; a task that is retried twice counts three times.",
			"queue", "type"),
		failed: counter("runqy_tasks_failed_total",
			"Attempts that this worker finished and that failed; a part of runqy_tasks_processed_total.", "queue", "type"),
		retried: counter("runqy_tasks_retried_total",
			"Attempts after which the task waits for another one.", "queue"),
		archived: counter("runqy_tasks_archived_total",
			"Tasks that this worker gave up: failed for the last time, or crashed the Python process too often.", "queue"),
		lost: counter("runqy_tasks_lost_total",
			"Ids that this worker found in a queue without their task, as after an eviction or a flush; the task is gone.", "queue"),
		fenced: counter("runqy_tasks_fenced_total",
			"Acknowledgements of this worker that were dropped because the task had meanwhile been given to another attempt.", "queue"),
		duration: histogram("runqy_task_duration_seconds",
			"Time that an attempt took, from the begin of its handler.", durationBuckets, "queue", "type"),
		wait: histogram("runqy_task_wait_seconds",
			"Time that a task waited before its handler began: since it was enqueued or, where it was to run later, since it was due.",
			waitBuckets, "queue"),
		crashes: counter("runqy_worker_crashes_total",
			"Exits of the Python process that nobody asked for, and replacements of one that cannot do its work, by cause.", "cause"),
		restarts: counter("runqy_worker_restarts_total",
			"Starts of the Python process after the first one, by cause.", "cause"),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "runqy_views_dropped_total",
			Help: "Updates of the readable hashes (results.redis_cli_views) that were left out so as not to delay tasks.",
		}),
	}
	s.queues.Store(&map[string]*queueSeries{})
	return s
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    name,
		Help:    help,
		Buckets: buckets,
		// A factor of 1.1 makes eight buckets to each power of two. 1 ms to 30 min are 21 powers of two, so 200 buckets
		// hold that whole range at full resolution; tasks spread wider than that reset the histogram at most once an
		// hour and are widened otherwise.
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  200,
		NativeHistogramMinResetDuration: time.Hour,
	}, labels)
}

// seed creates every series whose labels are known beforehand. A counter that appears at its first event has no zero
// before it, and rate() and increase() then never see that event.
func (s *Set) seed(src Sources) {
	for _, q := range src.QueueNames {
		s.queue(q)
	}
	s.announce(nil)
	for _, cause := range src.CrashCauses {
		s.crashes.WithLabelValues(cause)
	}
	for _, cause := range src.RestartCauses {
		s.restarts.WithLabelValues(cause)
	}
}

// Types announces the types of tasks that the Python process has handlers for: they become values of the label type,
// and what else comes is counted as [OtherType]. It may be called with each process that gets ready. Types stay known
// until the worker ends, at most a hundred of them; the rest are [OtherType] too.
func (s *Set) Types(types []string) { s.announce(types) }

// TaskBegan counts one attempt whose handler has begun, after it could have begun for as long as waited.
func (s *Set) TaskBegan(queue string, waited time.Duration) {
	s.queue(queue).wait.Observe(max(waited, 0).Seconds())
}

// TaskFinished counts one finished attempt that took as long as took, negative when it never began, and now and then notes taskID as the exemplar of
// that duration. An id that cannot be an exemplar (not UTF-8, or longer than OpenMetrics allows) is left out; the
// duration counts all the same.
func (s *Set) TaskFinished(queue, typ, taskID string, took time.Duration, failed bool) {
	attempts := s.queue(queue).attempts(typ)
	attempts.processed.Inc()
	if failed {
		attempts.failed.Inc()
	}
	if took >= 0 { // it has begun
		attempts.duration().observe(took.Seconds(), taskID)
	}
}

// TaskRetried counts one attempt after which the task waits for another one.
func (s *Set) TaskRetried(queue string) { s.queue(queue).retried.Inc() }

// TaskArchived counts one task that was given up.
func (s *Set) TaskArchived(queue string) { s.queue(queue).archived.Inc() }

// TasksLost counts n ids that were found in a queue without their task.
func (s *Set) TasksLost(queue string, n int) { s.queue(queue).lost.Add(float64(max(n, 0))) }

// TaskFenced counts one acknowledgement that came too late: the task belonged to another attempt by then.
func (s *Set) TaskFenced(queue string) { s.queue(queue).fenced.Inc() }

// ViewsDropped counts n updates of readable hashes that were left out.
func (s *Set) ViewsDropped(n int) { s.dropped.Add(float64(max(n, 0))) }

// Crashed counts one exit of the Python process that nobody asked for.
func (s *Set) Crashed(cause string) { s.crashes.WithLabelValues(cause).Inc() }

// Restarted counts one start of the Python process after the first.
func (s *Set) Restarted(cause string) { s.restarts.WithLabelValues(cause).Inc() }

// registerAll registers all of cs or none.
func registerAll(reg prometheus.Registerer, cs []prometheus.Collector) error {
	for i, c := range cs {
		if err := reg.Register(c); err != nil {
			for _, done := range cs[:i] {
				reg.Unregister(done)
			}
			return err
		}
	}
	return nil
}
