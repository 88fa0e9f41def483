package worker

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/metrics"
	"github.com/runqy/runqy-worker/queue"
)

// fleetPool is how many connections to Redis the checker uses at most: burials, sweeps, the role and a round.
const fleetPool = 16

// fleetOptions say for whom a fleetPart is made.
type fleetOptions struct {
	config *config.Config
	self   heartbeat.Identity
	target redisclient.Target
	log    *slog.Logger
}

// fleetPart is what a process has to do with the other workers: its part in the role of their checker, and the
// recovery of tasks that others left. Close it in the end.
type fleetPart struct {
	service   *fleet.Service
	store     *fleet.Store
	recoverer *queue.Recoverer
	metrics   *metrics.FleetSet

	client redis.UniversalClient
	pinger *rpc.Client
}

func newFleetPart(o fleetOptions, reg prometheus.Registerer) (_ *fleetPart, err error) {
	cfg := o.config
	options, err := rpc.OptionsFrom(cfg)
	if err != nil {
		return nil, err
	}
	f := &fleetPart{}
	if f.pinger, err = rpc.NewClient(options); err != nil {
		return nil, fmt.Errorf("prepare to ping workers: %w", err)
	}
	// Pipelines over the whole registry do not stand in the way of tasks.
	f.client = o.target.Open(func(o *redis.UniversalOptions) { o.PoolSize = fleetPool })
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	f.store = fleet.NewStore(f.client)
	f.recoverer = queue.NewRecoverer(f.client, queue.RecovererOptions{MaxTaskCrashes: cfg.Python.MaxTaskCrashes, Logger: o.log})
	queues := queue.ByPriority(cfg.Worker.Queues)
	f.metrics, err = metrics.NewFleet(reg, metrics.FleetSources{
		States:      func() map[string]int { return f.service.States() }, // asked once all is made
		DeadReasons: fleet.Causes(), RecoveredReasons: fleet.RecoveryReasons(), QueueNames: queues,
	})
	if err != nil {
		return nil, fmt.Errorf("register the fleet's metrics: %w", err)
	}
	f.service, err = fleet.New(fleet.Options{
		ID: cfg.Worker.ID, Self: o.self, Interval: cfg.Fleet.Interval, PingTimeout: cfg.Fleet.PingTimeout, Queues: queues,
		Registry: f.store, Lease: f.store, Checkpoints: f.store, Pinger: f.pinger, Recoverer: f.recoverer,
		Directs: queue.NewDirects(f.client), Logger: o.log,
		Observer: fleet.Observer{Died: f.metrics.Died, Recovered: f.metrics.Recovered, Queues: f.metrics.QueuesSeen},
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// close frees what newFleetPart opened; the service must have ended. Closing twice does no harm.
func (f *fleetPart) close() {
	f.pinger.Close()
	if f.client != nil {
		_ = f.client.Close()
	}
}

func (w *Worker) fleetOptions() fleetOptions {
	return fleetOptions{config: w.cfg, self: w.identity, target: w.target, log: w.log}
}

// recoverPredecessors gives back what earlier processes with this worker's id still hold, before any new task is
// taken: since the id was claimed, they are dead or have lost it.
func (w *Worker) recoverPredecessors(ctx context.Context) error {
	return w.untilRedis().persist(ctx, "recovering the tasks of this worker's predecessors", func() error {
		for _, q := range queue.ByPriority(w.cfg.Worker.Queues) {
			done, err := w.fleet.recoverer.OfPredecessors(ctx, q, w.cfg.Worker.ID, w.identity.Nonce)
			w.fleet.metrics.Recovered(q, fleet.RecoveredSuccessor, done.Requeued+done.Archived)
			if err != nil {
				return err
			}
		}
		return nil
	})
}
