package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/internal/broadcast"
)

const (
	consumptionInterval = 500 * time.Millisecond
	consumptionTimeout  = 2 * time.Second

	databaseInterval = 5 * time.Second
	databaseTimeout  = 3 * time.Second

	// lateWithin is how much later than its interval and its timeout allow a check may end.
	lateWithin = 2 * time.Second
)

// DependenciesOptions say what [Dependencies] watches.
type DependenciesOptions struct {
	// Consumption says what comes of the process's own work with Redis, by which that is judged; it must not block. Required.
	Consumption func() Consumption
	// ConsumptionChanged returns a channel that is closed when something works that did not; nil: it is asked now and then.
	ConsumptionChanged func() <-chan struct{}
	// Running returns how much of the time between two moments this process was running: a pause of the whole process is no
	// fault of a check that was due in it. nil: all of it.
	Running func(since, now time.Time) time.Duration
	// DatabaseURL is a postgres:// URL; empty: no database is watched.
	DatabaseURL string
	Logger      *slog.Logger // default: slog.Default()
}

// Dependencies judges Redis by what the work with it comes to, and asks the database every five seconds whether it answers.
// Until the first answer they count as unhealthy. The methods may be called from any goroutine; Run only once.
type Dependencies struct {
	watches  []*watch
	redis    *watch
	database *watch // nil: none is configured
	logger   *slog.Logger
	changed  broadcast.Notifier
	running  func(since, now time.Time) time.Duration // DependenciesOptions.Running

	mu sync.Mutex // guards the results of the watches
}

// watch is one dependency that is asked again and again.
type watch struct {
	name, title       string // in the log; as a sentence begins with it
	interval, timeout time.Duration
	check             func(context.Context) error
	close             func()
	changed           func() <-chan struct{} // is closed when the next check should be at once; nil: none is

	asked bool // guarded by Dependencies.mu, as the rest
	err   error
	ended time.Time // when the last check ended
}

// stale reports whether no check has ended for so long that what is known says nothing of the present. The caller holds
// Dependencies.mu.
func (d *Dependencies) stale(w *watch, now time.Time) bool {
	return w.asked && d.running(w.ended, now) > w.interval+w.timeout+lateWithin
}

// NewDependencies returns Dependencies that have asked nothing yet. A database URL that cannot be read is an error,
// which does not repeat the password.
func NewDependencies(opts DependenciesOptions) (*Dependencies, error) {
	logger := opts.Logger
	if logger == nil {
		logger = slog.Default()
	}
	d := &Dependencies{logger: logger.With("component", "health"), running: opts.Running}
	if d.running == nil {
		d.running = func(since, now time.Time) time.Duration { return now.Sub(since) }
	}
	d.redis = newConsumptionWatch(opts.Consumption, opts.ConsumptionChanged)
	d.watches = append(d.watches, d.redis)
	if opts.DatabaseURL != "" {
		db, err := newDatabase(opts.DatabaseURL)
		if err != nil {
			return nil, err
		}
		d.database = newDatabaseWatch(db.check, db.close)
		d.watches = append(d.watches, d.database)
	}
	return d, nil
}

func newDatabaseWatch(check func(context.Context) error, closeConn func()) *watch {
	return &watch{
		name: "database", title: "The database", interval: databaseInterval, timeout: databaseTimeout, check: check, close: closeConn,
	}
}

// Run watches until ctx ends and then returns nil, soon: it waits for no answer. Its goroutines have ended by then.
func (d *Dependencies) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, w := range d.watches {
		wg.Go(func() { d.watch(ctx, w) })
	}
	wg.Wait()
	return nil
}

func (d *Dependencies) watch(ctx context.Context, w *watch) {
	defer w.close()
	// A ticker drops the ticks that a slow check misses.
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for {
		var changed <-chan struct{}
		if w.changed != nil {
			changed = w.changed()
		}
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
		if !errors.Is(err, errNotAsked) {
			d.record(w, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// record keeps the outcome of a check, and announces it when it differs from the one before. It is logged when it differs
// in kind.
func (d *Dependencies) record(w *watch, err error) {
	d.mu.Lock()
	first, was, wasOpen := !w.asked, w.err, w.open()
	w.asked, w.err, w.ended = true, err, time.Now()
	differs := first || (was == nil) != (err == nil)
	changed := differs || wasOpen != w.open() || hindranceChanged(was, err)
	d.mu.Unlock()
	if changed {
		d.changed.Notify()
	}
	switch {
	case !differs:
	case err != nil:
		d.logger.Warn("dependency unhealthy", "dependency", w.name, "error", err)
	case !first:
		d.logger.Info("dependency healthy", "dependency", w.name)
	}
}

// Changed returns a channel that is closed when Redis or the database next begins or ceases to work, or something else
// hinders the work with Redis. Take it before calling Health, so that no change falls between the two.
func (d *Dependencies) Changed() <-chan struct{} { return d.changed.Next() }
