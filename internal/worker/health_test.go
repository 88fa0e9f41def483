package worker

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/supervisor"
)

func TestStatusOf(t *testing.T) {
	for _, c := range []struct {
		status   supervisor.Status
		draining bool
		want     status.Status
	}{
		{supervisor.StatusStarting, false, status.Starting},
		{supervisor.StatusRunning, false, status.Running},
		{supervisor.StatusStalled, false, status.Running},
		{supervisor.StatusCrashed, false, status.Degraded},
		{supervisor.StatusRestarting, false, status.Restarting},
		{supervisor.StatusDegraded, false, status.Degraded},
		{supervisor.StatusDraining, false, status.Draining},
		{supervisor.StatusStopped, false, status.Draining},
		{supervisor.StatusRunning, true, status.Draining},
		{supervisor.StatusDegraded, true, status.Draining},
	} {
		if got := statusOf(supervisor.Snapshot{Status: c.status}, c.draining); got != c.want {
			t.Errorf("%s, draining %v, shows as %q, want %q", c.status, c.draining, got, c.want)
		}
	}
}

// idleStatus is the status of a worker whose parts do not run.
func idleStatus(t *testing.T) *monitor {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = client.Close() })
	log := slog.New(slog.DiscardHandler)
	checker, err := health.NewChecker(health.CheckerOptions{Redis: client, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	sup, err := supervisor.New(supervisor.Options{
		Command: []string{"true"}, Concurrency: 1, StartupTimeout: time.Second, StopTimeout: time.Second,
		OnCrash: supervisor.PolicyDegrade, MaxMessage: 1 << 20, BlockThreshold: time.Second, Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	return newMonitor(sup, checker)
}

// The heartbeat is written when health changes, not at its next beat: of changes that follow closely the last one must
// be told too.
func TestStatusTellsTheLastOfManyChanges(t *testing.T) {
	s := idleStatus(t)
	ctx, cancel := context.WithCancel(t.Context())
	var told atomic.Value
	told.Store("")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.run(ctx, func() {
			told.Store(s.process().Reason.Text())
			for range 100 {
				runtime.Gosched() // telling takes a moment, in which more changes
			}
		})
	}()
	for told.Load() == "" { // until it runs
		s.waiting("it", nil)
	}
	for round := range 2_000 {
		for step := range 3 {
			s.waiting(fmt.Sprint("round ", round, " step ", step), nil)
		}
		want := s.process().Reason.Text()
		for deadline := time.Now().Add(10 * time.Second); told.Load() != want; {
			if time.Now().After(deadline) {
				t.Fatalf("told %q, it is %q", told.Load(), want)
			}
			time.Sleep(time.Microsecond)
		}
	}
	cancel()
	<-done
}

func TestGateIsClosedUntilTheProcessRuns(t *testing.T) {
	s := idleStatus(t)
	changed := s.Changed()
	if s.Open() {
		t.Error("the gate is open before anything runs")
	}
	s.begin()
	select {
	case <-changed:
	default:
		t.Error("whoever waits at the gate is not told that the worker has begun")
	}
	if s.Open() {
		t.Error("the gate is open although neither the process nor Redis answers")
	}
}
