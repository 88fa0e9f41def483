package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/dashboard"
	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/pause"
	"github.com/runqy/runqy-worker/internal/receipt"
	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/internal/systemd"
	"github.com/runqy/runqy-worker/metrics"
	"github.com/runqy/runqy-worker/queue"
)

// CheckerProcessOptions are what a [CheckerProcess] needs besides its configuration.
type CheckerProcessOptions struct {
	Config  *config.Config
	Version string // of the program
	Logger  *slog.Logger
	// LogLinesDropped counts the lines that the logger has lost; nil: it is not known.
	LogLinesDropped func() int64
}

// CheckerProcess is a process that runs the fleet's checker without a worker around it: no Python process, no tasks, no
// heartbeat, but the same port. Its listeners are bound by [NewCheckerProcess]; Run is called once.
type CheckerProcess struct {
	cfg     *config.Config
	version string
	host    string
	logger  *slog.Logger // for the components, which add their own names
	log     *slog.Logger

	target redisclient.Target
	client redis.UniversalClient

	dependencies *health.Dependencies
	reporter     *health.Reporter
	fleet        *fleetMember
	workers      *workerList
	dashboard    *dashboard.Dashboard
	notifier     *systemd.Notifier
	server       *health.Server
	pauses       pause.Watch // of this process

	mu      sync.Mutex       // guards refused
	refused *receipt.Failure // why it has not begun; nil: it has, or nothing has failed
}

// NewCheckerProcess builds a CheckerProcess and binds its listeners. It asks nothing of Redis. On error nothing is left
// open.
func NewCheckerProcess(opts CheckerProcessOptions) (_ *CheckerProcess, err error) {
	c := &CheckerProcess{cfg: opts.Config, version: opts.Version, logger: opts.Logger, log: opts.Logger.With("component", "checker")}
	if c.target, err = redisclient.Parse(c.cfg.Redis.URL); err != nil {
		return nil, fmt.Errorf("redis.url: %w", err)
	}
	if c.target.Embedded() {
		return nil, errors.New("redis.url is embedded://, a Redis that no other process uses: " +
			"give the URL of the one that the workers use")
	}
	identity, err := heartbeat.NewIdentity()
	if err != nil {
		return nil, fmt.Errorf("tell this process from others: %w", err)
	}
	c.host = identity.Host
	c.client = c.target.Open()
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.dependencies, err = health.NewDependencies(health.DependenciesOptions{
		Consumption: c.consumption, Running: c.pauses.Running, Logger: c.logger,
	}); err != nil {
		return nil, fmt.Errorf("watch redis: %w", err)
	}
	c.reporter = health.NewReporter(c.judge)
	registry := prometheus.NewRegistry()
	member := fleetMemberOptions{
		config: c.cfg, self: identity, target: c.target, client: c.client, logger: c.logger, askEvery: leaseAskEvery,
		running: c.pauses.Running,
	}
	if c.fleet, err = newFleetMember(member, registry); err != nil {
		return nil, err
	}
	if err := metrics.NewQueues(registry, c.fleet.queues.Read, opts.LogLinesDropped); err != nil {
		return nil, fmt.Errorf("register the metrics: %w", err)
	}
	if c.notifier, err = c.newNotifier(); err != nil {
		return nil, err
	}
	c.workers = c.fleet.newWorkerList(member)
	if c.dashboard, err = c.newDashboard(); err != nil {
		return nil, err
	}
	if c.server, err = newServer(c.cfg, c.probeSources(metrics.Handler(registry, c.logger.With("component", "metrics"))), c.logger); err != nil {
		return nil, err
	}
	return c, nil
}

// probeSources are what the HTTP server answers from, the dashboard included.
func (c *CheckerProcess) probeSources(metricsHandler http.Handler) health.Sources {
	return health.Sources{
		Report: c.reporter.Report, Environment: c.cfg.Environment, Counts: c.counts,
		Queues: c.fleet.queues.Read, States: c.queueStates, Broker: health.InfoSource(c.client), Metrics: metricsHandler,
		RPC: rpc.Handlers(rpc.Sources{Report: c.reporter.Report}), Dashboard: c.dashboard.Handlers(),
		Trusted: health.NewAccess(c.cfg.Health.WebConfig).Trusted,
	}
}

// judge is called by the reporter: this process is healthy while its own work gets through.
func (c *CheckerProcess) judge() status.Health {
	return c.dependencies.Health(health.OfProcess(status.Running, true, status.Reason{}))
}

// leaseAskEvery is how often the lease of the leader is asked for while another process has it: the answer is what shows
// that this one could take over.
const leaseAskEvery = 3 * time.Second

// refusedAtStart says why it has not begun; nil: it has, or nothing has failed.
func (c *CheckerProcess) refusedAtStart() *receipt.Failure {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused
}

// notBegun notes why it has not begun, the first time that counts; nil: it has.
func (c *CheckerProcess) notBegun(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.refused = nil
	case c.refused == nil:
		c.refused = &receipt.Failure{Since: time.Now(), Err: err}
	default:
		c.refused = &receipt.Failure{Since: c.refused.Since, Err: err}
	}
}

// queueStates says which queues nobody serves, and which of them have tasks.
func (c *CheckerProcess) queueStates(ctx context.Context, _ status.Report, depths map[string]status.Depth) map[string]health.QueueState {
	workers, _, err := c.workers.list(ctx)
	return c.fleet.queues.states(ctx, workers, err, depths)
}

// counts are the numbers of the healthcheck command.
func (c *CheckerProcess) counts(h status.Health) health.Counts {
	return health.Counts{QueueDepth: depthOf(c.fleet.queues, h)}
}

func (c *CheckerProcess) newDashboard() (*dashboard.Dashboard, error) {
	sources := dashboard.Sources{
		Name: "fleet checker", Version: c.version, Environment: c.cfg.Environment, Host: c.host,
		ShowPayloads: c.cfg.Dashboard.ShowPayloads,
		Health:       func() dashboard.Health { return dashboardHealth(c.reporter.Report()) },
		Changed:      c.reporter.Changed,
		Queues:       dashboardQueues(c.fleet.queues), Fleet: dashboardWorkers(c.workers, ""),
		System:  dashboardSystem(c.fleet.queues, nil),
		Trusted: health.NewAccess(c.cfg.Health.WebConfig).Trusted, Logger: c.logger,
	}
	addTaskActions(&sources, queue.NewAdmin(c.client), c.fleet.queues.queues)
	return dashboard.New(sources)
}

// Addr returns the bound address of the HTTP server, nil when there is none.
func (c *CheckerProcess) Addr() net.Addr { return c.server.Addr() }

// checkerShutdown is what the parts of a checker may take to end by themselves.
const checkerShutdown = 3 * time.Second

// Run checks the fleet whenever this process is the leader, until ctx is over, and gives the leadership up then. The
// error is nil after that. It ends within four seconds, whoever does not answer. When it returns nothing is left running,
// but for what the log then names.
func (c *CheckerProcess) Run(ctx context.Context) error {
	defer c.close()
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	parts := newParts()
	ended := make(chan error, 1)
	go func() { ended <- c.work(ctx, running, fail, parts) }() // awaited below
	return shutdown{limit: checkerShutdown, close: c.closeRedis, parts: parts, log: c.log}.await(ctx, running, ended)
}

// work runs the parts of the process until running is over.
func (c *CheckerProcess) work(ctx, running context.Context, fail context.CancelCauseFunc, parts *parts) error {
	defer parts.wait()
	defer fail(nil)
	start := func(name string, run func(context.Context) error) {
		parts.start(name, func() {
			if err := run(running); err != nil {
				fail(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	start("watch over pauses", c.pauses.Run)
	start("health server", c.server.Run)
	start("dependencies", c.dependencies.Run)
	start("health report", func(ctx context.Context) error {
		return c.reporter.Run(ctx, func() {}, c.dependencies.Changed)
	})
	start("service manager", c.notifier.Run)
	start("dashboard", c.dashboard.Run)
	start("worker list", c.workers.run)
	if c.Addr() != nil {
		c.log.Info("http server listening", "address", c.Addr().String())
	}
	redisRetrier := retrier{log: c.log, target: c.target, failed: func(_ string, err error) { c.notBegun(err) }}
	if err := redisRetrier.waitForRedis(running, c.client); err != nil {
		return runError(ctx, running, err)
	}
	c.notBegun(nil)
	c.log.Info("fleet checker started", "redis", c.target.String())
	start("fleet", c.fleet.service.Run)
	<-running.Done()
	return runError(ctx, running, nil)
}

func (c *CheckerProcess) close() {
	c.closeRedis()
	if c.fleet != nil {
		c.fleet.close()
	}
}

// closeRedis closes the client, which frees those that wait for an answer.
func (c *CheckerProcess) closeRedis() { _ = c.client.Close() }
