package worker

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/pause"
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
	log := slog.New(slog.DiscardHandler)
	unknown := func() health.Consumption { return health.Consumption{Unknown: true} }
	dependencies, err := health.NewDependencies(health.DependenciesOptions{Consumption: unknown, Logger: log})
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
	return newMonitor(sup, dependencies, &pause.Watch{})
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
			announced.Store(m.report().Reason().Summary)
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
		want := fmt.Sprintf("The Python process is not healthy: the Python process has not been started: round %d step 2 (<nil>).", round)
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
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.run(ctx, func() {})
	}()
	select {
	case <-changed:
	case <-time.After(testTimeout):
		t.Error("the gate does not announce that the worker has begun")
	}
	if m.Open() {
		t.Error("the gate is open although neither the process nor Redis answers")
	}
	cancel()
	<-done
}

// Only a loop that has been seen to stand still counts: in a pause of the whole program no loop can turn.
func TestLoopWatch(t *testing.T) {
	start := time.Unix(1000, 0)
	watch := loopWatch{pauses: &pause.Watch{}}
	now, tick := start, start
	look := func(after time.Duration, s supervisor.Status) bool {
		now = now.Add(after)
		return watch.standsStill(now, supervisor.Snapshot{Status: s, LoopTick: tick})
	}
	look(0, supervisor.StatusRunning)
	for range 100 {
		tick = tick.Add(500 * time.Millisecond)
		if look(500*time.Millisecond, supervisor.StatusRunning) {
			t.Fatal("a loop that turns stands still")
		}
	}
	if look(time.Hour, supervisor.StatusRunning) {
		t.Error("a pause of the program counts as one of the loop")
	}
	for range 5 {
		look(500*time.Millisecond, supervisor.StatusRunning)
	}
	if !look(500*time.Millisecond, supervisor.StatusRunning) {
		t.Errorf("a loop that has not turned for %v does not stand still", 3*time.Second)
	}
	if look(500*time.Millisecond, supervisor.StatusStopped) {
		t.Error("a supervisor that has stopped has a loop")
	}
}
