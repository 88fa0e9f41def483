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

func TestWorkerStatus(t *testing.T) {
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
		if got := workerStatus(supervisor.Snapshot{Status: c.status}, c.draining); got != c.want {
			t.Errorf("the status of %s, draining %v, is %q, want %q", c.status, c.draining, got, c.want)
		}
	}
}

// idleMonitor is the monitor of a worker whose components do not run.
func idleMonitor(t *testing.T) *monitor {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = client.Close() })
	log := slog.New(slog.DiscardHandler)
	dependencies, err := health.NewDependencies(health.DependenciesOptions{Redis: client, Logger: log})
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
	return newMonitor(sup, dependencies)
}

// The heartbeat is written when the health changes, not at its next beat: of changes that follow closely the last one
// must be announced too.
func TestMonitorAnnouncesTheLastOfManyChanges(t *testing.T) {
	m := idleMonitor(t)
	ctx, cancel := context.WithCancel(t.Context())
	var announced atomic.Value
	announced.Store("")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.run(ctx, func() {
			announced.Store(m.process().Reason().Summary)
			for range 100 {
				runtime.Gosched() // announcing takes a moment, in which more changes
			}
		})
	}()
	for announced.Load() == "" { // until it runs
		m.waiting("it", nil)
	}
	for round := range 2_000 {
		for step := range 3 {
			m.waiting(fmt.Sprint("round ", round, " step ", step), nil)
		}
		want := m.process().Reason().Summary
		for deadline := time.Now().Add(10 * time.Second); announced.Load() != want; {
			if time.Now().After(deadline) {
				t.Fatalf("announced the reason %q, want %q", announced.Load(), want)
			}
			time.Sleep(time.Microsecond)
		}
	}
	cancel()
	<-done
}

func TestGateIsClosedUntilTheProcessRuns(t *testing.T) {
	m := idleMonitor(t)
	changed := m.Changed()
	if m.Open() {
		t.Error("the gate is open before anything runs")
	}
	m.begin()
	select {
	case <-changed:
	default:
		t.Error("the gate does not announce that the worker has begun")
	}
	if m.Open() {
		t.Error("the gate is open although neither the process nor Redis answers")
	}
}
