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

// sdkOptions are for a child that uses the SDK of this repository.
func sdkOptions(t *testing.T, script string, args ...string) Options {
	t.Helper()
	sdk, err := filepath.Abs(filepath.Join("..", "python"))
	if err != nil {
		t.Fatalf("find the SDK: %v", err)
	}
	o := testOptions(script, args...)
	o.Env = append(o.Env, "PYTHONPATH="+sdk, "PYTHONDONTWRITEBYTECODE=1")
	o.ReplaceTimeout = testTimeout
	return o
}

// checkOptions are for fails_check.py, and the file that its check reads.
func checkOptions(t *testing.T, args ...string) (Options, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "says")
	o := sdkOptions(t, "fails_check.py", append([]string{path}, args...)...)
	o.CheckInterval, o.CheckTimeout, o.CheckFailures = 50*time.Millisecond, testTimeout, 1_000_000
	return o, path
}

func says(t *testing.T, path, text string) {
	t.Helper()
	// Renamed into place: the child must not read half of it.
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestFailingCheckIsUnhealthyAndHeals(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--async"}} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			t.Parallel()
			o, path := checkOptions(t, args...)
			r := startReady(t, o)
			if got := r.do(task("a", 1)); got.err != nil {
				t.Fatalf("a task: %v", got.err)
			}
			says(t, path, "the licence server is away\nand more")
			s := r.await("unhealthy", func(s Snapshot) bool { return !s.Healthy })
			if s.Status != StatusRunning || !strings.HasSuffix(s.Reason.Summary, "its check fails: the licence server is away") {
				t.Errorf("%s: %s, want running, and the check's text", s.Status, s.Reason.Summary)
			}
			if got := r.do(task("b", 1)); !errors.Is(got.err, ErrNotRun) || r.Room().Free > 0 {
				t.Errorf("a task meanwhile: %v, room %+v; want it refused", got.err, r.Room())
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			r.await("healthy", func(s Snapshot) bool { return s.Healthy })
			if got := r.do(task("c", 1)); got.err != nil {
				t.Errorf("a task after it: %v", got.err)
			}
			if crashed, restarts := r.causes(); len(crashed)+len(restarts) > 0 {
				t.Errorf("events: %v %v, want none", crashed, restarts)
			}
		})
	}
}

func TestChecksThatFailInARowAreACrash(t *testing.T) {
	t.Parallel()
	o, path := checkOptions(t)
	o.CheckFailures = 3
	says(t, path, "no GPU")
	r := start(t, o)
	// The first check fails: the process is never healthy.
	s := r.await("unfit", func(s Snapshot) bool { return s.Status == StatusRunning })
	if s.Healthy {
		t.Errorf("healthy before its first check has passed: %+v", s)
	}
	s = r.awaitStatus(StatusDegraded)
	if !strings.Contains(s.Reason.Summary, "its check failed 3 times in a row: no GPU") {
		t.Errorf("reason: %s", s.Reason.Summary)
	}
	if crashed, _ := r.causes(); fmt.Sprint(crashed) != "[check]" {
		t.Errorf("events: %v, want one crash by the check", crashed)
	}
	// A restart that ends in the same is no success.
	if err := r.Restart(context.Background(), RestartManual); !errors.Is(err, ErrCheck) || !strings.Contains(err.Error(), "no GPU") {
		t.Errorf("Restart: %v, want the check's text", err)
	}
}

// One that hangs is unhealthy after its timeout, while pings are answered, and a crash in the end.
func TestHangingCheck(t *testing.T) {
	t.Parallel()
	o, path := checkOptions(t)
	o.CheckTimeout, o.CheckInterval, o.CheckFailures = 100*time.Millisecond, 50*time.Millisecond, 3
	r := startReady(t, o)
	says(t, path, "hang")
	s := r.await("unhealthy", func(s Snapshot) bool { return !s.Healthy })
	if !strings.Contains(s.Reason.Summary, "has not ended after 100ms") && s.Status == StatusRunning {
		t.Errorf("reason: %s", s.Reason.Summary)
	}
	r.awaitStatus(StatusDegraded)
	if crashed, _ := r.causes(); fmt.Sprint(crashed) != "[check]" {
		t.Errorf("events: %v, want one crash by the check", crashed)
	}
}

func TestHangingCheckThatEnds(t *testing.T) {
	t.Parallel()
	o, path := checkOptions(t, "--async")
	o.CheckTimeout, o.CheckInterval = 100*time.Millisecond, 50*time.Millisecond
	r := startReady(t, o)
	says(t, path, "hang")
	r.await("unhealthy", func(s Snapshot) bool { return !s.Healthy })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.await("healthy", func(s Snapshot) bool { return s.Healthy })
	if got := r.do(task("a", 1)); got.err != nil {
		t.Errorf("a task after it: %v", got.err)
	}
}

// After a failed task the process is asked, however many tasks wait, and none is lost to that.
func TestCheckAfterAFailedTaskUnderLoad(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--async"}} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			t.Parallel()
			o, path := checkOptions(t, args...)
			o.CheckInterval = time.Millisecond // due at each look
			r := startReady(t, o)
			says(t, path, "the GPU is gone") // from the next check on
			stop := make(chan struct{})
			done := make(chan struct{})
			go func() {
				defer close(done)
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					q := task(fmt.Sprint("t", n), "no")
					q.Type = "fail"
					if got := r.do(q); got.err == nil && got.Error == "" {
						t.Errorf("task %d succeeded", n)
					}
				}
			}()
			s := r.await("unhealthy", func(s Snapshot) bool { return !s.Healthy })
			close(stop)
			<-done
			if strings.Contains(r.log.String(), "overlap") {
				t.Error("the check ran beside a handler")
			}
			if !strings.Contains(s.Reason.Summary, "the GPU is gone") {
				t.Errorf("reason: %s", s.Reason.Summary)
			}
		})
	}
}

// A drain and a stop do not wait for a check.
func TestStopDuringACheck(t *testing.T) {
	t.Parallel()
	o, path := checkOptions(t)
	r := startReady(t, o)
	says(t, path, "hang")
	r.await("a hanging check", func(Snapshot) bool {
		c := r.gate.process.Load()
		if c == nil {
			return false
		}
		c.requests.mu.Lock()
		defer c.requests.mu.Unlock()
		return c.requests.checking
	})
	r.Drain()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	if err := r.Stop(ctx); err != nil {
		t.Errorf("Stop: %v", err)
	}
}
