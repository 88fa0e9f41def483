package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestEchoBothProtocols(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		script   string
		args     []string
		protocol int
		handlers string
	}{
		{"echo_v1.py", nil, 1, "sync"},
		{"echo_v2.py", nil, 2, "sync"},
		{"echo_v2.py", []string{"--async"}, 2, "async"},
	} {
		t.Run(fmt.Sprint(tc.script, tc.args), func(t *testing.T) {
			r := startReady(t, testOptions(tc.script, tc.args...))
			var all sync.WaitGroup
			for i := range 200 {
				all.Go(func() {
					reply, err := r.Do(context.Background(), task(fmt.Sprint("t", i), i))
					if err != nil || string(reply.Result) != fmt.Sprint(i) || reply.Error != "" {
						t.Errorf("task %d: %+v, %v", i, reply, err)
					}
				})
			}
			all.Wait()
			s := r.Snapshot()
			if s.Protocol != tc.protocol || s.Handlers != tc.handlers || !s.Healthy || s.PID == 0 || s.InFlight != 0 {
				t.Errorf("snapshot: %+v, want protocol %d, %s handlers, healthy and nothing in flight", s, tc.protocol, tc.handlers)
			}
			if tc.protocol == 2 {
				s = r.await("gc figures", func(s Snapshot) bool { return len(s.GC) > 0 })
				if s.Python.Implementation != "CPython" || s.Python.Major != 3 || s.GC[0].Collections != 3 {
					t.Errorf("python: %+v %+v, want CPython 3 and its figures", s.Python, s.GC)
				}
			}
		})
	}
}

func TestStopEndsAnIdleProcessAtOnce(t *testing.T) {
	t.Parallel()
	o := testOptions("echo_v2.py")
	o.StopTimeout = 2 * testTimeout // so that a return in time means it went by itself
	r := startReady(t, o)
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	if err := r.Stop(ctx); err != nil || ctx.Err() != nil {
		t.Fatalf("stop: %v, %v", err, ctx.Err())
	}
	if err := <-r.err; err != nil {
		t.Errorf("Run: %v, want nil", err)
	}
	if s := r.Snapshot(); s.Status != StatusStopped || s.PID != 0 || s.Healthy {
		t.Errorf("after stop: %+v", s)
	}
	if _, err := r.Do(context.Background(), task("late", 1)); !errors.Is(err, ErrNotRun) {
		t.Errorf("Do after stop: %v, want not run", err)
	}
	if err := r.Restart(context.Background(), RestartManual); !errors.Is(err, ErrNoRestart) {
		t.Errorf("Restart after stop: %v, want ErrNoRestart", err)
	}
	if err := r.Stop(context.Background()); err != nil {
		t.Errorf("second stop: %v", err)
	}
}

func TestStopBeforeRun(t *testing.T) {
	t.Parallel()
	s, err := New(testOptions("echo_v1.py"))
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Fatalf("Stop before Run: %v", err)
	}
	if err := s.Run(context.Background()); err != nil {
		t.Errorf("Run after Stop: %v, want nil", err)
	}
	if err := s.Run(context.Background()); err == nil {
		t.Error("a second Run was accepted")
	}
}

func TestStopKillsWhatIgnoresSIGTERM(t *testing.T) {
	t.Parallel()
	o := testOptions("ignores_sigterm.py")
	o.StopTimeout = 200 * time.Millisecond
	r := startReady(t, o)
	pid := r.Snapshot().PID
	a := r.send(context.Background(), task("stuck", 1))
	r.inFlight(1)
	if err := r.Stop(context.Background()); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if got := r.receive(a); !errors.Is(got.err, ErrStopped) {
		t.Errorf("in flight: %v, want ErrStopped", got.err)
	}
	if alive(pid) {
		t.Errorf("process %d is alive after Stop", pid)
	}
}

func TestStopNow(t *testing.T) {
	t.Parallel()
	o := testOptions("ignores_sigterm.py")
	o.StopTimeout = 10 * testTimeout
	r := startReady(t, o)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Stop(ctx); err != nil {
		t.Fatalf("Stop: %v", err)
	}
}

func TestCrashDegradesAndRestartHeals(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("exits_code.py", "3"))
	got := r.do(task("t1", 1))
	var crash *CrashError
	if !errors.As(got.err, &crash) {
		t.Fatalf("Do: %v", got.err)
	}
	if crash.Cause != CauseExit || !strings.Contains(crash.Evidence.Text(), "exit status 3") ||
		!strings.Contains(crash.Evidence.Text(), "something went wrong") {
		t.Errorf("crash: %+v, want the exit status and the line on stderr", crash)
	}
	s := r.awaitStatus(StatusDegraded)
	if s.Healthy || s.PID != 0 || s.Crashes != 1 || !strings.Contains(s.Reason.Text(), "exit status 3") {
		t.Errorf("degraded: %+v", s)
	}
	if strings.Contains(s.Reason.Summary, "something went wrong") || !slices.Contains(s.Reason.Stderr, "Traceback: something went wrong") {
		t.Errorf("reason %q, stderr %q: want what the process wrote in the latter only", s.Reason.Summary, s.Reason.Stderr)
	}
	for _, want := range []string{
		`msg="python process state changed" component=supervisor from=crashed to=degraded reason="crashed (exit): exit status 3" python_pid=0`,
		`msg="python process crashed" component=supervisor cause=exit reason="exit status 3" stderr="Traceback: something went wrong"`,
	} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	if _, err := r.Do(context.Background(), task("t2", 1)); !errors.Is(err, ErrNotRun) {
		t.Errorf("Do while degraded: %v, want not run", err)
	}
	if err := r.Restart(context.Background(), RestartManual); err != nil {
		t.Fatalf("Restart: %v", err)
	}
	if s := r.Snapshot(); s.Status != StatusRunning || !s.Healthy || s.Restarts != 1 {
		t.Errorf("after restart: %+v", s)
	}
	crashed, restarts := r.causes()
	if fmt.Sprint(crashed) != "[exit]" || fmt.Sprint(restarts) != "[manual]" {
		t.Errorf("events: %v %v, want one exit and one manual restart", crashed, restarts)
	}
}

func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	o := testOptions("never_ready.py")
	o.StopTimeout = 2 * testTimeout // SIGTERM must do
	r := start(t, o)
	r.await("started", func(s Snapshot) bool { return s.PID > 0 })
	restarting := make(chan error, 1)
	go func() { restarting <- r.Restart(context.Background(), RestartManual) }()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	if err := r.Stop(ctx); err != nil || ctx.Err() != nil {
		t.Errorf("stop: %v, %v", err, ctx.Err())
	}
	if err := <-restarting; !errors.Is(err, ErrNoRestart) {
		t.Errorf("the restart that waited: %v", err)
	}
	if crashed, _ := r.causes(); len(crashed) != 0 {
		t.Errorf("a stop is no crash: %v", crashed)
	}
}

func TestStopFromManyAtOnce(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("echo_v2.py"))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := r.Stop(context.Background()); err != nil {
				t.Errorf("Stop: %v", err)
			}
			if s := r.Snapshot(); s.Status != StatusStopped {
				t.Errorf("Stop returned in state %s", s.Status)
			}
		})
	}
	all.Wait()
}

// The command may be a shell that waits for the process that matters.
func TestWrappedCommand(t *testing.T) {
	t.Parallel()
	o := testOptions("")
	o.Command = []string{"sh", "-c", strings.Join(childCommand("echo_v2.py"), " ") + "; exit $?"}
	r := startReady(t, o)
	c, _ := r.gate.current()
	s := r.Snapshot()
	if s.PID == c.process.PID || processStat(s.PID).PPID != c.process.PID {
		t.Errorf("pid %d, want a child of the shell, which is %d", s.PID, c.process.PID)
	}
	kill(t, s.PID, syscall.SIGKILL)
	if s = r.awaitStatus(StatusDegraded); s.Healthy || alive(c.process.PID) {
		t.Errorf("after the kill: %+v, shell alive %v; want degraded and no shell", s, alive(c.process.PID))
	}
}

func TestIllegalTransitionEndsRun(t *testing.T) {
	t.Parallel()
	s, err := New(testOptions("echo_v2.py"))
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	l := newLoop(s.opts, s.gate, s.snapshots, s.mailbox)
	l.to(StatusDegraded, because("a bug"))
	l.endOnIllegalTransition()
	var illegal *TransitionError
	if !errors.As(l.fatal, &illegal) || !l.finished || l.state.status != StatusStopped {
		t.Errorf("%v, finished %v, state %s; want a TransitionError and a loop that has stopped", l.fatal, l.finished, l.state.status)
	}
}
