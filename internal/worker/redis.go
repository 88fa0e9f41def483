package worker

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/queue"
)

// idleConnections is how many connections a client keeps open that nobody uses. What the worker does beside the cycles
// seldom needs two at a time.
const idleConnections = 1

// durabilityTimeout bounds how long a start waits for what is only a warning.
const durabilityTimeout = 2 * time.Second

// openRedis opens the clients, and with an embedded:// URL starts the server too.
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
		// Every task and result is lost when this process ends.
		w.log.Warn("embedded redis started", "address", w.embedded.Addr(), "durable", false)
	}
	w.target = target
	// Each queue has one cycle under way at most; the fleet's pings of the registry and its sweeps come beside them.
	poolSize := len(w.cfg.Worker.Queues) + 20
	sized := func(o *redis.UniversalOptions) {
		o.PoolSize = max(o.PoolSize, min(poolSize, 1000))
		o.MaxIdleConns = idleConnections
		w.redisAddrs = o.Addrs
	}
	w.client = target.Open(sized)
	w.noRetry = target.Open(sized, queue.NoRetry)
	w.blocking = target.Open(queue.Blocking, func(o *redis.UniversalOptions) { o.PoolSize = len(w.cfg.Worker.Queues) })
	w.probe = target.Open(health.RedisOptions)
	return nil
}

// warnOfLosses says once whether Redis may lose tasks that it has accepted. That is the operator's decision, and the
// worker starts all the same.
func (w *Worker) warnOfLosses(ctx context.Context) {
	if w.embedded != nil {
		return // that has been said
	}
	ctx, cancel := context.WithTimeout(ctx, durabilityTimeout)
	defer cancel()
	d, err := redisclient.ReadDurability(ctx, w.client)
	switch {
	case err != nil:
		w.log.Debug("redis durability unknown", "error", err) // an access list may forbid INFO
	case d.LosesTasks():
		w.log.Warn("redis can lose tasks", "eviction_policy", cmp.Or(d.EvictionPolicy, "unknown"), "memory_limit", d.Limited,
			"persistence", cmp.Or(string(d.Persistence), "unknown"))
	}
}

// closeClients frees what openRedis opened. Closing twice does no harm: the consumer closes the blocking client.
func (w *Worker) closeClients() {
	if w.fleet != nil {
		w.fleet.close()
	}
	for _, c := range []redis.UniversalClient{w.client, w.noRetry, w.blocking, w.probe} {
		if c != nil {
			_ = c.Close()
		}
	}
	if w.embedded != nil {
		w.embedded.Close()
	}
}
