package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

func stallOptions(script string, args ...string) Options {
	o := testOptions(script, args...)
	o.BlockThreshold = time.Second
	return o
}

func TestStoppedProcessIsStalledAndRecovers(t *testing.T) {
	t.Parallel()
	r := startReady(t, stallOptions("echo_v2.py"))
	pid := r.Snapshot().PID
	kill(t, pid, syscall.SIGSTOP)
	s := r.awaitStatus(StatusStalled)
	if s.Healthy || s.PID != pid || s.Lag < time.Second {
		t.Errorf("stalled: %+v, want unhealthy, the same pid and a lag of a second", s)
	}
	if got := r.do(task("t", 1)); !errors.Is(got.err, ErrNotRun) {
		t.Errorf("Do while stalled: %v, want not run", got.err)
	}
	kill(t, pid, syscall.SIGCONT)
	s = r.awaitStatus(StatusRunning)
	if !s.Healthy || s.Crashes != 0 || s.Restarts != 0 {
		t.Errorf("recovered: %+v, want healthy without crash or restart", s)
	}
	if got := r.do(task("t", 1)); got.err != nil {
		t.Errorf("Do: %v", got.err)
	}
}

func TestSilentIdleProcessIsStalled(t *testing.T) {
	t.Parallel()
	r := startReady(t, stallOptions("no_pong.py"))
	r.awaitStatus(StatusStalled)
}

func TestBusyProcessIsHealthy(t *testing.T) {
	t.Parallel()
	r := startReady(t, stallOptions("no_pong.py", "--busy", "5"))
	s := r.await("lagging far beyond the threshold", func(s Snapshot) bool {
		if !s.Healthy {
			t.Fatalf("unhealthy: %+v", s)
		}
		return s.Lag > 3*time.Second
	})
	if s.Status != StatusRunning {
		t.Errorf("a busy process: %+v, want running", s)
	}
}

func TestBlockedLoopIsStalledAndRecovers(t *testing.T) {
	t.Parallel()
	r := startReady(t, stallOptions("blocked_loop.py"))
	if got := r.do(task("t", 3)); got.err != nil {
		t.Fatalf("Do: %v", got.err)
	}
	s := r.awaitStatus(StatusStalled)
	if !strings.Contains(s.Reason.Text(), "event loop") || s.Lag < time.Second {
		t.Errorf("stalled: %+v, want a blocked event loop and a lag of a second", s)
	}
	r.awaitStatus(StatusRunning)
}

func TestProtocol1IsNeverStalled(t *testing.T) {
	t.Parallel()
	o := stallOptions("stops_reading_stdin.py")
	o.BlockThreshold = 50 * time.Millisecond
	r := startReady(t, o)
	begin := time.Now()
	r.await("twenty thresholds have passed", func(s Snapshot) bool {
		if !s.Healthy {
			t.Fatalf("a process of protocol 1: %+v, want healthy", s)
		}
		return time.Since(begin) > 20*o.BlockThreshold
	})
}

func TestStallTimeoutIsACrash(t *testing.T) {
	t.Parallel()
	o := stallOptions("no_pong.py")
	o.BlockThreshold, o.StallTimeout = 200*time.Millisecond, 300*time.Millisecond
	r := startReady(t, o)
	a := r.send(context.Background(), task("t", 1))
	var crash *CrashError
	if got := r.receive(a); !errors.As(got.err, &crash) || crash.Cause != CauseStalled {
		t.Errorf("Do: %v, want a crash by a stall", got.err)
	}
	r.awaitStatus(StatusDegraded)
	if crashed, _ := r.causes(); fmt.Sprint(crashed) != "[stalled]" {
		t.Errorf("events: %v, want stalled", crashed)
	}
}

func TestStalledProcessCanBeRestarted(t *testing.T) {
	t.Parallel()
	o := stallOptions("echo_v2.py")
	o.StopTimeout = 400 * time.Millisecond
	r := startReady(t, o)
	kill(t, r.Snapshot().PID, syscall.SIGSTOP)
	r.awaitStatus(StatusStalled)
	if err := r.Restart(context.Background(), RestartManual); err != nil {
		t.Fatalf("Restart: %v", err)
	}
	if s := r.Snapshot(); s.Status != StatusRunning || !s.Healthy || s.Crashes != 0 {
		t.Errorf("after Restart: %+v, want running, healthy and no crash", s)
	}
}

func TestLoopTicks(t *testing.T) {
	t.Parallel()
	r := start(t, testOptions("never_ready.py"))
	first := r.Snapshot().LoopTick
	r.await("the loop turns", func(s Snapshot) bool { return s.LoopTick.After(first.Add(500 * time.Millisecond)) })
}
