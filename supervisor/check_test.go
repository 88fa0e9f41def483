package supervisor

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

func testChecks() *checks {
	c := newChecks(Options{CheckInterval: 30 * time.Second, CheckTimeout: 5 * time.Second, CheckFailures: 3})
	c.number = 1
	c.next(epoch, 0)
	return c
}

func TestChecksAreDueAfterTheInterval(t *testing.T) {
	c := testChecks()
	if c.due(epoch.Add(time.Hour)) {
		t.Error("due while one is unanswered")
	}
	if !c.answered(1, epoch.Add(time.Second)) {
		t.Error("the answer does not count")
	}
	for after, want := range map[time.Duration]bool{29 * time.Second: false, 30 * time.Second: true} {
		if got := c.due(epoch.Add(after)); got != want {
			t.Errorf("due after %v: %v, want %v", after, got, want)
		}
	}
	if c.answered(1, epoch.Add(2*time.Second)) {
		t.Error("a second answer counts")
	}
}

// A check that hangs fails after its timeout and again after each interval.
func TestAHangingCheckFailsAgain(t *testing.T) {
	c := testChecks()
	var failed []time.Duration
	for after := time.Duration(0); after < 80*time.Second; after += time.Second {
		if c.overdue(epoch.Add(after)) {
			failed = append(failed, after)
		}
	}
	if fmt.Sprint(failed) != "[5s 35s 1m5s]" {
		t.Errorf("it failed after %v, want 5s, 35s and 1m5s", failed)
	}
	// What came too late has failed, and the next try is soon.
	if c.answered(1, epoch.Add(80*time.Second)) {
		t.Error("an answer that came too late counts")
	}
	for after, want := range map[time.Duration]bool{84 * time.Second: false, 85 * time.Second: true} {
		if got := c.due(epoch.Add(after)); got != want {
			t.Errorf("due after %v: %v, want %v", after, got, want)
		}
	}
}

// For as long as the worker itself stood still, the process may have answered.
func TestChecksLeaveGapsOut(t *testing.T) {
	c := testChecks()
	c.skip(time.Minute)
	if c.overdue(epoch.Add(64 * time.Second)) {
		t.Error("overdue after 4 s and a gap of a minute")
	}
	if !c.overdue(epoch.Add(65 * time.Second)) {
		t.Error("not overdue after 5 s and a gap of a minute")
	}
}

func TestNoRequestDuringACheck(t *testing.T) {
	c := newTableTest(t, protocol2(wire.Sync))
	c.submit("a1")
	written := 0
	write := func() { written++ }
	if _, ok := c.beginCheck(write); ok || written > 0 {
		t.Error("a check was begun beside a request")
	}
	quiet := 0
	if c.hold(func() { quiet++ }) {
		t.Error("hold says that nothing is in flight")
	}
	if room := c.room(c.now); room.Free != 0 {
		t.Errorf("room while requests are held back: %+v, want none", room)
	}
	c.submit("a2") // was on its way
	c.answer("a1", outcome{}, c.now)
	c.answer("a2", outcome{reply: Reply{Error: "no"}}, c.now)
	if quiet != 1 {
		t.Errorf("quiet was called %d times, want once: when nothing was left", quiet)
	}
	if failed, ok := c.beginCheck(write); !ok || written != 1 || failed != 1 {
		t.Errorf("beginCheck: %v %v, %d written; want one check after one failed attempt", failed, ok, written)
	}
	_, _, err := c.add(&Request{TaskID: "a3", Type: "a", Caller: toldTo{c, "a3"}}, c.now, func() int64 { return 0 })
	if !errors.Is(err, errChecked) || c.room(c.now).Free != 0 {
		t.Errorf("a request during a check: %v, room %+v; want it refused, and no room", err, c.room(c.now))
	}
	c.endCheck()
	if room := c.room(c.now); !room.Idle {
		t.Errorf("room after the check: %+v", room)
	}
	c.submit("a4")
}

func TestReleaseEndsHold(t *testing.T) {
	c := newTableTest(t, protocol2(wire.Async))
	c.hold(func() { t.Error("quiet was called after release") })
	c.release()
	if c.room(c.now).Free == 0 {
		t.Error("no room after release")
	}
	c.submit("a1")
	c.answer("a1", outcome{}, c.now)
}

// Nothing begins any more in a process that is broken, and what has not begun is asked back whatever its kind.
func TestBrokenTable(t *testing.T) {
	c := newTableTest(t, protocol2(wire.Async, "s:sync", "a:async"))
	var found []breakage
	c.onBreakage = func(b breakage) { found = append(found, b) }
	c.submit("s1", "s2", "s3", "a1", "a2")
	c.answer("s1", outcome{reply: Reply{Error: "Broken: CUDA", Retry: true, Broken: true}}, c.now)
	c.answer("a1", outcome{reply: Reply{Error: "Broken: too", Retry: true, Broken: true}}, c.now)
	if len(found) != 1 || found[0].cause != CauseBroken {
		t.Fatalf("breakages: %+v, want one", found)
	}
	if _, _, err := c.add(&Request{TaskID: "s4"}, c.now, nil); !errors.Is(err, errClosed) {
		t.Errorf("a request after it: %v, want refused", err)
	}
	if n := c.running(); n != 1 {
		t.Errorf("%d are running, want a2 alone", n)
	}
	if ids := c.askAllBack(); len(ids) != 3 {
		t.Errorf("asked back: %v, want s2, s3 and a2", ids)
	}
	c.giveBack("s2", c.now)
	c.giveBack("s3", c.now)
	c.giveBack("a2", c.now)
	for _, told := range c.told {
		if told == "s2 began at 0s" || told == "s3 began at 0s" {
			t.Error("a request began in a broken process")
		}
	}
	if _, mayEnd := c.close(nil); mayEnd != 0 {
		t.Errorf("%d may end, want none", mayEnd)
	}
}

// A process that gives nothing back is not waited for.
func TestBrokenTableThatKeeps(t *testing.T) {
	c := newTableTest(t, wire.Ready{Protocol: 2, Handlers: wire.Sync})
	c.submit("s1", "s2")
	c.answer("s1", outcome{reply: Reply{Error: "Broken", Broken: true}}, c.now)
	if ids := c.askAllBack(); len(ids) != 0 {
		t.Errorf("asked back: %v, want none", ids)
	}
	if inFlight, mayEnd := c.close(nil); inFlight != 1 || mayEnd != 0 {
		t.Errorf("%d in flight, %d may end; want one that may not", inFlight, mayEnd)
	}
}

func TestFailuresInARow(t *testing.T) {
	for _, tc := range []struct {
		answers string // f: fails, p: for good, l: as a retry that the handler asks for
		max     int
		want    int // after how many answers it is too much; 0: never
	}{
		{"fff", 3, 3}, {"ffsff", 3, 0}, {"ffsfff", 3, 6}, {"f", 1, 1}, {"ffffff", 0, 0},
		{"plpl", 1, 0}, {"fplflpf", 3, 7},
	} {
		c := newTableTest(t, protocol2(wire.Sync))
		c.maxFailures = tc.max
		found, n := 0, 0
		c.onBreakage = func(b breakage) {
			if found == 0 {
				found = n
			}
			if b.cause != CauseFailures {
				t.Errorf("%s: cause %s", tc.answers, b.cause)
			}
		}
		for _, a := range tc.answers {
			n++
			id := fmt.Sprint("t", n)
			c.submit(id)
			o := outcome{}
			if a != 's' {
				o.reply = Reply{Error: "no", Retry: a != 'p', HasRetryDelay: a == 'l'}
			}
			c.answer(id, o, c.now)
		}
		if found != tc.want {
			t.Errorf("%s, at most %d: too much after %d, want %d", tc.answers, tc.max, found, tc.want)
		}
	}
}
