package health

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/internal/status"
)

var running = Process{Healthy: true, Status: status.Running}

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

// newFakeChecker watches two dependencies in place of Redis and the database.
func newFakeChecker(log *slog.Logger) (c *Checker, broker, db *dependency) {
	broker, db = &dependency{}, &dependency{}
	c = &Checker{logger: log, changed: make(chan struct{})}
	c.broker = &watch{name: "Redis", interval: pingInterval, timeout: pingTimeout, check: broker.check, close: func() {}}
	c.db = &watch{name: "The database", interval: databaseInterval, timeout: databaseTimeout, check: db.check, close: func() {}}
	c.watches = []*watch{c.broker, c.db}
	return c, broker, db
}

func run(t *testing.T, c *Checker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	return stop
}

func TestReportBeforeTheFirstAnswer(t *testing.T) {
	c, _, _ := newFakeChecker(quiet())
	r := c.Report(running)
	if r.Healthy || r.Broker != status.Unhealthy || r.Database != status.Unhealthy || r.Worker != status.Healthy || r.Ready() ||
		strings.Join(texts(r.Reasons), " ") != "Redis has not been asked yet. The database has not been asked yet." {
		t.Errorf("%+v", r)
	}
}

func TestReportCombines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, broker, db := newFakeChecker(quiet())
		defer run(t, c)()
		synctest.Wait()
		if r := c.Report(running); !r.Healthy || !r.Ready() || len(r.Reasons) != 0 || r.Broker != status.Healthy || r.Database != status.Healthy {
			t.Errorf("all well: %+v", r)
		}
		r := c.Report(Process{Status: "degraded", Reason: status.Reason{Summary: "exit status 1"}})
		if r.Healthy || r.Worker != status.Unhealthy || r.Reason().Summary != "The Python process is not healthy: exit status 1." {
			t.Errorf("process: %+v", r)
		}
		if r := c.Report(Process{Status: "starting"}); r.Reason().Summary != "The Python process is not healthy (starting)." {
			t.Errorf("process without a reason: %+v", r)
		}
		broker.set(errors.New("LOADING"), false)
		db.set(errors.New("no such host"), false)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		r = c.Report(running)
		if r.Healthy || r.Broker != status.Unhealthy || r.Database != status.Unhealthy ||
			strings.Join(texts(r.Reasons), " ") != "Redis does not answer: LOADING. The database does not answer: no such host." {
			t.Errorf("both down: %+v", r)
		}
	})
}

func TestFrozenDependenciesAreNoticedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c, broker, db := newFakeChecker(slog.New(slog.NewTextHandler(&log, nil)))
		defer run(t, c)()
		synctest.Wait()
		// The database first, and right after it was asked: the worst case.
		db.set(nil, true)
		changed := c.Changed()
		begin := time.Now()
		<-changed
		if took := time.Since(begin); took > databaseInterval+databaseTimeout {
			t.Errorf("database: noticed after %s", took)
		}
		synctest.Wait()
		broker.set(nil, true)
		changed, begin = c.Changed(), time.Now()
		<-changed
		if took := time.Since(begin); took > pingInterval+pingTimeout {
			t.Errorf("redis: noticed after %s", took)
		}
		if r := c.Report(running); !strings.Contains(strings.Join(texts(r.Reasons), " "), "no answer within 2s") {
			t.Errorf("%+v", r)
		}
		time.Sleep(30 * time.Second) // however long: said once
		broker.set(nil, false)
		db.set(nil, false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if r := c.Report(running); !r.Healthy {
			t.Errorf("not well again: %+v", r)
		}
		for _, line := range []string{
			`msg="dependency does not answer" dependency=Redis`, `msg="dependency answers again" dependency=Redis`,
			`msg="dependency does not answer" dependency="The database"`, `msg="dependency answers again" dependency="The database"`,
		} {
			if n := strings.Count(log.String(), line); n != 1 {
				t.Errorf("%q logged %d times:\n%s", line, n, log.String())
			}
		}
	})
}

func TestChangedIsForChangesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, _ := newFakeChecker(quiet())
		defer run(t, c)()
		synctest.Wait()
		changed := c.Changed()
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
		c, broker, db := newFakeChecker(quiet())
		broker.set(nil, true)
		db.set(nil, true)
		stop := run(t, c)
		synctest.Wait()
		begin := time.Now()
		stop()
		if took := time.Since(begin); took > databaseTimeout {
			t.Errorf("took %s", took)
		}
		if r := c.Report(running); r.Reason().Summary != "Redis has not been asked yet." {
			t.Errorf("a check that was broken off counts: %+v", r)
		}
	})
}

// redisChecker watches the server at addr only.
func redisChecker(t *testing.T, addr string) *Checker {
	t.Helper()
	opts := &redis.UniversalOptions{Addrs: []string{addr}}
	RedisOptions(opts)
	client := redis.NewUniversalClient(opts)
	c, err := NewChecker(CheckerOptions{Redis: client, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, c)
	t.Cleanup(func() {
		stop()
		_ = client.Close()
	})
	return c
}

func brokerIs(c *Checker, want status.Check) func() bool {
	return func() bool { return c.Report(running).Broker == want }
}

func TestRealRedisFrozenKilledAndBack(t *testing.T) {
	s := redistest.Start(t)
	c := redisChecker(t, s.Addr)
	eventually(t, "well", brokerIs(c, status.Healthy))
	if r := c.Report(running); r.Database != status.NotConfigured || !r.Healthy {
		t.Errorf("%+v", r)
	}
	s.Freeze()
	eventually(t, "frozen noticed", brokerIs(c, status.Unhealthy))
	s.Thaw()
	eventually(t, "thawed", brokerIs(c, status.Healthy))
	s.Kill()
	eventually(t, "killed", brokerIs(c, status.Unhealthy))
	s.Restart()
	eventually(t, "back", brokerIs(c, status.Healthy))
}

func TestADroppedConnectionIsForgiven(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.StartProxy(t, s.Addr)
	c := redisChecker(t, p.Addr)
	eventually(t, "well", brokerIs(c, status.Healthy))
	changed := c.Changed()
	p.CutEveryMatching(2, redistest.CutReply, func(name string) bool { return name == "PING" })
	eventually(t, "a few cuts", func() bool { return p.Cuts() >= 3 })
	select {
	case <-changed:
		t.Errorf("one lost connection turned the worker: %+v", c.Report(running))
	default:
	}
}

func TestAServerThatAcceptsAndNeverAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := redisChecker(t, l.Addr().String())
	eventually(t, "noticed", func() bool {
		return strings.Contains(strings.Join(texts(c.Report(running).Reasons), " "), "no answer within 2s")
	})
}

func TestClusterMasters(t *testing.T) {
	s := redistest.StartCluster(t)
	opts := &redis.UniversalOptions{Addrs: []string{s.Addr}, IsClusterMode: true}
	RedisOptions(opts)
	client := redis.NewUniversalClient(opts)
	defer client.Close()
	c, err := NewChecker(CheckerOptions{Redis: client, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer run(t, c)()
	eventually(t, "well", brokerIs(c, status.Healthy))
	s.Freeze()
	eventually(t, "frozen noticed", brokerIs(c, status.Unhealthy))
	s.Thaw()
	eventually(t, "thawed", brokerIs(c, status.Healthy))
}
