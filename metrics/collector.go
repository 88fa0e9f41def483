package metrics

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/runqy/runqy-worker/internal/status"
)

// queueReadTimeout bounds what a slow Redis can add to a scrape. Prometheus itself gives up after ten seconds by
// default, and would lose every series of the worker, runqy_worker_healthy included.
const queueReadTimeout = 2 * time.Second

// archiveLimit is how many archived tasks of a queue asynq keeps (and none for longer than 90 days).
const archiveLimit = 10_000

// errNoChild keeps the child's process collector silent.
var errNoChild = errors.New("no Python process")

// collectorsFor makes everything that is read at scrape time.
func collectorsFor(src Sources) []prometheus.Collector {
	cs := []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
		newWorkerCollector(src),
	}
	if src.Queues != nil {
		cs = append(cs, newQueueCollector(src.Queues))
	}
	if src.Python != nil {
		cs = append(cs, newPythonCollector(src.Python))
	}
	if src.ChildPID != nil {
		cs = append(cs, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{
			Namespace: "runqy_child",
			PidFn: func() (int, error) {
				if pid := src.ChildPID(); pid > 0 {
					return pid, nil
				}
				return 0, errNoChild
			},
		}))
	}
	return append(cs, logCollectors(src.LogLinesDropped)...)
}

// logCollectors are the series of the process' log; none without dropped.
func logCollectors(dropped func() int64) []prometheus.Collector {
	if dropped == nil {
		return nil
	}
	return []prometheus.Collector{prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "runqy_log_lines_dropped_total",
		Help: "Lines of the log that were lost, because whatever reads standard error was too slow or gone.",
	}, func() float64 { return float64(dropped()) })}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// unixSeconds is t as Prometheus writes moments.
func unixSeconds(t time.Time) float64 { return float64(t.UnixNano()) / float64(time.Second) }

type workerCollector struct {
	src Sources

	healthy, reports, reportAge, lag, active, idle, concurrency, recycling, lastBeat, lastCycle, lastTake, started, info *prometheus.Desc
}

func newWorkerCollector(src Sources) *workerCollector {
	return &workerCollector{
		src: src,
		healthy: desc("runqy_worker_healthy",
			"1 when the Python process runs, answers and passes its @health check, Redis answers and refuses neither cycles nor heartbeats, "+
				"and the configured database answers; else 0, and no new task is taken, but for one at a time as a probe."),
		reports: desc("runqy_worker_health_reports_total",
			"Reports of the worker's health so far: the number of the one that runqy_worker_healthy is read from. There is a new one when something has changed."),
		reportAge: desc("runqy_worker_health_report_age_seconds",
			"How long ago that report was found to be still true; above 3 nothing is known of the present, and runqy_worker_healthy is 0."),
		lag: desc("runqy_worker_event_loop_lag_seconds",
			"How late the event loop of the Python process turns, or its next answer to a ping is."),
		active: desc("runqy_worker_active_tasks",
			"Tasks that the Python process has been given and has not answered."),
		idle: desc("runqy_worker_idle_tasks",
			"Running tasks whose process has used no CPU time, and that reported no progress, for health.task_idle_warning."),
		concurrency: desc("runqy_worker_concurrency",
			"Most tasks that this worker gives to the Python process at once."),
		recycling: desc("runqy_worker_recycling_suspended",
			"1 when the Python process is larger than python.max_memory and is not replaced, since that would not help or has happened too often; else 0."),
		lastBeat: desc("runqy_worker_last_heartbeat_timestamp_seconds",
			"When Redis last took this worker's heartbeat, in seconds since the epoch; absent before the first."),
		lastCycle: desc("runqy_worker_last_cycle_timestamp_seconds",
			"When Redis last answered a cycle, of the queue where that is longest ago, in seconds since the epoch; absent before each has had one."),
		lastTake: desc("runqy_worker_last_take_timestamp_seconds",
			"When this worker last took a task, in seconds since the epoch; absent before the first."),
		started: desc("runqy_worker_start_time_seconds",
			"When this worker started, in seconds since the epoch."),
		info: desc("runqy_worker_info",
			"Always 1; the labels identify the worker. python_version is empty while no interpreter is known.",
			"worker_id", "version", "environment", "python_version"),
	}
}

// Describe implements prometheus.Collector.
func (c *workerCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.healthy, c.reports, c.reportAge, c.lag, c.active, c.idle, c.concurrency, c.recycling, c.lastBeat, c.lastCycle, c.lastTake,
		c.started, c.info,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *workerCollector) Collect(ch chan<- prometheus.Metric) {
	w := c.src.Worker()
	gauge(ch, c.healthy, oneIf(w.Healthy))
	if w.Report.Number > 0 {
		counter(ch, c.reports, float64(w.Report.Number))
		gauge(ch, c.reportAge, w.Report.Age.Seconds())
	}
	gauge(ch, c.lag, w.Lag.Seconds())
	gauge(ch, c.active, float64(w.ActiveTasks))
	if w.IdleTasks >= 0 {
		gauge(ch, c.idle, float64(w.IdleTasks))
	}
	gauge(ch, c.concurrency, float64(w.Concurrency))
	gauge(ch, c.recycling, oneIf(w.RecyclingSuspended))
	moment := func(series *prometheus.Desc, at time.Time) {
		if !at.IsZero() {
			gauge(ch, series, unixSeconds(at))
		}
	}
	moment(c.lastBeat, w.LastBeat)
	moment(c.lastCycle, w.LastCycle)
	moment(c.lastTake, w.LastTake)
	info := c.src.Info
	if !info.Started.IsZero() {
		gauge(ch, c.started, unixSeconds(info.Started))
	}
	var python Python
	if c.src.Python != nil {
		python = c.src.Python()
	}
	gauge(ch, c.info, 1, label(info.WorkerID), label(info.Version), label(info.Environment), label(python.Version))
}

type queueCollector struct {
	read func(context.Context) (map[string]status.Depth, error)

	pending, tasks, latency, paused, archiveLimit *prometheus.Desc
}

func newQueueCollector(read func(context.Context) (map[string]status.Depth, error)) *queueCollector {
	return &queueCollector{
		read: read,
		pending: desc("runqy_queue_pending_tasks",
			"Tasks that wait in the queue; the same on every worker, so take the maximum across workers and never the sum.", "queue"),
		tasks: desc("runqy_queue_tasks",
			"Tasks in the queue by state; the same on every worker, so take the maximum across workers and never the sum.", "queue", "state"),
		latency: desc("runqy_queue_latency_seconds",
			"Age of the oldest task that waits in the queue, 0 when none does, absent when not known; take the maximum across workers.", "queue"),
		paused: desc("runqy_queue_paused",
			"1 while the queue is paused, so that no worker takes tasks from it, else 0; take the maximum across workers.", "queue"),
		archiveLimit: desc("runqy_queue_archive_limit_ratio",
			"Archived tasks as a part of the 10,000 that asynq keeps: at 1 each further one pushes out the oldest; take the maximum across workers.",
			"queue"),
	}
}

// Describe implements prometheus.Collector.
func (c *queueCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.pending
	ch <- c.tasks
	ch <- c.latency
	ch <- c.paused
	ch <- c.archiveLimit
}

// Collect implements prometheus.Collector.
func (c *queueCollector) Collect(ch chan<- prometheus.Metric) {
	// Collect is given no context, so this one begins here.
	ctx, cancel := context.WithTimeout(context.Background(), queueReadTimeout)
	defer cancel()
	queues, err := c.read(ctx)
	if err != nil {
		return // what is not known has no sample; /health/v2/queues has the error
	}
	for name, q := range queues {
		if q.Err != nil {
			continue
		}
		name = label(name)
		gauge(ch, c.pending, float64(q.Pending), name)
		if q.Latency >= 0 {
			gauge(ch, c.latency, q.Latency.Seconds(), name)
		}
		gauge(ch, c.paused, oneIf(q.Paused), name)
		gauge(ch, c.archiveLimit, float64(q.Archived)/archiveLimit, name)
		for _, s := range []struct {
			state string
			n     int64
		}{
			{"pending", q.Pending}, {"active", q.Active}, {"scheduled", q.Scheduled},
			{"retry", q.Retry}, {"archived", q.Archived}, {"completed", q.Completed}, {"aggregating", q.Aggregating},
		} {
			gauge(ch, c.tasks, float64(s.n), name, s.state)
		}
	}
}

// pythonCollector uses the names of the official Python client, so that dashboards made for it work on the child's
// interpreter.
type pythonCollector struct {
	read func() Python

	info, collected, uncollectable, collections *prometheus.Desc
}

func newPythonCollector(read func() Python) *pythonCollector {
	return &pythonCollector{
		read: read,
		info: desc("python_info", "Python platform information",
			"implementation", "major", "minor", "patchlevel", "version"),
		collected: desc("python_gc_objects_collected_total",
			"Objects collected during gc", "generation"),
		uncollectable: desc("python_gc_objects_uncollectable_total",
			"Uncollectable objects found during GC", "generation"),
		collections: desc("python_gc_collections_total",
			"Number of times this generation was collected", "generation"),
	}
}

// Describe implements prometheus.Collector.
func (c *pythonCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.info
	ch <- c.collected
	ch <- c.uncollectable
	ch <- c.collections
}

// Collect implements prometheus.Collector.
func (c *pythonCollector) Collect(ch chan<- prometheus.Metric) {
	p := c.read()
	if p.Version != "" {
		gauge(ch, c.info, 1, label(p.Implementation),
			strconv.Itoa(p.Major), strconv.Itoa(p.Minor), strconv.Itoa(p.Patch), label(p.Version))
	}
	seen := make(map[int]bool, len(p.GC))
	for _, g := range p.GC {
		// The figures come from the child; one generation told twice would cost the whole scrape.
		if seen[g.Generation] {
			continue
		}
		seen[g.Generation] = true
		generation := strconv.Itoa(g.Generation)
		counter(ch, c.collected, float64(g.Collected), generation)
		counter(ch, c.uncollectable, float64(g.Uncollectable), generation)
		counter(ch, c.collections, float64(g.Collections), generation)
	}
}
