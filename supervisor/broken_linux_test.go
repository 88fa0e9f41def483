package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// brokenOptions are for breaks.py, and the file that its tasks wait for.
func brokenOptions(t *testing.T, args ...string) (Options, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "go")
	o := sdkOptions(t, "breaks.py", append([]string{path}, args...)...)
	o.OnCrash = PolicyRestart
	return o, path
}

func typed(taskType, id string, payload any) Request {
	q := task(id, payload)
	q.Type = taskType
	return q
}

// What waits behind a task that breaks the process goes back untouched, and a new process takes over.
func TestBrokenProcessIsReplaced(t *testing.T) {
	t.Parallel()
	o, path := brokenOptions(t)
	r := startReady(t, o)
	first := r.Snapshot().PID
	breaks := r.send(context.Background(), typed("break", "breaks", 1))
	r.await("it has begun", func(Snapshot) bool { return strings.Contains(r.log.String(), "began breaks") })
	var waiting []chan answer
	for i := range 3 {
		c := make(chan answer, 1)
		q := task(fmt.Sprint("waits", i), 0)
		q.Caller = &blockingCaller{ended: c}
		r.Submit(q)
		waiting = append(waiting, c)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got := r.receive(breaks)
	if got.err != nil || !got.Retry || !strings.HasPrefix(got.Error, "Broken: CUDA error") {
		t.Errorf("the task that broke the process: %+v, want a failure that is retried", got)
	}
	for i, c := range waiting {
		if got := r.receive(c); !errors.Is(got.err, ErrNotRun) {
			t.Errorf("task %d behind it: %+v, want not run", i, got)
		}
	}
	r.await("replaced", func(s Snapshot) bool { return s.Status == StatusRunning && s.PID != first })
	if log := r.log.String(); strings.Contains(log, "began waits") || !strings.Contains(log, "cause=broken") {
		t.Errorf("a task began in a broken process, or no line says why it was replaced")
	}
	if got := r.do(typed("pid", "after", 0)); got.err != nil || string(got.Result) == fmt.Sprint(first) {
		t.Errorf("a task after it: %+v", got)
	}
	if crashed, restarts := r.causes(); fmt.Sprint(crashed, restarts) != "[broken] [crash]" {
		t.Errorf("events: %v %v, want one crash, broken, and one restart", crashed, restarts)
	}
}

// Async tasks that run may end; meanwhile the worker is not healthy and says what it waits for.
func TestBrokenProcessLetsRunningTasksEnd(t *testing.T) {
	t.Parallel()
	o, path := brokenOptions(t, "--async")
	r := startReady(t, o)
	first := r.Snapshot().PID
	long := r.send(context.Background(), typed("wait", "long", 0))
	r.await("it has begun", func(Snapshot) bool { return strings.Contains(r.log.String(), "began long") })
	if got := r.do(typed("break", "breaks", 0)); got.err != nil || got.Error == "" {
		t.Fatalf("the task that breaks: %+v", got)
	}
	s := r.awaitStatus(StatusRestarting)
	if s.Healthy {
		t.Error("healthy while it is broken")
	}
	r.await("the reason", func(s Snapshot) bool {
		return strings.Contains(s.Reason.Summary, "CUDA error") && strings.Contains(s.Reason.Summary, "waits for a running task, for at most")
	})
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := r.receive(long); got.err != nil || string(got.Result) != fmt.Sprint(first) {
		t.Errorf("the task that ran: %+v, want its result of process %d", got, first)
	}
	r.await("replaced", func(s Snapshot) bool { return s.Status == StatusRunning && s.PID != first && s.Healthy })
}

func TestBrokenProcessIsNotAwaitedForEver(t *testing.T) {
	t.Parallel()
	o, _ := brokenOptions(t, "--async")
	o.ReplaceTimeout = 200 * time.Millisecond
	r := startReady(t, o)
	long := make(chan answer, 1)
	q := typed("wait", "long", 0)
	q.Caller = &blockingCaller{ended: long}
	r.Submit(q)
	r.await("it has begun", func(Snapshot) bool { return strings.Contains(r.log.String(), "began long") })
	r.do(typed("break", "breaks", 0))
	if got := r.receive(long); !errors.Is(got.err, ErrNotRun) {
		t.Errorf("the task that ran on: %+v, want it returned", got)
	}
	r.await("replaced", func(s Snapshot) bool { return s.Restarts == 1 && s.Status == StatusRunning })
}

// Replacements of a broken process are bounded under every policy.
func TestBrokenProcessesAreBounded(t *testing.T) {
	t.Parallel()
	for policy, want := range map[Policy]int{PolicyRestart: 3, PolicyDegrade: 1, PolicyExit: 3} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			o, _ := brokenOptions(t)
			o.OnCrash = policy
			r := startReady(t, o)
			for i := range want {
				r.do(typed("break", fmt.Sprint("breaks", i), 0))
				r.await("replaced", func(s Snapshot) bool { return s.Restarts == i+1 && s.Status == StatusRunning })
			}
			r.do(typed("break", "last", 0))
			if policy == PolicyExit {
				if err := <-r.err; !errors.Is(err, ErrCrashed) {
					t.Errorf("Run: %v, want a crash", err)
				}
				r.err <- nil
				return
			}
			s := r.awaitStatus(StatusDegraded)
			if !strings.Contains(s.Reason.Summary, "CUDA error") || !strings.Contains(s.Reason.Summary, "within 1m0s") {
				t.Errorf("reason: %s, want what broke and the window", s.Reason.Summary)
			}
			// An operator has looked at it: all begins anew.
			if err := r.Restart(context.Background(), RestartManual); err != nil {
				t.Fatalf("Restart: %v", err)
			}
			r.do(typed("break", "again", 0))
			r.await("replaced again", func(s Snapshot) bool { return s.Restarts == want+2 && s.Status == StatusRunning })
		})
	}
}

// Who asks for a restart while a broken process waits for its tasks gets one, without a wait and with all counts anew.
func TestRestartOfABrokenProcess(t *testing.T) {
	t.Parallel()
	o, _ := brokenOptions(t, "--async")
	o.StopTimeout, o.OnCrash, o.Restart.Max = 300*time.Millisecond, PolicyDegrade, 0
	r := startReady(t, o)
	long := make(chan answer, 1)
	q := typed("wait", "long", 0)
	q.Caller = &blockingCaller{ended: long}
	r.Submit(q)
	r.await("it has begun", func(Snapshot) bool { return strings.Contains(r.log.String(), "began long") })
	r.do(typed("break", "breaks", 0))
	r.awaitStatus(StatusRestarting)
	if err := r.Restart(context.Background(), RestartManual); err != nil {
		t.Errorf("Restart: %v", err)
	}
	if got := r.receive(long); !errors.Is(got.err, ErrNotRun) {
		t.Errorf("the task that ran on: %+v, want it returned", got)
	}
	if crashed, restarts := r.causes(); fmt.Sprint(crashed, restarts) != "[broken] [manual]" {
		t.Errorf("events: %v %v, want a crash, broken, and a restart as asked", crashed, restarts)
	}
}

func TestBrokenWhileDraining(t *testing.T) {
	t.Parallel()
	o, path := brokenOptions(t)
	r := startReady(t, o)
	breaks := r.send(context.Background(), typed("break", "breaks", 1))
	r.await("it has begun", func(Snapshot) bool { return strings.Contains(r.log.String(), "began breaks") })
	r.Drain()
	r.awaitStatus(StatusDraining)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := r.receive(breaks); got.err != nil || got.Error == "" {
		t.Errorf("the task that broke the process: %+v", got)
	}
	s := r.await("the end of the process", func(s Snapshot) bool { return s.PID == 0 })
	if s.Status != StatusDraining || s.Healthy || s.Restarts != 0 {
		t.Errorf("%+v, want draining, not healthy and no restart", s)
	}
}

// A planned replacement becomes one of a broken process when it breaks meanwhile.
func TestBrokenDuringAPlannedReplacement(t *testing.T) {
	t.Parallel()
	o, path := brokenOptions(t, "--async")
	o.MaxTasks = 2
	r := startReady(t, o)
	long := r.send(context.Background(), typed("wait", "long", 0))
	r.await("it has begun", func(Snapshot) bool { return strings.Contains(r.log.String(), "began long") })
	r.do(typed("break", "breaks", 0)) // the second and last
	r.await("not healthy", func(s Snapshot) bool { return s.Status == StatusRestarting && !s.Healthy })
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.receive(long)
	r.await("replaced", func(s Snapshot) bool { return s.Status == StatusRunning && s.Restarts == 1 })
	if crashed, restarts := r.causes(); fmt.Sprint(crashed, restarts) != "[broken] [crash]" {
		t.Errorf("events: %v %v, want a crash, broken", crashed, restarts)
	}
}

func TestConsecutiveFailuresReplaceTheProcess(t *testing.T) {
	t.Parallel()
	o := sdkOptions(t, "fails_always.py")
	o.OnCrash, o.MaxConsecutiveFailures = PolicyRestart, 3
	r := startReady(t, o)
	// What a handler decides, to wait or to refuse, counts neither way.
	for i, kind := range []string{"fail", "fail", "fine", "later", "refuse", "later", "refuse", "fail", "later", "fail", "refuse", "fail"} {
		if got := r.do(typed(kind, fmt.Sprint("t", i), "the payload")); got.err != nil {
			t.Fatalf("task %d: %v", i, got.err)
		}
	}
	r.await("replaced", func(s Snapshot) bool { return s.Status == StatusRunning && s.Restarts == 1 })
	if crashed, _ := r.causes(); fmt.Sprint(crashed) != "[failures]" {
		t.Errorf("events: %v, want failures", crashed)
	}
}

// The first line of a reason is for everybody: it has nothing of what tasks carry.
func TestFailuresDoNotShowPayloads(t *testing.T) {
	t.Parallel()
	o := sdkOptions(t, "fails_always.py")
	o.OnCrash, o.MaxConsecutiveFailures, o.Restart.Max = PolicyDegrade, 1, 0
	r := startReady(t, o)
	r.do(typed("fail", "t", "a secret"))
	s := r.awaitStatus(StatusDegraded)
	if strings.Contains(s.Reason.Summary, "secret") || !strings.Contains(s.Reason.Text(), "a secret") {
		t.Errorf("reason: %s\nwant the error below the first line only", s.Reason.Text())
	}
}

// A planned replacement says what it waits for, stays healthy, and does not wait for ever.
func TestPlannedReplacementIsBounded(t *testing.T) {
	t.Parallel()
	o, _ := brokenOptions(t, "--async")
	o.MaxTasks, o.ReplaceTimeout = 1, 300*time.Millisecond
	r := startReady(t, o)
	first := r.Snapshot().PID
	long := make(chan answer, 1)
	q := typed("wait", "long", 0)
	q.Caller = &blockingCaller{ended: long}
	r.Submit(q)
	s := r.await("a reason", func(s Snapshot) bool {
		return strings.Contains(s.Reason.Summary, "waits for a running task, for at most 300ms")
	})
	if s.Status != StatusRestarting || !s.Healthy {
		t.Errorf("%+v, want a planned replacement that is healthy", s)
	}
	// To run it again uncharged would be to do so for ever: it meets the same limit.
	var replaced *ReplacedError
	if got := r.receive(long); !errors.As(got.err, &replaced) || !strings.Contains(got.err.Error(), "did not end within 300ms") {
		t.Errorf("the task: %+v, want a failed attempt that names the limit", got)
	}
	r.await("replaced", func(s Snapshot) bool { return s.Status == StatusRunning && s.PID != first })
	if !strings.Contains(r.log.String(), "replacement did not wait longer") {
		t.Error("no line says that a task was not awaited")
	}
	if crashed, restarts := r.causes(); fmt.Sprint(crashed, restarts) != "[] [max_tasks]" {
		t.Errorf("events: %v %v, want a planned replacement", crashed, restarts)
	}
}

func TestMaxMemoryBelowTheLoadedSize(t *testing.T) {
	t.Parallel()
	o := sdkOptions(t, "large_when_loaded.py", "200")
	o.MaxMemory = 100 << 20
	r := startReady(t, o)
	r.await("recycling suspended", func(s Snapshot) bool { return s.RecyclingSuspended != "" })
	if got := r.do(task("t", 0)); got.err != nil {
		t.Errorf("a task: %v", got.err)
	}
	if s := r.Snapshot(); s.Restarts != 0 || !s.Healthy || strings.Count(r.log.String(), "recycling suspended") != 1 {
		t.Errorf("%+v, want no restart, healthy and one warning", s)
	}
}

// What grows with the first task is found by how often it happens.
func TestMaxMemoryBelowTheSizeAfterATask(t *testing.T) {
	t.Parallel()
	o := sdkOptions(t, "large_when_loaded.py", "200", "--lazily")
	o.MaxMemory, o.Restart.Window = 100<<20, time.Hour
	r := startReady(t, o)
	for i := 0; r.Snapshot().RecyclingSuspended == ""; i++ {
		if i == 1000 {
			t.Fatalf("replaced again and again: %+v", r.Snapshot())
		}
		if got := r.do(task(fmt.Sprint("t", i), 0)); got.err != nil {
			t.Fatalf("task %d: %v", i, got.err)
		}
		seen := r.Snapshot().Restarts
		limit := time.Now().Add(time.Second)
		for r.Snapshot().Restarts == seen && r.Snapshot().RecyclingSuspended == "" && time.Now().Before(limit) {
			time.Sleep(5 * time.Millisecond) // a poll: whichever comes first
		}
	}
	if _, restarts := r.causes(); fmt.Sprint(restarts) != "[max_memory max_memory max_memory]" {
		t.Errorf("restarts: %v, want three, as Restart.Max is", restarts)
	}
}
