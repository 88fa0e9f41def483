package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/dashboard"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/internal/systemd"
	"github.com/runqy/runqy-worker/metrics"
	"github.com/runqy/runqy-worker/queue"
	"github.com/runqy/runqy-worker/supervisor"
)

// CheckerOptions are what a [Checker] needs besides its configuration.
type CheckerOptions struct {
	Config  *config.Config
	Version string // of the program
	Logger  *slog.Logger
}

// Checker is the health checker of the fleet without a worker around it: no Python process, no tasks, no heartbeat,
// but the same port. Its listeners are bound by NewChecker; Run is called once.
type Checker struct {
	cfg    *config.Config
	log    *slog.Logger
	target redisclient.Target
	client redis.UniversalClient
	probe  redis.UniversalClient // for the health checker's PING
	health *health.Checker
	fleet  *fleetPart
	depths *fleetDepths
	peers  *peers
	page   *dashboard.Dashboard
	server *health.Server

	notifier *systemd.Notifier
}

// NewChecker builds a Checker and binds its listeners. It asks nothing of Redis. On error nothing is left open.
func NewChecker(opts CheckerOptions) (_ *Checker, err error) {
	c := &Checker{cfg: opts.Config, log: opts.Logger}
	if c.target, err = redisclient.Parse(c.cfg.Redis.URL); err != nil {
		return nil, fmt.Errorf("redis.url: %w", err)
	}
	if c.target.Embedded() {
		return nil, errors.New("redis.url is embedded://, a Redis that no other process uses: " +
			"give the URL of the one that the workers use")
	}
	self, err := heartbeat.NewIdentity()
	if err != nil {
		return nil, fmt.Errorf("tell this process from others: %w", err)
	}
	c.client, c.probe = c.target.Open(), c.target.Open(health.RedisOptions)
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.health, err = health.NewChecker(health.CheckerOptions{Redis: c.probe, Logger: c.log}); err != nil {
		return nil, fmt.Errorf("watch redis: %w", err)
	}
	registry := prometheus.NewRegistry()
	if c.fleet, err = newFleetPart(fleetOptions{config: c.cfg, self: self, target: c.target, log: c.log}, registry); err != nil {
		return nil, err
	}
	c.depths = &fleetDepths{client: c.client, store: c.fleet.store, own: queue.ByPriority(c.cfg.Worker.Queues)}
	if err := metrics.NewQueues(registry, metricQueues(c.depths)); err != nil {
		return nil, fmt.Errorf("register the metrics: %w", err)
	}
	if c.notifier, err = c.newNotifier(); err != nil {
		return nil, err
	}
	c.peers = c.fleet.newPeers(fleetOptions{config: c.cfg, self: self, target: c.target, log: c.log})
	if c.page, err = c.newDashboard(opts.Version, self.Host); err != nil {
		return nil, err
	}
	if err := c.listen(registry); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Checker) listen(registry *prometheus.Registry) error {
	sources := health.Sources{
		Report: c.report, Queues: c.depths.Read, Broker: health.InfoSource(c.client),
		Metrics: metrics.Handler(registry, c.log),
	}
	sources.RPC = rpc.Handlers(rpc.Sources{
		Healthy: func() bool { return c.report().Healthy },
		Ready:   func() bool { return c.report().Ready() },
		Live:    func() bool { live, _ := sources.Live(); return live },
	})
	sources.Trusted = health.NewAccess(c.cfg.Health.WebConfig).Trusted
	inside := sources
	inside.Report, inside.Trusted = func() health.Report { return withDepth(c.report(), c.depths) }, nil
	sources.Dashboard = c.page.Handlers()
	var err error
	c.server, err = health.NewServer(health.ServerOptions{
		Listen: c.cfg.Health.Listen, WebConfig: c.cfg.Health.WebConfig, Handler: health.Handler(sources),
		Socket: c.cfg.SocketPath(), SocketHandler: health.SocketHandler(inside), Logger: c.log,
	})
	if err != nil {
		return fmt.Errorf("serve health: %w", err)
	}
	return nil
}

// report is this process's health: it is well while Redis answers.
func (c *Checker) report() health.Report {
	r := c.health.Report(health.Process{Healthy: true, Status: status.Running})
	r.Environment = c.cfg.Environment
	return r
}

func (c *Checker) newDashboard(version, host string) (*dashboard.Dashboard, error) {
	sources := dashboard.Sources{
		Name: "fleet checker", Version: version, Environment: c.cfg.Environment, Host: host,
		ShowPayloads: c.cfg.Dashboard.ShowPayloads,
		Health:       func() dashboard.Health { return shownHealth(c.report(), supervisor.Snapshot{}) },
		Changed:      c.health.Changed,
		Queues:       shownQueues(c.depths), Fleet: shownFleet(c.peers, ""),
		Trusted: health.NewAccess(c.cfg.Health.WebConfig).Trusted, Logger: c.log,
	}
	operate(&sources, queue.NewAdmin(c.client), c.depths.queues)
	return dashboard.New(sources)
}

// Addr returns the bound address of the HTTP server, nil when there is none.
func (c *Checker) Addr() net.Addr { return c.server.Addr() }

// Run checks the fleet whenever the role is free to be had, until ctx is over, and gives the role up then. The error is
// nil after that. When Run returns, nothing is left running.
func (c *Checker) Run(ctx context.Context) error {
	defer c.close()
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var group sync.WaitGroup
	defer group.Wait()
	part := func(name string, run func(context.Context) error) {
		group.Go(func() {
			if err := run(running); err != nil {
				fail(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	defer fail(nil)
	part("health server", c.server.Run)
	part("health checker", c.health.Run)
	part("service manager", c.notifier.Run)
	part("dashboard", c.page.Run)
	part("peers", c.peers.run)
	if c.Addr() != nil {
		c.log.Info("serving health and metrics", "address", c.Addr().String())
	}
	until := persistence{log: c.log, target: c.target}
	if err := until.awaitRedis(running, c.client); err != nil {
		return runError(ctx, running, err)
	}
	c.log.Info("taking part in the role of the fleet's checker", "redis", c.target.String())
	part("fleet", c.fleet.service.Run)
	<-running.Done()
	return runError(ctx, running, nil)
}

func (c *Checker) close() {
	for _, client := range []redis.UniversalClient{c.client, c.probe} {
		_ = client.Close()
	}
	if c.fleet != nil {
		c.fleet.close()
	}
}

// fleetDepths reads the depths of all queues that workers serve or have served, and of this process's own.
type fleetDepths struct {
	client redis.UniversalClient
	store  *fleet.Store
	own    []string

	mu     sync.Mutex // guards the rest
	asked  time.Time  // when the store was last asked which queues there are
	names  []string
	depths *queue.Depths
}

// namesKept is how long the names of the queues are kept.
const namesKept = 2 * time.Second

// Read implements depthReader.
func (f *fleetDepths) Read(ctx context.Context) (map[string]status.Depth, error) {
	depths, err := f.current(ctx)
	if err != nil {
		return nil, err
	}
	return depths.Read(ctx)
}

// queues returns the names of the queues that are read.
func (f *fleetDepths) queues(ctx context.Context) ([]string, error) {
	if _, err := f.current(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.names, nil
}

func (f *fleetDepths) current(ctx context.Context) (*queue.Depths, error) {
	f.mu.Lock()
	fresh, depths := time.Since(f.asked) < namesKept, f.depths
	f.mu.Unlock()
	if fresh {
		return depths, nil
	}
	served, err := f.store.Queues(ctx)
	if err != nil {
		return nil, err
	}
	names := slices.Concat(f.own, served)
	slices.Sort(names)
	names = slices.Compact(names)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = time.Now()
	if f.depths == nil || !slices.Equal(names, f.names) {
		f.names, f.depths = names, queue.NewDepths(f.client, names, depthsKept)
	}
	return f.depths, nil
}
