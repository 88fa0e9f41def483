package worker

import (
	"context"
	"fmt"
	"log/slog"
	"time"

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

// fleetMemberOptions say for which process a fleetMember is made.
type fleetMemberOptions struct {
	config *config.Config
	self   heartbeat.Identity
	target redisclient.Target
	client redis.UniversalClient // stays the caller's
	logger *slog.Logger
	// askEvery is fleet.Options.AskEvery.
	askEvery time.Duration
	running  func(since, now time.Time) time.Duration // fleet.Options.Running
}

// fleetMember is what a process does as a member of the fleet: it takes part in the leader election, checks the others
// while it is the leader, and recovers tasks that others left. Close it in the end.
type fleetMember struct {
	service   *fleet.Service
	store     *fleet.Store
	recoverer *queue.Recoverer
	queues    *systemQueues
	metrics   *metrics.FleetSet

	client redis.UniversalClient
	pinger *rpc.Client
}

func newFleetMember(o fleetMemberOptions, reg prometheus.Registerer) (_ *fleetMember, err error) {
	cfg := o.config
	options, err := rpc.OptionsFrom(cfg)
	if err != nil {
		return nil, err
	}
	f := &fleetMember{}
	if f.pinger, err = rpc.NewClient(options); err != nil {
		return nil, fmt.Errorf("prepare to ping workers: %w", err)
	}
	f.client = o.client
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	f.store = fleet.NewStore(f.client)
	f.recoverer = queue.NewRecoverer(f.client, queue.RecovererOptions{
		MaxRecoveries: cfg.Worker.MaxRecoveries, ViewTTL: viewTTL(cfg), Logger: o.logger,
		Taken: func(workerID, nonce string) { f.service.TaskReturned(workerID, nonce) }, // called when everything is built
	})
	queues := queue.ByPriority(cfg.Worker.Queues)
	f.queues = &systemQueues{client: f.client, store: f.store, own: queues}
	f.metrics, err = metrics.NewFleet(reg, metrics.FleetSources{
		States:      func() map[string]int { return f.service.States() }, // called when everything is built
		Stranded:    func(ctx context.Context) (map[string]int64, error) { return f.queues.stranded(ctx, f.service) },
		DeadReasons: fleet.Causes(), RecoveredReasons: queue.RecoveryReasons(), QueueNames: queues,
	})
	if err != nil {
		return nil, fmt.Errorf("register the fleet's metrics: %w", err)
	}
	f.service, err = fleet.New(fleet.Options{
		ID: cfg.Worker.ID, Self: o.self, Interval: cfg.Fleet.Interval, PingTimeout: cfg.Fleet.PingTimeout, Queues: queues,
		Registry: f.store, Lease: f.store, Checkpoints: f.store, Deaths: f.store, Pinger: f.pinger, Recoverer: f.recoverer,
		AskEvery: o.askEvery, Running: o.running, Directs: queue.NewDirects(f.client), Logger: o.logger,
		Observer: fleet.Observer{Died: f.metrics.Died, Recovered: f.metrics.Recovered, Queues: f.metrics.QueuesSeen},
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// viewTTL returns how long the readable hash of a task lives, 0 when there are none.
func viewTTL(cfg *config.Config) time.Duration {
	if !cfg.Results.RedisCLIViews {
		return 0
	}
	return cfg.Results.TTL
}

// close frees what newFleetMember opened; the service must have ended. Closing twice does no harm.
func (f *fleetMember) close() {
	f.pinger.Close()
}

func (w *Worker) fleetMemberOptions() fleetMemberOptions {
	return fleetMemberOptions{
		config: w.cfg, self: w.identity, target: w.target, client: w.client, logger: w.logger, running: w.pauses.Running,
	}
}

// recoverPredecessors gives back what earlier processes with this worker's id still hold, before any new task is taken:
// since this process has registered the id, they are dead or have lost it.
func (w *Worker) recoverPredecessors(ctx context.Context) error {
	err := w.retrier().do(ctx, "recovering the tasks of this worker's predecessors", func() error {
		for _, q := range queue.ByPriority(w.cfg.Worker.Queues) {
			done, err := w.fleet.recoverer.OfPredecessors(ctx, q, w.cfg.Worker.ID, w.identity.Nonce)
			w.fleet.metrics.Recovered(q, queue.RecoveredSuccessor, done.Requeued+done.Archived)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if dead := w.beat.Replaced(); err == nil && dead != nil {
		// Nobody else may have noticed. It is only for people, so the start does not depend on it.
		if err := w.fleet.service.RecordPredecessor(ctx, w.cfg.Worker.ID, *dead); err != nil {
			w.log.Warn("death of the predecessor not recorded", "error", err)
		}
	}
	return err
}
