package worker

import (
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/dashboard"
	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/pause"
	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/systemd"
	"github.com/runqy/runqy-worker/metrics"
	"github.com/runqy/runqy-worker/queue"
	"github.com/runqy/runqy-worker/supervisor"
)

// ErrCrashed is wrapped by Run's error when the Python process crashed and python.on_crash is exit.
var ErrCrashed = supervisor.ErrCrashed

// Options are what a worker needs besides its configuration.
type Options struct {
	Config  *config.Config
	Version string   // of the program
	SDK     string   // directory with the Python SDK, put on the child's PYTHONPATH; empty: none
	Environ []string // the worker's own environment, as os.Environ returns it; what is secret does not reach the child
	// Guardian is the argv that runs supervisor.RunGuardian; empty: no guardian.
	Guardian []string
	// Logger must never wait for what reads it: the parts that know the state of the worker and those of its drain log.
	Logger *slog.Logger
	// LogLinesDropped counts the lines that the logger has lost; nil: it is not known.
	LogLinesDropped func() int64
}

// Worker is one worker. Its listeners are bound by New; Run is called once.
type Worker struct {
	cfg      *config.Config
	version  string
	logger   *slog.Logger // for the components, which add their own names
	log      *slog.Logger
	started  time.Time
	identity heartbeat.Identity

	address string // where others reach the HTTP server; empty when there is none; set by Run before the first beat

	embedded   *redisclient.Embedded // nil unless the URL says so
	target     redisclient.Target
	redisAddrs []string
	client     redis.UniversalClient // for everything but what follows
	noRetry    redis.UniversalClient // never sends a command twice
	blocking   redis.UniversalClient // for commands that block; the consumer closes it

	dependencies *health.Dependencies
	supervisor   *supervisor.Supervisor
	monitor      *monitor
	depths       *queue.Depths
	metrics      *metrics.Set
	fleet        *fleetMember
	consumer     *queue.Consumer
	notifier     *systemd.Notifier
	workers      *workerList
	dashboard    *dashboard.Dashboard
	probes       health.Sources
	server       *health.Server
	beat         *heartbeat.Writer
	usage        usageSampler
	pauses       pause.Watch // of this process

	processed, failed atomic.Int64

	abortOnce sync.Once
	aborted   chan struct{} // closed by Abort
}

// New builds a worker and binds its listeners. It asks nothing of Redis: a worker may start before its Redis does. On
// error nothing is left open.
func New(opts Options) (_ *Worker, err error) {
	cfg := opts.Config
	w := &Worker{
		cfg: cfg, version: opts.Version, logger: opts.Logger, log: opts.Logger.With("component", "worker"),
		started: time.Now(), aborted: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			w.closeClients()
		}
	}()
	if w.identity, err = heartbeat.NewIdentity(); err != nil {
		return nil, fmt.Errorf("tell this process from others: %w", err)
	}
	if err := w.openRedis(); err != nil {
		return nil, err
	}
	w.dependencies, err = health.NewDependencies(health.DependenciesOptions{
		// The consumer is built after its gate, and asked only while the worker runs.
		Consumption:        w.consumption,
		ConsumptionChanged: func() <-chan struct{} { return w.consumer.ConsumptionChanged() },
		Running:            w.pauses.Running, DatabaseURL: cfg.Health.DatabaseURL, Logger: w.logger,
	})
	if err != nil {
		return nil, fmt.Errorf("watch the database: %w", err)
	}
	if w.supervisor, err = supervisor.New(w.supervisorOptions(opts)); err != nil {
		return nil, fmt.Errorf("supervise the Python process: %w", err)
	}
	w.monitor = newMonitor(w.supervisor, w.dependencies, &w.pauses)
	w.depths = queue.NewDepths(w.client, queue.ByPriority(cfg.Worker.Queues), depthMaxAge)
	registry := prometheus.NewRegistry()
	if w.metrics, err = metrics.New(registry, w.metricSources(opts.LogLinesDropped)); err != nil {
		return nil, fmt.Errorf("register the metrics: %w", err)
	}
	if w.fleet, err = newFleetMember(w.fleetMemberOptions(), registry); err != nil {
		return nil, err
	}
	if w.consumer, err = w.newConsumer(); err != nil {
		return nil, err
	}
	if w.notifier, err = w.newNotifier(); err != nil {
		return nil, err
	}
	w.workers = w.fleet.newWorkerList(w.fleetMemberOptions())
	if w.dashboard, err = w.newDashboard(); err != nil {
		return nil, err
	}
	w.probes = w.probeSources(metrics.Handler(registry, w.logger.With("component", "metrics")))
	if w.server, err = newServer(cfg, w.probes, w.logger); err != nil {
		return nil, err
	}
	w.beat = heartbeat.NewWriter(w.client, heartbeat.Options{
		ID: cfg.Worker.ID, Interval: cfg.Heartbeat.Interval, TTL: cfg.Heartbeat.TTL,
		Identity: w.identity, Logger: w.logger, Source: w.currentBeat, Running: w.pauses.Running,
	})
	return w, nil
}

func (w *Worker) newConsumer() (*queue.Consumer, error) {
	cfg := w.cfg
	return queue.NewConsumer(
		queue.Clients{Client: w.client, NoRetry: w.noRetry, Blocking: w.blocking},
		taskHandler{supervisor: w.supervisor, touch: func() { w.beat.WriteSoon() }}, w.monitor,
		queue.Options{
			WorkerID: cfg.Worker.ID, Nonce: w.identity.Nonce, Queues: cfg.Worker.Queues,
			StrictPriority: cfg.Worker.StrictPriority, Concurrency: cfg.Worker.Concurrency,
			ShutdownTimeout: cfg.Worker.ShutdownTimeout, SettleTimeout: cfg.Python.StopTimeout,
			Running: w.pauses.Running, ConsumeTimeout: cfg.Health.ConsumeTimeout, MaxTaskCrashes: cfg.Python.MaxTaskCrashes,
			ResultTTL: cfg.Results.TTL, Views: cfg.Results.RedisCLIViews, Cluster: w.target.Cluster(),
			BeatInterval: cfg.Heartbeat.Interval, BeatTTL: cfg.Heartbeat.TTL, Logger: w.logger,
			Observer: queue.Observer{
				Began:    func(t *queue.Task, waited time.Duration) { w.metrics.TaskBegan(t.Queue, waited) },
				Finished: w.taskFinished, Retried: w.metrics.TaskRetried, Archived: w.metrics.TaskArchived,
				Fenced: w.metrics.TaskFenced, Lost: w.metrics.TasksLost, ViewsDropped: w.metrics.ViewsDropped,
			},
		})
}

// Addr returns the bound address of the HTTP server, nil when there is none.
func (w *Worker) Addr() net.Addr { return w.server.Addr() }
