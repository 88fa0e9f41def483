package supervisor

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// record is a Caller that keeps what it is told, in order.
type record struct {
	mu    sync.Mutex
	calls []string
	began chan time.Time // capacity 1
	ended chan answer    // capacity 1
	onEnd func()         // nil: nothing
}

func newRecord() *record {
	return &record{began: make(chan time.Time, 1), ended: make(chan answer, 1)}
}

func (c *record) note(call string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, call)
}

func (c *record) Began(at time.Time) {
	c.note("began")
	c.began <- at
}

func (c *record) Progress(float64, string) {}

func (c *record) Ended(reply Reply, err error) {
	c.note("ended")
	c.ended <- answer{reply, err}
	if c.onEnd != nil {
		c.onEnd()
	}
}

func (c *record) told() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.calls, " ")
}

// submit gives r a request of this type; payload is the seconds that it runs, or nil: until it is cancelled.
func (r *harness) submit(id, taskType string, payload any) *record {
	c := newRecord()
	q := task(id, payload)
	q.Type, q.Caller = taskType, c
	r.Submit(q)
	return c
}

// awaitBegun waits until a request has begun.
func (r *harness) awaitBegun(c *record) time.Time {
	r.t.Helper()
	select {
	case at := <-c.began:
		return at
	case <-time.After(testTimeout):
		r.t.Fatalf("not begun within %v: %+v\n%s", testTimeout, r.Snapshot(), r.log.String())
	}
	return time.Time{}
}

func TestWaitingIsAskedBack(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("withdraws.py"))
	if got := r.Snapshot().Types; !maps.Equal(got, map[string]string{"test": "sync", "stubborn": "sync", "async": "async"}) {
		t.Errorf("types %v, want those of the ready message", got)
	}
	if got := r.Room(); got != (Room{Free: 2, Idle: true}) {
		t.Errorf("room %+v before the first task, want one that runs and one that waits", got)
	}
	long := r.submit("long", "test", nil)
	r.awaitBegun(long)
	if got := r.Room(); got != (Room{Free: 1}) {
		t.Errorf("room %+v while one runs, want one that waits", got)
	}
	behind := r.submit("behind", "test", 0)
	beside := r.submit("beside", "async", 0)
	if got := r.receive(beside.ended); got.err != nil || beside.told() != "began ended" {
		t.Errorf("the asynchronous one: %+v, told %q; want an answer while the other runs", got, beside.told())
	}
	if got := r.receive(behind.ended); !errors.Is(got.err, ErrNotRun) || behind.told() != "ended" {
		t.Errorf("the one behind: %v, told %q; want it given back", got.err, behind.told())
	}
	if got := r.Room(); got.Free != 0 || got.Idle {
		t.Errorf("room %+v after a withdrawal, want none", got)
	}
	r.Cancel("long")
	if got := r.receive(long.ended); got.err != nil || string(got.Result) != `"cancelled"` || got.Took < time.Second {
		t.Errorf("the cancelled one: %+v, want its answer, after a second or more", got)
	}
	if got := r.Room(); got.Free != 2 || !got.Idle {
		t.Errorf("room %+v when all has ended, want one that runs and one that waits", got)
	}
}

// A process that is asked to give a task back and keeps it runs it.
func TestOnlyWithdrawnEndsARequest(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("withdraws.py", "--keeps"))
	long := r.submit("long", "test", nil)
	behind := r.submit("behind", "test", 0)
	eventually(t, "it is asked back", func() bool { return strings.Contains(r.log.String(), "withdraw behind") })
	r.Cancel("long")
	r.receive(long.ended)
	if got := r.receive(behind.ended); got.err != nil || behind.told() != "began ended" {
		t.Errorf("%v, told %q; want it to run", got.err, behind.told())
	}
	if n := strings.Count(r.log.String(), "withdraw behind"); n != 1 {
		t.Errorf("asked back %d times, want once", n)
	}
}

func TestDrainAsksBackAtOnce(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("withdraws.py"))
	running := r.submit("running", "test", nil)
	behind := []*record{r.submit("b1", "test", 0), r.submit("b2", "test", 0)}
	r.awaitBegun(running)
	r.Drain()
	for _, c := range behind {
		if got := r.receive(c.ended); !errors.Is(got.err, ErrNotRun) || c.told() != "ended" {
			t.Errorf("one that waits: %v, told %q; want it given back", got.err, c.told())
		}
	}
	if got := r.Room(); got != (Room{}) {
		t.Errorf("room %+v while draining, want none", got)
	}
	r.Cancel("running")
	if got := r.receive(running.ended); got.err != nil {
		t.Errorf("the one that runs: %v, want an answer", got.err)
	}
}

func TestProcessThatGivesNothingBackHasOneThatWaits(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("withdraws.py", "--silent", "--untyped"))
	if r.Snapshot().Types != nil {
		t.Errorf("types %v, want nil where none are announced", r.Snapshot().Types)
	}
	for i := range 5 { // now its tasks are known to be short
		r.receive(r.submit(fmt.Sprint("short ", i), "test", 0).ended)
	}
	if got := r.Room(); got.Free != 2 {
		t.Errorf("room %+v, want one that runs and one that waits", got)
	}
	long := r.submit("long", "test", nil)
	if got := r.Room(); got.Free != 1 {
		t.Errorf("room %+v while one runs, want one that waits", got)
	}
	r.Cancel("long")
	r.receive(long.ended)
}

func TestShortTasksAreGivenAhead(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("withdraws.py"))
	for i := range 5 {
		r.receive(r.submit(fmt.Sprint("short ", i), "test", 0).ended)
	}
	room := r.Room()
	if room.Free < 3 || room.Rate <= 0 || !room.Idle {
		t.Errorf("room %+v after short tasks, want several and a rate", room)
	}
	long := r.submit("long", "test", nil)
	r.await("it is late, and nothing more may wait", func(Snapshot) bool { return r.Room() == Room{} })
	r.Cancel("long")
	r.receive(long.ended)
}

// The time to react runs from the begin for a task that was cancelled before.
func TestCancelledBeforeItBegins(t *testing.T) {
	t.Parallel()
	o := testOptions("withdraws.py", "--keeps")
	o.StopTimeout = 200 * time.Millisecond
	r := startReady(t, o)
	first := r.submit("first", "test", 1)
	stubborn := r.submit("stubborn", "stubborn", nil)
	r.Cancel("stubborn")
	r.Cancel("nobody")
	if got := r.receive(first.ended); got.err != nil {
		t.Errorf("the first: %v, want an answer", got.err)
	}
	began := r.awaitBegun(stubborn)
	var replaced *ReplacedError
	if got := r.receive(stubborn.ended); !errors.As(got.err, &replaced) || time.Since(began) < o.StopTimeout {
		t.Errorf("%v after %v, want the process replaced, not before %v", got.err, time.Since(began), o.StopTimeout)
	}
}

func TestSynchronousCrashIsOneTasks(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("withdraws.py"))
	running := r.submit("running", "test", nil)
	behind := r.submit("behind", "test", 0)
	c, _ := r.gate.current()
	eventually(t, "the requests are read", func() bool { return c.in.Sent() > 0 && c.process.Unread() == 0 })
	r.Cancel("behind")
	kill(t, r.Snapshot().PID, syscall.SIGKILL)
	var crash *CrashError
	if got := r.receive(running.ended); !errors.As(got.err, &crash) {
		t.Errorf("the one that ran: %v, want a crash", got.err)
	}
	if got := r.receive(behind.ended); !errors.Is(got.err, ErrNotRun) {
		t.Errorf("the one behind: %v, want not run", got.err)
	}
}

// RoomChanged tells of a process that is ready, of a new one, and of the end of a stall. The snapshot is of that process.
func TestRoomChanged(t *testing.T) {
	t.Parallel()
	type told struct {
		room     Room
		status   Status
		pid      int
		protocol int
	}
	changed := make(chan told, 100)
	o := stallOptions("echo_v2.py", "--async")
	var r *harness
	ready := make(chan struct{})
	o.Events.RoomChanged = func() {
		<-ready
		s := r.Snapshot()
		changed <- told{r.Room(), s.Status, s.PID, s.Protocol}
	}
	r = start(t, o)
	close(ready)
	next := func(what string) {
		t.Helper()
		select {
		case got := <-changed:
			want := told{Room{Free: o.Concurrency, Idle: true}, StatusRunning, r.awaitStatus(StatusRunning).PID, 2}
			if got != want {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
		case <-time.After(testTimeout):
			t.Fatalf("%s: not told", what)
		}
	}
	next("the process is ready")
	pid := r.Snapshot().PID
	kill(t, pid, syscall.SIGSTOP)
	r.awaitStatus(StatusStalled)
	if got := r.Room(); got != (Room{}) {
		t.Errorf("room %+v in a stall, want none", got)
	}
	kill(t, pid, syscall.SIGCONT)
	next("the stall is over")
	if err := r.Restart(t.Context(), RestartManual); err != nil {
		t.Fatalf("restart: %v", err)
	}
	next("another process is ready")
}

// A caller may submit its next request when it is told of the end of the last, on whatever goroutine that is, and a
// planned replacement answers at once.
func TestSubmitFromACallback(t *testing.T) {
	t.Parallel()
	o := testOptions("echo_v2.py", "--async")
	o.MaxTasks = 2
	r := startReady(t, o)
	first, second, third := newRecord(), newRecord(), newRecord()
	submit := func(id string, c *record) {
		q := task(id, 1)
		q.Caller = c
		r.Submit(q)
	}
	first.onEnd = func() { submit("second", second) }
	second.onEnd = func() { submit("third", third) }
	submit("first", first)
	if got := r.receive(second.ended); got.err != nil {
		t.Errorf("the second: %v, want an answer", got.err)
	}
	if got := r.receive(third.ended); !errors.Is(got.err, ErrNotRun) || third.told() != "ended" {
		t.Errorf("beyond max_tasks: %v, told %q; want not run", got.err, third.told())
	}
}
