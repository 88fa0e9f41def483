package supervisor

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// testSignal is the one that the program uses by default.
const testSignal = 50

// hangOptions are those of a child that is written with the SDK.
func hangOptions(t *testing.T, script string, args ...string) Options {
	t.Helper()
	o := sdkOptions(t, script, args...)
	o.StackSignal = testSignal
	return o
}

// markedLine is the place of a mark in a child's source, as a stack names it.
func markedLine(t *testing.T, script, mark string) string {
	t.Helper()
	file := childCommand(script)[1]
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("read the child: %v", err)
	}
	for i, line := range strings.Split(string(source), "\n") {
		if strings.HasSuffix(line, "# "+mark) {
			return fmt.Sprintf("%s:%d in ", file, i+1)
		}
	}
	t.Fatalf("%s has no line that is marked with %q", script, mark)
	return ""
}

func hangs() []string {
	return []string{
		"lock", "socket", "subprocess", "queue", "c_with_the_gil", "c_without_the_gil",
		"await", "blocked_loop", "deadlock", "import_lock", "sleep", "load",
	}
}

// hanging starts a child that hangs in a task, or while it loads, and waits until it does.
func hanging(t *testing.T, kind string, o Options) *harness {
	t.Helper()
	r := start(t, o)
	if kind != "load" {
		r.awaitStatus(StatusRunning)
		r.Submit(Request{TaskID: "t1", Type: "hang", Caller: &quietCaller{}})
	}
	r.await("hanging", func(s Snapshot) bool { return strings.Contains(strings.Join(s.Stderr, "\n"), "hanging") })
	return r
}

// quietCaller ignores what it is told.
type quietCaller struct{}

func (*quietCaller) Began(time.Time)          {}
func (*quietCaller) Progress(float64, string) {}
func (*quietCaller) Ended(Reply, error)       {}

// Every hang names its line.
func TestStackNamesTheLine(t *testing.T) {
	t.Parallel()
	for _, kind := range hangs() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := hanging(t, kind, hangOptions(t, "hangs.py", kind))
			task := "t1"
			if kind == "load" {
				task = ""
			}
			want := markedLine(t, "hangs.py", "hangs: "+kind)
			// It says that it hangs just before it does.
			var s Stack
			for end := time.Now().Add(testTimeout); !strings.HasPrefix(s.Where, want); {
				var err error
				began := time.Now()
				if s, err = r.Stack(t.Context(), task); err != nil {
					t.Fatalf("ask for the stacks: %v", err)
				}
				t.Logf("%s: answered within %v", kind, time.Since(began).Round(time.Millisecond))
				if time.Now().After(end) {
					t.Fatalf("it is at %q, want %q…; its stacks:\n%s", s.Where, want, s.Text)
				}
			}
			if !strings.Contains(s.Text, fmt.Sprintf("process %d: state ", r.Snapshot().PID)) {
				t.Errorf("what the kernel says is not in the text:\n%s", s.Text)
			}
			if kind == "await" || kind == "blocked_loop" || kind == "sleep" {
				if first, _, _ := strings.Cut(s.Text, "\n"); !strings.Contains(first, ` task "t1" `) {
					t.Errorf("the stack of the task does not come first:\n%s", s.Text)
				}
			}
		})
	}
}

// A process that stalls, and one that does not end, say where they are.
func TestHangIsReported(t *testing.T) {
	t.Parallel()
	where := markedLine(t, "hangs.py", "hangs: blocked_loop")

	t.Run("stalled", func(t *testing.T) {
		t.Parallel()
		o := hangOptions(t, "hangs.py", "blocked_loop")
		o.BlockThreshold, o.StallTimeout = 500*time.Millisecond, time.Second
		r := startReady(t, o)
		a := r.do(Request{TaskID: "t1", Type: "hang"})
		var crash *CrashError
		if !errors.As(a.err, &crash) || !strings.HasPrefix(crash.Where, where) || !strings.Contains(crash.Error(), "in block\n") {
			t.Errorf("the task ended with %v, want a crash at %q with its stacks", a.err, where)
		}
		s := r.awaitStatus(StatusDegraded)
		if s.Stack == nil || !strings.HasPrefix(s.Stack.Where, where) || s.Reason.Stack == "" {
			t.Errorf("the snapshot has the stacks %+v and the reason %q, want where it was", s.Stack, s.Reason.Text())
		}
		if log := r.log.String(); strings.Count(log, "python process stacks") != 2 || !strings.Contains(log, "where="+`"`+where) {
			t.Errorf("the log does not say twice where it is")
		}
	})

	t.Run("overdue", func(t *testing.T) {
		t.Parallel()
		o := hangOptions(t, "hangs.py", "c_with_the_gil")
		o.StopTimeout = 500 * time.Millisecond
		r := startReady(t, o)
		ended := r.send(t.Context(), Request{TaskID: "t1", Type: "hang"})
		r.await("hanging", func(s Snapshot) bool { return strings.Contains(strings.Join(s.Stderr, "\n"), "hanging") })
		r.Cancel("t1")
		var replaced *ReplacedError
		err := r.receive(ended).err
		want := markedLine(t, "hangs.py", "hangs: c_with_the_gil")
		if !errors.As(err, &replaced) || !strings.HasPrefix(replaced.Stack.Where, want) || !strings.Contains(err.Error(), "at "+want) {
			t.Errorf("the task ended with %v, want that the process was replaced while at %q", err, want)
		}
	})

	t.Run("startup", func(t *testing.T) {
		t.Parallel()
		o := hangOptions(t, "hangs.py", "load")
		o.StartupTimeout = 3 * time.Second
		r := start(t, o)
		s := r.awaitStatus(StatusDegraded)
		want := markedLine(t, "hangs.py", "hangs: load")
		if s.Stack == nil || !strings.HasPrefix(s.Stack.Where, want) || !strings.Contains(s.Reason.Text(), " in load_for_ever\n") {
			t.Errorf("the snapshot has the stacks %+v and the reason %q, want that it was at %q", s.Stack, s.Reason.Text(), want)
		}
		if strings.Contains(s.Reason.String(), "hangs.py") {
			t.Errorf("the summary %q, which everybody may see, names a file", s.Reason)
		}
	})

	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		o := hangOptions(t, "hangs.py", "sleep")
		o.StopTimeout = time.Second
		r := hanging(t, "sleep", o)
		if err := r.Supervisor.Stop(t.Context()); err != nil {
			t.Fatalf("stop: %v", err)
		}
		if want := markedLine(t, "hangs.py", "hangs: sleep"); !strings.Contains(r.log.String(), want) {
			t.Errorf("the log does not say that it was at %q when it did not end", want)
		}
	})
}

// A task that uses no CPU time and reports no progress is marked, with where it is, and goes on.
func TestIdleTaskIsMarked(t *testing.T) {
	t.Parallel()
	o := hangOptions(t, "hangs.py", "sleep")
	o.IdleWarning = time.Second
	r := startReady(t, o)
	r.await("known", func(s Snapshot) bool { return s.Idle != nil && len(s.Idle) == 0 })
	r.Submit(Request{TaskID: "t1", Type: "hang", Caller: &quietCaller{}})
	s := r.await("marked", func(s Snapshot) bool { return !s.Idle["t1"].IsZero() })
	want := markedLine(t, "hangs.py", "hangs: sleep")
	eventually(t, "the log tells where it is", func() bool {
		log := r.log.String()
		return strings.Contains(log, `msg="task idle" component=supervisor task_id=t1`) && strings.Contains(log, `where="`+want)
	})
	if !s.Healthy || s.Status != StatusRunning {
		t.Errorf("the process is %s and healthy %v, want that nothing follows", s.Status, s.Healthy)
	}
}

// The signal kills no process that does not catch it, and none is sent that was not asked for: then the kernel tells.
func TestStackWithoutSDK(t *testing.T) {
	t.Parallel()
	o := testOptions("echo_v2.py")
	o.StackSignal = testSignal
	r := startReady(t, o)
	s, err := r.Stack(t.Context(), "")
	if err != nil || s.Where != "" || !strings.HasPrefix(s.Text, fmt.Sprintf("process %d: state ", r.Snapshot().PID)) {
		t.Errorf("it says %+v (%v), want what the kernel knows", s, err)
	}
	if _, err := r.Stack(t.Context(), "t1"); !errors.Is(err, ErrUnknownTask) {
		t.Errorf("of a task that it does not have: %v, want %v", err, ErrUnknownTask)
	}
	if a := r.do(Request{TaskID: "t1", Type: "any", Payload: []byte("1")}); a.err != nil || a.Error != "" {
		t.Errorf("after that a task ended with %v %q, want that it is answered", a.err, a.Error)
	}
}

// Without the signal a process that answers still says where it is.
func TestStackWithoutSignal(t *testing.T) {
	t.Parallel()
	o := hangOptions(t, "hangs.py", "sleep")
	o.StackSignal = 0
	r := hanging(t, "sleep", o)
	want := markedLine(t, "hangs.py", "hangs: sleep")
	r.await("at the line", func(Snapshot) bool {
		s, err := r.Stack(t.Context(), "t1")
		return err == nil && strings.HasPrefix(s.Where, want)
	})
}
