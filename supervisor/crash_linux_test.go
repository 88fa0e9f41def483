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

func TestCrashCauses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		command  []string
		cause    string
		evidence string
	}{
		{"exit 0", childCommand("exits_zero.py"), CauseExit, "exit status 0"},
		{"exit 3", childCommand("exits_code.py", "3"), CauseExit, "exit status 3"},
		{"stdout closed", childCommand("closes_stdout.py"), CauseStdoutClosed, "closed its stdout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			o := testOptions("")
			o.Command = tc.command
			r := startReady(t, o)
			var crash *CrashError
			if got := r.do(task("t", 1)); !errors.As(got.err, &crash) {
				t.Fatalf("Do: %v", got.err)
			}
			if crash.Cause != tc.cause || !strings.Contains(crash.Evidence.Text(), tc.evidence) {
				t.Errorf("crash: %+v, want cause %s and evidence %q", crash, tc.cause, tc.evidence)
			}
			r.awaitStatus(StatusDegraded)
			if crashed, _ := r.causes(); fmt.Sprint(crashed) != "["+tc.cause+"]" {
				t.Errorf("events: %v, want %s", crashed, tc.cause)
			}
		})
	}
}

func TestClosedStdinIsACrash(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("closes_stdin.py"))
	var crash *CrashError
	got := r.do(task("t", 1))
	// Nothing of the line was read, so nobody is charged.
	if errors.As(got.err, &crash) || !errors.Is(got.err, ErrNotRun) {
		t.Errorf("Do: %v, want not run and no crash", got.err)
	}
	r.awaitStatus(StatusDegraded)
	if crashed, _ := r.causes(); fmt.Sprint(crashed) != "["+CauseProtocol+"]" {
		t.Errorf("events: %v, want %s", crashed, CauseProtocol)
	}
}

// A process that answers pings and whose main thread is gone would be given tasks for ever.
func TestMainThreadGoneIsACrash(t *testing.T) {
	t.Parallel()
	o := testOptions("main_gone.py")
	o.BlockThreshold = time.Second // pings come at a fifth of it
	r := startReady(t, o)
	if got := r.do(task("t", 1)); got.err != nil {
		t.Fatalf("Do: %v", got.err)
	}
	s := r.awaitStatus(StatusDegraded)
	if !strings.Contains(s.Reason.Summary, "main thread") {
		t.Errorf("reason: %s, want the main thread in it", s.Reason.Summary)
	}
	if crashed, _ := r.causes(); fmt.Sprint(crashed) != "["+CauseProtocol+"]" {
		t.Errorf("events: %v, want %s", crashed, CauseProtocol)
	}
}

func TestStartupFailures(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		command []string
		timeout time.Duration
		want    []string
	}{
		{"never ready", childCommand("never_ready.py"), 1500 * time.Millisecond, []string{"crashed (startup): not ready within 1.5s (python.startup_timeout)", "stdout: reading the weights", "loading the model"}},
		{"says error", childCommand("error_ready.py"), testTimeout, []string{"cannot load the model", "no module named torch"}},
		{"exits", childCommand("exits_code.py", "4", "--at-once"), testTimeout, []string{"exit status 4", "something went wrong"}},
		{"not there", []string{"/does/not/exist"}, testTimeout, []string{"/does/not/exist", "no such file"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			o := testOptions("")
			o.Command, o.StartupTimeout = tc.command, tc.timeout
			r := start(t, o)
			s := r.awaitStatus(StatusDegraded)
			for _, want := range tc.want {
				if !strings.Contains(s.Reason.Text(), want) {
					t.Errorf("reason lacks %q: %s", want, s.Reason.Text())
				}
			}
			if crashed, _ := r.causes(); fmt.Sprint(crashed) != "[startup]" {
				t.Errorf("events: %v, want startup", crashed)
			}
			if err := r.Restart(context.Background(), RestartManual); !errors.Is(err, ErrCrashed) {
				t.Errorf("a restart that fails again says %v", err)
			}
		})
	}
}

func TestSlowStartIsAwaited(t *testing.T) {
	t.Parallel()
	r := start(t, testOptions("slow_start.py", "0.5"))
	if s := r.awaitStatus(StatusStarting); s.Healthy {
		t.Errorf("healthy while starting: %+v", s)
	}
	if got := r.do(task("early", 1)); !errors.Is(got.err, ErrNotRun) {
		t.Errorf("Do while starting: %v, want not run", got.err)
	}
	r.awaitStatus(StatusRunning)
	if got := r.do(task("t", 7)); got.err != nil || string(got.Result) != "7" {
		t.Errorf("Do: %+v, want 7", got)
	}
}

// Two tasks are with the process when it dies: one that ran alone is charged, two that ran are suspected.
func TestCharging(t *testing.T) {
	t.Parallel()
	isCrash := func(err error) bool {
		var crash *CrashError
		return errors.As(err, &crash) && crash.Cause == CauseSignal
	}
	isSuspicion := func(err error) bool {
		var suspicion *SuspicionError
		return errors.As(err, &suspicion) && suspicion.Cause == CauseSignal
	}
	for _, tc := range []struct {
		args         []string
		first, later func(error) bool
	}{
		{nil, isCrash, isNotRun},
		{[]string{"--async"}, isSuspicion, isSuspicion},
		{[]string{"--v1"}, isSuspicion, isSuspicion},
	} {
		t.Run(strings.Join(tc.args, ""), func(t *testing.T) {
			r := startReady(t, testOptions("segfault.py", tc.args...))
			first := r.send(context.Background(), task("first", 1))
			r.inFlight(1)
			second := r.send(context.Background(), task("second", 2))
			got := r.receive(first)
			if !tc.first(got.err) || !strings.Contains(got.err.Error(), "SIGSEGV") || !strings.Contains(got.err.Error(), "about to crash") {
				t.Errorf("the oldest: %v, want SIGSEGV and the line on stderr", got.err)
			}
			if got := r.receive(second); !tc.later(got.err) {
				t.Errorf("the later one: %v", got.err)
			}
		})
	}
}

// What earlier tasks have written is no evidence against the one that ran.
func TestEvidenceIsOfTheTaskThatRan(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]string{
		"":             "exit status 3; it wrote nothing to stderr since the task began",
		"out of luck!": "exit status 3; its last lines on stderr:\nout of luck!",
	} {
		r := startReady(t, testOptions("blames_another.py"))
		first := r.send(context.Background(), task("first", ""))
		r.await("the first task's line", func(s Snapshot) bool { return len(s.Stderr) == 1 })
		second := r.send(context.Background(), task("second", ""))
		r.receive(first)
		r.receive(second)
		var crash *CrashError
		if got := r.do(task("last", words)); !errors.As(got.err, &crash) || crash.Evidence.Text() != want {
			t.Errorf("a task that writes %q: %v, want evidence %q", words, got.err, want)
		}
		if s := r.awaitStatus(StatusDegraded); !strings.Contains(strings.Join(s.Stderr, "\n"), "ZeroDivisionError") {
			t.Errorf("what was written is gone: %q", s.Stderr)
		}
	}
}

// A request that the process never read was not run, however it ended.
func TestUnreadRequestsAreNotCharged(t *testing.T) {
	t.Parallel()
	o := testOptions("stops_reading_stdin.py")
	o.MaxMessage = 8 << 20
	r := startReady(t, o)
	big := task("big", strings.Repeat("x", 4<<20)) // more than any pipe holds
	a := r.send(context.Background(), big)
	b := r.send(context.Background(), task("small", 1))
	r.inFlight(2)
	kill(t, r.Snapshot().PID, syscall.SIGKILL)
	for _, c := range []<-chan answer{a, b} {
		if got := r.receive(c); !errors.Is(got.err, ErrNotRun) {
			t.Errorf("an unread request: %v", got.err)
		}
	}
}

func TestKillIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("echo_v2.py"))
	a := r.send(context.Background(), task("t", map[string]any{"sleep": 3600}))
	r.inFlight(1)
	// The task must have been read, or nobody would be charged.
	c, _ := r.gate.current()
	eventually(t, "the request is read", func() bool { return c.in.Sent() > 0 && c.process.Unread() == 0 })
	changed := r.Changed()
	shown := r.reasons()
	kill(t, r.Snapshot().PID, syscall.SIGKILL)
	select {
	case <-changed:
	case <-time.After(testTimeout):
		t.Fatal("no change")
	}
	if s := r.Snapshot(); s.Healthy {
		t.Errorf("healthy after the kill: %+v", s)
	}
	// Nothing that is shown meanwhile gives another cause.
	for _, reason := range shown() {
		if !strings.HasPrefix(reason, "crashed (signal): killed by SIGKILL") {
			t.Errorf("the reason %q was shown", reason)
		}
	}
	var crash *CrashError
	if got := r.receive(a); !errors.As(got.err, &crash) || !strings.Contains(crash.Evidence.Text(), "SIGKILL") ||
		!strings.Contains(crash.Evidence.Text(), "not sent by the worker") {
		t.Errorf("Do: %v, want a SIGKILL that the worker did not send", got.err)
	}
}

// reasons collects the reasons that are shown from now on; the function that it returns waits until the process is
// degraded and returns them.
func (r *harness) reasons() func() []string {
	var shown []string
	done := make(chan struct{})
	first := r.Changed()
	go func() { // ends when the process is degraded, or with the supervisor
		defer close(done)
		for changed := first; ; {
			select {
			case <-changed:
			case <-r.mailbox.done:
				return
			}
			changed = r.Changed()
			s := r.Snapshot()
			if shown = append(shown, s.Reason.Summary); s.Status == StatusDegraded {
				return
			}
		}
	}()
	return func() []string {
		r.awaitStatus(StatusDegraded)
		<-done
		return shown
	}
}

// A pipe that was closed while the process went on is the first cause: it stays in the evidence, whatever follows.
func TestAClosedPipeStaysInTheEvidence(t *testing.T) {
	t.Parallel()
	const first = "it closed its stdout, the descriptor that carries its answers"
	r := startReady(t, testOptions("closes_stdout.py", "0.5"))
	reasons := r.reasons()
	var crash *CrashError
	if got := r.do(task("t", 1)); !errors.As(got.err, &crash) || crash.Cause != CauseExit ||
		!strings.Contains(crash.Evidence.Summary, first+", and then ended: exit status 3") {
		t.Errorf("Do: %v, want both what was closed and the exit status", got.err)
	}
	shown := reasons()
	if shown[0] != "crashed (stdout_closed): "+first {
		t.Errorf("first the reason %q was shown, want %q", shown[0], first)
	}
	for _, reason := range shown {
		if !strings.Contains(reason, first) {
			t.Errorf("the reason %q was shown, which lacks %q", reason, first)
		}
	}
}

func TestPolicyRestartRestartsThenTrips(t *testing.T) {
	t.Parallel()
	o := testOptions("crashes_again.py")
	o.OnCrash = PolicyRestart
	r := start(t, o)
	s := r.awaitStatus(StatusDegraded)
	if s.Crashes != 4 || s.Restarts != 3 {
		t.Errorf("with 3 restarts allowed: %d crashes, %d restarts", s.Crashes, s.Restarts)
	}
	if !strings.Contains(s.Reason.Text(), "more than 3 crashes") || !strings.Contains(s.Reason.Text(), "exit status 7") {
		t.Errorf("reason: %s, want the limit and the exit status", s.Reason.Text())
	}
	if _, restarts := r.causes(); fmt.Sprint(restarts) != "[crash crash crash]" {
		t.Errorf("events: %v, want three restarts after a crash", restarts)
	}
}

func TestPolicyRestartCoversStartup(t *testing.T) {
	t.Parallel()
	o := testOptions("error_ready.py")
	o.OnCrash = PolicyRestart
	o.Restart.Max = 1
	r := start(t, o)
	if s := r.awaitStatus(StatusDegraded); s.Crashes != 2 || s.Restarts != 1 {
		t.Errorf("with 1 restart allowed: %d crashes, %d restarts; want 2 and 1", s.Crashes, s.Restarts)
	}
}

func TestRestartCutsTheBackoffShort(t *testing.T) {
	t.Parallel()
	o := testOptions("exits_zero.py")
	o.OnCrash = PolicyRestart
	o.Restart.InitialDelay, o.Restart.MaxDelay = time.Hour, time.Hour
	r := startReady(t, o)
	r.do(task("t", 1))
	r.await("waiting for the backoff", func(s Snapshot) bool { return s.Status == StatusRestarting && !s.Healthy })
	if err := r.Restart(context.Background(), RestartManual); err != nil {
		t.Fatalf("Restart: %v", err)
	}
	if s := r.Snapshot(); s.Status != StatusRunning {
		t.Errorf("after Restart: %+v, want running", s)
	}
}

func TestPolicyExit(t *testing.T) {
	t.Parallel()
	o := testOptions("exits_code.py", "5")
	o.OnCrash = PolicyExit
	r := startReady(t, o)
	var crash *CrashError
	if got := r.do(task("t", 1)); !errors.As(got.err, &crash) {
		t.Errorf("Do: %v, want a crash", got.err)
	}
	select {
	case err := <-r.err:
		if !errors.Is(err, ErrCrashed) || !strings.Contains(err.Error(), "exit status 5") {
			t.Errorf("Run: %v, want ErrCrashed and the exit status", err)
		}
	case <-time.After(testTimeout):
		t.Fatal("Run goes on")
	}
}

func TestRunContextKills(t *testing.T) {
	t.Parallel()
	o := testOptions("ignores_sigterm.py")
	o.StopTimeout = 10 * testTimeout
	r := startReady(t, o)
	pid := r.Snapshot().PID
	a := r.send(context.Background(), task("t", 1))
	r.inFlight(1)
	r.cancel()
	if got := r.receive(a); !errors.Is(got.err, ErrStopped) {
		t.Errorf("Do: %v, want ErrStopped", got.err)
	}
	if err := <-r.err; err != nil {
		t.Errorf("Run: %v, want nil", err)
	}
	if alive(pid) {
		t.Error("the process is alive after Run")
	}
}

func TestDrainLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("echo_v2.py", "--async"))
	a := r.send(context.Background(), task("t", map[string]any{"sleep": 0.5}))
	r.inFlight(1)
	r.Drain()
	r.Drain()
	if s := r.awaitStatus(StatusDraining); !s.Healthy {
		t.Errorf("draining: %+v", s)
	}
	if got := r.do(task("late", 1)); !errors.Is(got.err, ErrNotRun) {
		t.Errorf("Do while draining: %v, want not run", got.err)
	}
	if err := r.Restart(context.Background(), RestartManual); !errors.Is(err, ErrNoRestart) {
		t.Errorf("Restart while draining: %v, want ErrNoRestart", err)
	}
	if got := r.receive(a); got.err != nil || string(got.Result) != `"slept"` {
		t.Errorf("in flight: %+v, want an answer", got)
	}
}

func TestCrashWhileDraining(t *testing.T) {
	t.Parallel()
	o := testOptions("exits_code.py", "3")
	o.OnCrash = PolicyRestart
	r := startReady(t, o)
	pid := r.Snapshot().PID
	r.Drain()
	r.awaitStatus(StatusDraining)
	kill(t, pid, syscall.SIGKILL)
	s := r.await("crash noticed", func(s Snapshot) bool { return s.Crashes == 1 })
	if s.Status != StatusDraining || s.Healthy || s.Restarts != 0 {
		t.Errorf("after the crash: %+v, want draining, unhealthy and not restarted", s)
	}
}
