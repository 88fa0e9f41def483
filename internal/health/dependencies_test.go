package health

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// process is the health of a Python process that is healthy.
var process = OfProcess(status.Running, true, status.Reason{})

// dependency is a thing to watch whose answers the test decides.
type dependency struct {
	mu    sync.Mutex
	err   error
	hang  bool
	asked int
}

func (d *dependency) set(err error, hang bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err, d.hang = err, hang
}

func (d *dependency) check(ctx context.Context) error {
	d.mu.Lock()
	err, hang := d.err, d.hang
	d.asked++
	d.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

// newFakeDependencies watches two dependencies in place of Redis and the database.
func newFakeDependencies(log *slog.Logger) (d *Dependencies, broker, db *dependency) {
	broker, db = &dependency{}, &dependency{}
	running := func(since, now time.Time) time.Duration { return now.Sub(since) }
	d = &Dependencies{logger: log, running: running, redis: newRedisWatch(broker.check), database: newDatabaseWatch(db.check, func() {})}
	d.watches = []*watch{d.redis, d.database}
	return d, broker, db
}

const (
	askInterval = time.Second
	askTimeout  = 2 * time.Second
)

func newRedisWatch(check func(context.Context) error) *watch {
	return &watch{name: "redis", title: "Redis", interval: askInterval, timeout: askTimeout, check: check, close: func() {}}
}

func run(t *testing.T, d *Dependencies) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run returned %v, want nil", err)
			}
		})
	}
	return stop
}

func TestHealthBeforeTheFirstAnswer(t *testing.T) {
	d, _, _ := newFakeDependencies(quiet())
	h := d.Health(process)
	if h.Healthy || h.Broker != status.Unhealthy || h.Database != status.Unhealthy || h.Worker != status.Healthy || h.Ready() ||
		strings.Join(texts(h.Reasons), " ") != "Redis has not been asked yet. The database has not been asked yet." {
		t.Errorf("before the first answer the health is %+v, want redis and the database unhealthy", h)
	}
}

func TestHealthJoinsProcessAndDependencies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, broker, db := newFakeDependencies(quiet())
		defer run(t, d)()
		synctest.Wait()
		if h := d.Health(process); !h.Healthy || !h.Ready() || len(h.Reasons) != 0 || h.Broker != status.Healthy || h.Database != status.Healthy {
			t.Errorf("process, redis and database answer: %+v", h)
		}
		h := d.Health(OfProcess(status.Degraded, false, status.Reason{Summary: "exit status 1"}))
		if h.Healthy || h.Worker != status.Unhealthy || h.Reason().Summary != "The Python process is not healthy: exit status 1." {
			t.Errorf("process: %+v", h)
		}
		if h := d.Health(OfProcess(status.Starting, false, status.Reason{})); h.Reason().Summary != "The Python process is not healthy (starting)." {
			t.Errorf("process without a reason: %+v", h)
		}
		broker.set(errors.New("LOADING"), false)
		db.set(errors.New("no such host"), false)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		h = d.Health(process)
		if h.Healthy || h.Broker != status.Unhealthy || h.Database != status.Unhealthy ||
			strings.Join(texts(h.Reasons), " ") != "Redis does not answer: LOADING. The database does not answer: no such host." {
			t.Errorf("both down: %+v", h)
		}
	})
}

func TestFrozenDependenciesAreNoticedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		d, broker, db := newFakeDependencies(slog.New(slog.NewTextHandler(&log, nil)))
		defer run(t, d)()
		synctest.Wait()
		// The database first, and right after it was asked: the worst case.
		db.set(nil, true)
		changed := d.Changed()
		begin := time.Now()
		<-changed
		if took := time.Since(begin); took > databaseInterval+databaseTimeout {
			t.Errorf("database: noticed after %s", took)
		}
		synctest.Wait()
		broker.set(nil, true)
		changed, begin = d.Changed(), time.Now()
		<-changed
		if took := time.Since(begin); took > askInterval+askTimeout {
			t.Errorf("redis: noticed after %s", took)
		}
		if h := d.Health(process); !strings.Contains(strings.Join(texts(h.Reasons), " "), "no answer within 2s") {
			t.Errorf("a frozen redis gives %+v, want the timeout in the reason", h)
		}
		time.Sleep(30 * time.Second) // however long: logged once
		broker.set(nil, false)
		db.set(nil, false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if h := d.Health(process); !h.Healthy {
			t.Errorf("not well again: %+v", h)
		}
		for _, line := range []string{
			`msg="dependency unhealthy" dependency=redis`, `msg="dependency healthy" dependency=redis`,
			`msg="dependency unhealthy" dependency=database`, `msg="dependency healthy" dependency=database`,
		} {
			if n := strings.Count(log.String(), line); n != 1 {
				t.Errorf("%q logged %d times:\n%s", line, n, log.String())
			}
		}
	})
}

func TestChangedIsForChangesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, _ := newFakeDependencies(quiet())
		defer run(t, d)()
		synctest.Wait()
		changed := d.Changed()
		time.Sleep(30 * time.Second)
		select {
		case <-changed:
			t.Error("closed though nothing has changed")
		default:
		}
	})
}

func TestRunEndsDuringACheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, broker, db := newFakeDependencies(quiet())
		broker.set(nil, true)
		db.set(nil, true)
		stop := run(t, d)
		synctest.Wait()
		begin := time.Now()
		stop()
		if took := time.Since(begin); took > databaseTimeout {
			t.Errorf("Run ended after %s, want the timeout of a check at most", took)
		}
		if h := d.Health(process); h.Reason().Summary != "Redis has not been asked yet." {
			t.Errorf("a check that was broken off counts: %+v", h)
		}
	})
}

// A check that does not even heed its timeout says nothing of the present, for however long it hangs.
func TestWatchThatHangsIsNotHealthyForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, _ := newFakeDependencies(quiet())
		var hang atomic.Bool
		release := make(chan struct{})
		d.database.check = func(context.Context) error {
			if hang.Load() {
				<-release
			}
			return nil
		}
		defer run(t, d)()
		time.Sleep(time.Minute)
		synctest.Wait()
		if h := d.Health(process); !h.Healthy {
			t.Fatalf("before it hangs: %+v", h)
		}
		asked := time.Now()
		hang.Store(true)
		time.Sleep(databaseInterval + databaseTimeout + lateWithin + time.Second)
		synctest.Wait()
		h := d.Health(process)
		if h.Healthy || h.Probed || h.Database != status.Unknown || h.Broker != status.Healthy || h.Worker != status.Unhealthy {
			t.Errorf("%v after the last answer: %+v, want the database unknown", time.Since(asked), h)
		}
		if text := h.Reason().Summary; !strings.HasPrefix(text, "The database has not been asked since ") {
			t.Errorf("the reason is %q", text)
		}
		hang.Store(false)
		close(release)
		synctest.Wait()
		if h := d.Health(process); !h.Healthy || h.Database != status.Healthy {
			t.Errorf("it goes on: %+v", h)
		}
	})
}

// In a pause of the whole process no check could end.
func TestPauseMakesNoWatchStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, _ := newFakeDependencies(quiet())
		d.running = func(time.Time, time.Time) time.Duration { return time.Second }
		d.record(d.redis, nil)
		d.record(d.database, nil)
		time.Sleep(time.Hour)
		if h := d.Health(process); !h.Healthy {
			t.Errorf("after a pause: %+v", h)
		}
	})
}
