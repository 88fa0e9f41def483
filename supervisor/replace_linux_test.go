package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestMaxTasksReplacesBetweenTasks(t *testing.T) {
	t.Parallel()
	o := testOptions("echo_v2.py")
	o.MaxTasks = 5
	o.Concurrency = 3
	r := startReady(t, o)
	red := make(chan Snapshot, 1)
	stop := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			changed := r.Changed()
			if s := r.Snapshot(); !s.Healthy {
				red <- s
				return
			}
			select {
			case <-changed:
			case <-stop:
				return
			}
		}
	})
	var all sync.WaitGroup
	for i := range 23 {
		all.Go(func() {
			if reply, err := r.Do(context.Background(), task(fmt.Sprint("t", i), i)); err != nil || string(reply.Result) != fmt.Sprint(i) {
				t.Errorf("task %d: %+v %v", i, reply, err)
			}
		})
	}
	all.Wait()
	close(stop)
	watcher.Wait()
	select {
	case s := <-red:
		t.Errorf("a planned replacement turned health red: %+v", s)
	default:
	}
	if s := r.Snapshot(); s.Restarts != 4 || s.Crashes != 0 {
		t.Errorf("23 tasks, 5 each: %d restarts, %d crashes", s.Restarts, s.Crashes)
	}
	if _, restarts := r.causes(); restarts[0] != RestartMaxTasks {
		t.Errorf("events: %v, want max_tasks first", restarts)
	}
}

func TestMaxMemoryReplaces(t *testing.T) {
	t.Parallel()
	o := testOptions("leaks_memory.py")
	o.MaxMemory = 100 << 20
	r := startReady(t, o)
	pids := map[string]bool{}
	for i := 0; len(pids) < 2; i++ {
		if i == 200 {
			t.Fatalf("200 tasks and 3.2 GiB later it is the same process: %+v", r.Snapshot())
		}
		got := r.do(task(fmt.Sprint("t", i), 1))
		if got.err != nil {
			t.Fatalf("task %d: %v", i, got.err)
		}
		pids[string(got.Result)] = true
	}
	if crashed, restarts := r.causes(); len(crashed) > 0 || restarts[0] != RestartMaxMemory {
		t.Errorf("events: %v %v, want no crash, and max_memory first", crashed, restarts)
	}
}

func hang(id string) Request {
	q := task(id, 0)
	q.Type = "hang"
	return q
}

func TestOverdueTaskIsReplacedSync(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--v1"}} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			o := testOptions("ignores_cancel.py", args...)
			o.StopTimeout = 300 * time.Millisecond
			r := startReady(t, o)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			stuck := r.send(ctx, hang("stuck"))
			r.inFlight(1)
			behind := r.send(context.Background(), task("behind", 0))
			r.inFlight(2)
			if len(args) == 0 {
				r.await("a pong", func(s Snapshot) bool { return s.Protocol == 2 })
			}
			cancel()
			var replaced *ReplacedError
			if got := r.receive(stuck); !errors.As(got.err, &replaced) || replaced.Cause != RestartDeadline {
				t.Errorf("the overdue task: %v", got.err)
			} else if got.Took < o.StopTimeout {
				t.Errorf("the overdue task took %v, want at least %v", got.Took, o.StopTimeout)
			}
			if got := r.receive(behind); !errors.Is(got.err, ErrNotRun) {
				t.Errorf("the one behind it: %v", got.err)
			}
			r.awaitStatus(StatusRunning)
			if got := r.do(task("after", 0)); got.err != nil {
				t.Errorf("after the replacement: %v", got.err)
			}
			if crashed, restarts := r.causes(); len(crashed) != 0 || fmt.Sprint(restarts) != "[deadline]" {
				t.Errorf("events: %v %v, want no crash and one restart for the deadline", crashed, restarts)
			}
			if len(args) == 0 && !strings.Contains(r.log.String(), "cancel stuck") {
				t.Error("the process was not asked to cancel")
			}
		})
	}
}

func TestOverdueTaskAsyncLetsOthersFinish(t *testing.T) {
	t.Parallel()
	o := testOptions("ignores_cancel.py", "--async")
	o.StopTimeout = 300 * time.Millisecond
	r := startReady(t, o)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stuck := r.send(ctx, hang("stuck"))
	other := r.send(context.Background(), task("other", 2))
	r.inFlight(2)
	cancel()
	s := r.awaitStatus(StatusRestarting)
	if !s.Healthy {
		t.Errorf("not healthy: %+v", s)
	}
	next := r.send(context.Background(), task("next", 0)) // waits for the new process
	if got := r.receive(other); got.err != nil || string(got.Result) != `"done"` {
		t.Errorf("the other task: %+v", got)
	}
	var replaced *ReplacedError
	if got := r.receive(stuck); !errors.As(got.err, &replaced) {
		t.Errorf("the overdue task: %v", got.err)
	}
	if got := r.receive(next); got.err != nil {
		t.Errorf("the task that waited: %v", got.err)
	}
}

// A task that was cancelled while it waits behind another must not take the other one's process away.
func TestOverdueBehindARunningTask(t *testing.T) {
	t.Parallel()
	o := testOptions("ignores_cancel.py", "--v1")
	o.StopTimeout = 200 * time.Millisecond
	r := startReady(t, o)
	first := r.send(context.Background(), task("first", 1.5))
	r.inFlight(1)
	ctx, cancel := context.WithCancel(context.Background())
	second := r.send(ctx, task("second", 0))
	r.inFlight(2)
	cancel()
	if got := r.receive(first); got.err != nil {
		t.Errorf("the running task: %v", got.err)
	}
	if got := r.receive(second); got.err != nil {
		t.Errorf("the cancelled one, which ended in time: %v", got.err)
	}
	if s := r.Snapshot(); s.Restarts != 0 {
		t.Errorf("%d restarts, want none", s.Restarts)
	}
}

func TestManualRestartWaitsForTasks(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("echo_v2.py"))
	pid := r.Snapshot().PID
	a := r.send(context.Background(), task("t", map[string]any{"sleep": 0.5}))
	r.inFlight(1)
	if err := r.Restart(context.Background(), RestartManual); err != nil {
		t.Fatalf("Restart: %v", err)
	}
	if got := r.receive(a); got.err != nil {
		t.Errorf("in flight: %v, want an answer", got.err)
	}
	if s := r.Snapshot(); s.PID == pid || s.Status != StatusRunning || s.Crashes != 0 || s.Restarts != 1 {
		t.Errorf("after Restart: %+v, want another process that runs, and no crash", s)
	}
}

func TestManualRestartTimesOut(t *testing.T) {
	t.Parallel()
	o := testOptions("ignores_cancel.py")
	o.StopTimeout = 300 * time.Millisecond
	r := startReady(t, o)
	a := r.send(context.Background(), hang("stuck"))
	r.inFlight(1)
	if err := r.Restart(context.Background(), RestartManual); err != nil {
		t.Fatalf("Restart: %v", err)
	}
	if got := r.receive(a); !errors.Is(got.err, ErrNotRun) {
		t.Errorf("in flight: %v, want not run", got.err)
	}
}

func TestDrainCancelsAReplacement(t *testing.T) {
	t.Parallel()
	o := testOptions("echo_v2.py", "--async")
	o.MaxTasks = 1
	r := startReady(t, o)
	a := r.send(context.Background(), task("t", map[string]any{"sleep": 1}))
	r.awaitStatus(StatusRestarting)
	waiting := r.send(context.Background(), task("waits", 1))
	r.Drain()
	if got := r.receive(waiting); !errors.Is(got.err, ErrNotRun) {
		t.Errorf("the one that waited: %v", got.err)
	}
	if got := r.receive(a); got.err != nil {
		t.Errorf("in flight: %v, want an answer", got.err)
	}
	if err := r.Stop(context.Background()); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if s := r.Snapshot(); s.Restarts != 0 {
		t.Errorf("%d restarts, want none", s.Restarts)
	}
}

func TestDoLimits(t *testing.T) {
	t.Parallel()
	o := testOptions("echo_v2.py", "--async")
	o.Concurrency = 2
	r := startReady(t, o)
	slow := map[string]any{"sleep": 0.5}
	a := r.send(context.Background(), task("a", slow))
	r.inFlight(1)
	if got := r.do(task("a", 1)); !errors.Is(got.err, ErrDuplicate) {
		t.Errorf("duplicate: %v, want ErrDuplicate", got.err)
	}
	b := r.send(context.Background(), task("b", slow))
	r.inFlight(2)
	ctx, cancel := context.WithCancel(context.Background())
	c := r.send(ctx, task("c", 1))
	cancel()
	if got := r.receive(c); !errors.Is(got.err, ErrNotRun) || !errors.Is(got.err, context.Canceled) {
		t.Errorf("without a slot: %v", got.err)
	}
	for _, ch := range []<-chan answer{a, b} {
		if got := r.receive(ch); got.err != nil {
			t.Errorf("a slow task: %v", got.err)
		}
	}
	if got := r.do(task("", 1)); got.err == nil {
		t.Error("a request without id was taken")
	}
	if got := r.do(task("big", strings.Repeat("x", 1<<20))); got.err != nil || got.Retry || !strings.Contains(got.Error, "max_message") {
		t.Errorf("too large: %+v", got)
	}
}

// Restarts, kills and requests from all sides: every request gets an answer, none gets one twice, and the process runs
// in the end.
func TestStress(t *testing.T) {
	t.Parallel()
	o := testOptions("echo_v2.py", "--async")
	o.OnCrash = PolicyRestart
	o.Restart = RestartPolicy{Max: 1000, Window: time.Minute, InitialDelay: time.Millisecond, MaxDelay: 2 * time.Millisecond}
	o.MaxTasks = 300
	r := startReady(t, o)
	stop := make(chan struct{})
	var requests, trouble sync.WaitGroup
	var done, notRun, charged atomic.Int64
	for g := range 12 {
		requests.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%40)*time.Millisecond)
				if i%3 != 0 {
					cancel()
					ctx, cancel = context.WithTimeout(context.Background(), testTimeout)
				}
				want := fmt.Sprintf("%d", g*1_000_000+i)
				reply, err := r.Do(ctx, task("t"+want, g*1_000_000+i))
				cancel()
				var crash *CrashError
				var suspicion *SuspicionError
				switch {
				case err == nil:
					done.Add(1)
					if string(reply.Result) != want {
						t.Errorf("asked for %s, got %+v", want, reply)
					}
				case errors.As(err, &crash), errors.As(err, &suspicion):
					charged.Add(1)
				case errors.Is(err, ErrNotRun):
					notRun.Add(1)
					time.Sleep(time.Millisecond) // the process is away; asking faster does not bring it back
				default:
					t.Errorf("Do: %v", err)
				}
			}
		})
	}
	trouble.Go(func() {
		for i := range 30 {
			r.await("running", func(s Snapshot) bool { return s.Status == StatusRunning })
			before := done.Load()
			eventually(t, "tasks are done", func() bool { return done.Load() > before+20 || r.Snapshot().Status != StatusRunning })
			if i%3 == 0 {
				ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
				if err := r.Restart(ctx, RestartManual); err != nil && !errors.Is(err, ErrCrashed) {
					t.Errorf("Restart: %v", err)
				}
				cancel()
			} else if pid := r.Snapshot().PID; pid > 0 {
				syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // it may have gone by itself
			}
		}
	})
	trouble.Wait()
	close(stop)
	requests.Wait()
	s := r.await("running and idle", func(s Snapshot) bool { return s.Status == StatusRunning && s.InFlight == 0 })
	t.Logf("%d done, %d not run, %d charged; %d crashes, %d restarts", done.Load(), notRun.Load(), charged.Load(), s.Crashes, s.Restarts)
	if done.Load() == 0 || s.Crashes == 0 || s.Restarts == 0 {
		t.Errorf("%d tasks done, %d crashes, %d restarts; want some of each", done.Load(), s.Crashes, s.Restarts)
	}
}
