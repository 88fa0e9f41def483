package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/status"
)

const (
	pingInterval = time.Second
	pingTimeout  = 2 * time.Second

	databaseInterval = 5 * time.Second
	databaseTimeout  = 3 * time.Second
)

// RedisOptions prepares the options of the client that is given to
// [NewChecker]: one connection, and no attempt longer than a PING may take.
func RedisOptions(o *redis.UniversalOptions) {
	o.PoolSize, o.MinIdleConns, o.MaxIdleConns, o.MaxActiveConns = 1, 0, 1, 0
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = pingTimeout, pingTimeout, pingTimeout, pingTimeout
	o.DialerRetries = 1
	// One more try forgives a connection that has merely been dropped.
	o.MaxRetries = 1
	o.ContextTimeoutEnabled = true
}

// CheckerOptions say what a [Checker] watches.
type CheckerOptions struct {
	// Redis is a client of the Checker's own, opened with RedisOptions: on a
	// shared one PING would queue behind commands that block. The caller closes
	// it once Run has returned. Required.
	Redis redis.UniversalClient
	// DatabaseURL is a postgres:// URL; empty: no database is watched.
	DatabaseURL string
	Logger      *slog.Logger // default: slog.Default()
}

// Process is what the supervisor says about the Python process.
type Process struct {
	Healthy bool
	Reason  status.Reason // why not
	Status  status.Status
}

// Checker asks Redis every second and the database every five whether they
// answer. Until the first answer they count as unhealthy. The methods may be
// called from any goroutine; Run once.
type Checker struct {
	watches []*watch
	broker  *watch
	db      *watch // nil: none is configured
	logger  *slog.Logger

	mu      sync.Mutex    // guards changed and the watches' results
	changed chan struct{} // closed and replaced at every change
}

// watch is one dependency that is asked again and again.
type watch struct {
	name              string // as a sentence begins with it
	interval, timeout time.Duration
	check             func(context.Context) error
	close             func()

	asked bool // guarded by Checker.mu, as err
	err   error
}

// NewChecker returns a Checker that has asked nothing yet. A database URL that
// cannot be read is an error, which does not repeat the password.
func NewChecker(opts CheckerOptions) (*Checker, error) {
	c := &Checker{logger: opts.Logger, changed: make(chan struct{})}
	if c.logger == nil {
		c.logger = slog.Default()
	}
	c.broker = &watch{
		name: "Redis", interval: pingInterval, timeout: pingTimeout,
		check: func(ctx context.Context) error { return ping(ctx, opts.Redis) },
		close: func() {},
	}
	c.watches = append(c.watches, c.broker)
	if opts.DatabaseURL != "" {
		db, err := newDatabase(opts.DatabaseURL)
		if err != nil {
			return nil, err
		}
		c.db = &watch{
			name: "The database", interval: databaseInterval, timeout: databaseTimeout,
			check: db.check, close: db.close,
		}
		c.watches = append(c.watches, c.db)
	}
	return c, nil
}

// ping asks Redis, on a cluster every master: the queues may live on any.
func ping(ctx context.Context, client redis.UniversalClient) error {
	if cluster, ok := client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			return node.Ping(ctx).Err()
		})
	}
	return client.Ping(ctx).Err()
}

// Run watches until ctx ends and then returns nil, within the timeout of a
// check at most. Its goroutines, one per dependency, have ended by then.
func (c *Checker) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, w := range c.watches {
		wg.Go(func() { c.watch(ctx, w) })
	}
	wg.Wait()
	return nil
}

func (c *Checker) watch(ctx context.Context, w *watch) {
	defer w.close()
	// A ticker drops the ticks that a slow check misses.
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for {
		checkCtx, cancel := context.WithTimeout(ctx, w.timeout)
		err := w.check(checkCtx)
		timedOut := errors.Is(checkCtx.Err(), context.DeadlineExceeded)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil && timedOut {
			err = fmt.Errorf("no answer within %s", w.timeout)
		}
		c.record(w, err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// record keeps the outcome of a check, and tells when it differs in kind from
// the one before.
func (c *Checker) record(w *watch, err error) {
	c.mu.Lock()
	first, wasWell := !w.asked, w.asked && w.err == nil
	w.asked, w.err = true, err
	changed := first || wasWell != (err == nil)
	if changed {
		close(c.changed)
		c.changed = make(chan struct{})
	}
	c.mu.Unlock()

	switch {
	case !changed:
	case err != nil:
		c.logger.Warn("dependency does not answer", "dependency", w.name, "err", err)
	case !first:
		c.logger.Info("dependency answers again", "dependency", w.name)
	}
}

// Changed returns a channel that is closed when Redis or the database next
// begins or ceases to answer. Take it before Report, so that no change falls
// between the two.
func (c *Checker) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Report combines what p says of the Python process with the last answers of
// Redis and the database. It never blocks. Environment and the numbers are for
// the caller to fill in.
func (c *Checker) Report(p Process) Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := Report{Health: status.Health{
		Healthy: p.Healthy, Status: p.Status,
		Worker: status.Healthy, Broker: status.Healthy, Database: status.NotConfigured,
	}}
	if !p.Healthy {
		r.Worker = status.Unhealthy
		r.Reasons = append(r.Reasons, processReason(p))
	}
	if reason := c.broker.reason(); reason != "" {
		r.Healthy, r.Broker = false, status.Unhealthy
		r.Reasons = append(r.Reasons, status.Reason{Summary: reason})
	}
	if c.db != nil {
		r.Database = status.Healthy
		if reason := c.db.reason(); reason != "" {
			r.Healthy, r.Database = false, status.Unhealthy
			r.Reasons = append(r.Reasons, status.Reason{Summary: reason})
		}
	}
	return r
}

func processReason(p Process) status.Reason {
	if p.Reason.Summary == "" {
		return status.Reason{Summary: fmt.Sprintf("The Python process is not healthy (%s).", p.Status)}
	}
	return p.Reason.WithSummary(func(summary string) string {
		if len(p.Reason.Stderr) == 0 {
			summary += "."
		}
		return "The Python process is not healthy: " + summary
	})
}

// reason says why the dependency counts as unhealthy; empty when it is well.
func (w *watch) reason() string {
	switch {
	case !w.asked:
		return w.name + " has not been asked yet."
	case w.err != nil:
		return fmt.Sprintf("%s does not answer: %v.", w.name, w.err)
	}
	return ""
}
