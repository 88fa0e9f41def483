package worker

import (
	"context"
	"errors"
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
	Logger   *slog.Logger
}

// Worker is one worker. Its listeners are bound by New; Run is called once.
type Worker struct {
	cfg      *config.Config
	version  string
	log      *slog.Logger
	started  time.Time
	identity heartbeat.Identity

	address string // where others reach the HTTP server; empty when there is none; set by Run before the first beat

	embedded   *redisclient.Embedded // nil unless the URL says so
	target     redisclient.Target
	redisAddrs []string
	client     redis.UniversalClient // for everything but what follows
	once       redis.UniversalClient // never sends a command twice
	blocking   redis.UniversalClient // for commands that block; the consumer closes it
	probe      redis.UniversalClient // for the checker's PING

	supervisor *supervisor.Supervisor
	consumer   *queue.Consumer
	depths     *queue.Depths
	checker    *health.Checker
	server     *health.Server
	beat       *heartbeat.Writer
	metrics    *metrics.Set
	monitor    *monitor
	fleet      *fleetPart
	notifier   *systemd.Notifier
	peers      *peers
	usage      usageGauge
	dashboard  *dashboard.Dashboard

	processed, failed atomic.Int64

	abortOnce sync.Once
	aborted   chan struct{} // closed by Abort
}

// depthsKept is how long the queues' depths are kept between scrapes, probes and beats.
const depthsKept = time.Second

// New builds a worker and binds its listeners. It asks nothing of Redis: a worker may start before its Redis does.
// On error nothing is left open.
func New(opts Options) (_ *Worker, err error) {
	cfg := opts.Config
	w := &Worker{cfg: cfg, version: opts.Version, log: opts.Logger, started: time.Now(), aborted: make(chan struct{})}
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
	w.checker, err = health.NewChecker(health.CheckerOptions{Redis: w.probe, DatabaseURL: cfg.Health.DatabaseURL, Logger: w.log})
	if err != nil {
		return nil, fmt.Errorf("watch redis and the database: %w", err)
	}
	w.supervisor, err = supervisor.New(w.supervisorOptions(opts))
	if err != nil {
		return nil, fmt.Errorf("supervise the Python process: %w", err)
	}
	w.monitor = newMonitor(w.supervisor, w.checker)
	w.depths = queue.NewDepths(w.client, queue.ByPriority(cfg.Worker.Queues), depthsKept)
	registry := prometheus.NewRegistry()
	if w.metrics, err = metrics.New(registry, w.metricSources()); err != nil {
		return nil, fmt.Errorf("register the metrics: %w", err)
	}
	if w.fleet, err = newFleetPart(w.fleetOptions(), registry); err != nil {
		return nil, err
	}
	if w.consumer, err = w.newConsumer(); err != nil {
		return nil, err
	}
	if w.notifier, err = w.newNotifier(); err != nil {
		return nil, err
	}
	w.peers = w.fleet.newPeers(w.fleetOptions())
	if w.dashboard, err = w.newDashboard(); err != nil {
		return nil, err
	}
	if w.server, err = w.newServer(metrics.Handler(registry, w.log)); err != nil {
		return nil, err
	}
	w.beat = heartbeat.NewWriter(w.client, heartbeat.Options{
		ID: cfg.Worker.ID, Interval: cfg.Heartbeat.Interval, TTL: cfg.Heartbeat.TTL,
		Identity: w.identity, Logger: w.log, Source: w.currentBeat,
	})
	return w, nil
}

// openRedis makes the clients, and with an embedded:// URL the server too.
func (w *Worker) openRedis() error {
	target, err := redisclient.Parse(w.cfg.Redis.URL)
	if err != nil {
		return fmt.Errorf("redis.url: %w", err)
	}
	if target.Embedded() {
		if w.embedded, err = redisclient.StartEmbeddedTarget(target); err != nil {
			return fmt.Errorf("start the embedded Redis: %w", err)
		}
		target = w.embedded.Target()
		w.log.Warn("EMBEDDED REDIS: nothing is durable, every task and result is lost when this process ends",
			"address", w.embedded.Addr())
	}
	w.target = target
	// Every task in flight and every watcher may be with Redis at once.
	pool := w.cfg.Worker.Concurrency + len(w.cfg.Worker.Queues) + 10
	size := func(o *redis.UniversalOptions) {
		o.PoolSize = max(o.PoolSize, min(pool, 1000))
		w.redisAddrs = o.Addrs
	}
	w.client = target.Open(size)
	w.once = target.Open(size, queue.NoRetry)
	w.blocking = target.Open(queue.NoRetry, func(o *redis.UniversalOptions) { o.PoolSize = 2*len(w.cfg.Worker.Queues) + 1 })
	w.probe = target.Open(health.RedisOptions)
	return nil
}

func (w *Worker) newConsumer() (*queue.Consumer, error) {
	cfg := w.cfg
	return queue.NewConsumer(
		queue.Clients{Client: w.client, NoRetry: w.once, Blocking: w.blocking},
		processor{
			supervisor: w.supervisor, touch: func() { w.beat.WriteSoon() },
			progress: func(taskID string, fraction float64, message string) { w.consumer.Progress(taskID, fraction, message) },
		}, w.monitor,
		queue.Options{
			WorkerID: cfg.Worker.ID, Nonce: w.identity.Nonce, Queues: cfg.Worker.Queues,
			StrictPriority: cfg.Worker.StrictPriority, Concurrency: cfg.Worker.Concurrency,
			ShutdownTimeout: cfg.Worker.ShutdownTimeout, MaxTaskCrashes: cfg.Python.MaxTaskCrashes,
			ResultTTL: cfg.Results.TTL, Views: cfg.Results.RedisCLIViews, Cluster: w.target.Cluster(),
			BeatInterval: cfg.Heartbeat.Interval, BeatTTL: cfg.Heartbeat.TTL, Logger: w.log,
			Observer: queue.Observer{Finished: w.taskFinished, Fenced: w.metrics.TaskFenced},
		})
}

// Addr returns the bound address of the HTTP server, nil when there is none.
func (w *Worker) Addr() net.Addr { return w.server.Addr() }

// Run works until ctx is over and then drains: no new task is taken, those in flight get the shutdown timeout, what
// has not ended then goes back to pending, and the heartbeat is deleted. The error is nil after a drain. It wraps
// ErrCrashed when the Python process crashed under on_crash: exit, heartbeat.ErrTakenOver or a *heartbeat.LiveError
// when another process has this worker's id. When Run returns, nothing of the worker is left running.
func (w *Worker) Run(ctx context.Context) error {
	defer w.closeClients()
	// serving outlives ctx: the probes answer, and the heartbeat tells of the drain, until the last task is done.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	var running sync.WaitGroup
	defer running.Wait()
	defer stopServing()

	// working ends with ctx, or with the first failure of a part that the worker cannot be without.
	working, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	part := func(name string, run func(context.Context) error) {
		running.Go(func() {
			err := run(serving)
			switch {
			case err == nil:
			case working.Err() != nil:
				w.log.Warn("a part did not end cleanly", "part", name, "error", err)
			default:
				fail(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	part("health server", w.server.Run)
	part("health checker", w.checker.Run)
	part("service manager", w.notifier.Run)
	part("dashboard", w.dashboard.Run)
	part("peers", w.peers.run)
	part("status", func(ctx context.Context) error { return w.monitor.run(ctx, w.beatNow) })
	if w.Addr() != nil {
		w.log.Info("serving health and metrics", "address", w.Addr().String())
	}

	if err := w.untilRedis().awaitRedis(working, w.client); err != nil {
		return runError(ctx, working, err)
	}
	w.address = w.reachableAt(working)
	if err := w.claim(working); err != nil {
		return runError(ctx, working, err)
	}
	w.log.Info("worker started", "worker_id", w.cfg.Worker.ID, "queues", queue.ByPriority(w.cfg.Worker.Queues),
		"concurrency", w.cfg.Worker.Concurrency, "redis", w.target.String(), "version", w.version)
	part("heartbeat", w.beat.Run)
	if w.cfg.Fleet.Enabled {
		part("fleet", w.fleet.service.Run)
	}
	if err := w.recoverPredecessors(working); err != nil {
		return runError(ctx, working, err)
	}
	part("control", w.listen)
	part("supervisor", w.supervisor.Run)
	part("abort", w.awaitAbort)
	w.monitor.begin()
	// From the first moment of a drain on, nobody is told that this worker is ready.
	stop := context.AfterFunc(working, func() {
		w.monitor.drain()
		w.supervisor.Drain()
	})
	defer stop()

	err := w.consumer.Run(working, w.kill)
	if err == nil {
		err = context.Cause(working)
		if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			err = nil
		}
	}
	w.log.Info("drained; stopping the Python process")
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*w.cfg.Python.StopTimeout)
	defer cancel()
	if stopErr := w.supervisor.Stop(stopping); stopErr != nil {
		err = errors.Join(err, stopErr)
	}
	return err
}

// runError is what Run returns when it did not get as far as working: nil if it was told to stop, or the failure of
// a part rather than the cancelled context that it caused elsewhere.
func runError(ctx, working context.Context, err error) error {
	if told := ctx.Err() != nil; told {
		return nil //nolint:nilerr // the error is the stop itself
	}
	if working.Err() != nil {
		return context.Cause(working)
	}
	return err
}

// RestartProcess replaces the Python process, or starts one when the worker is degraded, and waits until it is ready.
// Tasks in flight get python.stop_timeout to finish; what has not finished goes back to pending.
func (w *Worker) RestartProcess(ctx context.Context) error {
	w.log.Info("restarting the Python process as asked")
	if err := w.supervisor.Restart(ctx, supervisor.RestartManual); err != nil {
		return fmt.Errorf("restart the Python process: %w", err)
	}
	return nil
}

// Abort makes a drain that is under way end now: the Python process is killed and its tasks go back to pending. It
// is for a second signal, may be called at any time and more than once, and returns at once.
func (w *Worker) Abort() { w.abortOnce.Do(func() { close(w.aborted) }) }

// kill ends the Python process at once and everything it started. Its tasks are given back.
func (w *Worker) kill() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.supervisor.Stop(now); err != nil {
		w.log.Error("the Python process does not die", "error", err)
	}
}

// awaitAbort kills the Python process when Abort is called.
func (w *Worker) awaitAbort(ctx context.Context) error {
	select {
	case <-w.aborted:
		w.kill()
	case <-ctx.Done():
	}
	return nil
}

// closeClients frees what openRedis opened. Closing twice does no harm: the consumer closes the blocking client.
func (w *Worker) closeClients() {
	if w.fleet != nil {
		w.fleet.close()
	}
	for _, c := range []redis.UniversalClient{w.client, w.once, w.blocking, w.probe} {
		if c != nil {
			_ = c.Close()
		}
	}
	if w.embedded != nil {
		w.embedded.Close()
	}
}

// untilRedis tries things until Redis is there; the probes tell meanwhile what the worker waits for.
func (w *Worker) untilRedis() persistence {
	return persistence{log: w.log, target: w.target, waiting: w.monitor.waiting}
}

// claim makes the worker's id ours.
func (w *Worker) claim(ctx context.Context) error {
	return w.untilRedis().persist(ctx, "claiming the worker id", func() error {
		err := w.beat.Register(ctx)
		var live *heartbeat.LiveError
		if errors.As(err, &live) {
			return permanent{err}
		}
		return err
	})
}
