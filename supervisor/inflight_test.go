package supervisor

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

func newTable(o Options, tail *outputTail) *inFlightTable {
	return newInFlightTable(o, &atomic.Int64{}, tail)
}

// tableTest is a table with a clock of its own and a record of what the callers were told.
type tableTest struct {
	t *testing.T
	*inFlightTable
	now    time.Time
	offset int64
	told   []string
}

// toldTo is a Caller that records what it is told.
type toldTo struct {
	test *tableTest
	id   string
}

func (c toldTo) Began(at time.Time) {
	c.test.note("%s began at %v", c.id, at.Sub(epoch))
}
func (c toldTo) Progress(float64, string) {}
func (c toldTo) Ended(reply Reply, err error) {
	if err != nil {
		c.test.note("%s: %v", c.id, err)
		return
	}
	c.test.note("%s took %v", c.id, reply.Took)
}

var epoch = time.Unix(1000, 0)

func newTableTest(t *testing.T, ready wire.Ready) *tableTest {
	table := newTable(Options{Concurrency: 10}, nil)
	table.announce(ready)
	return &tableTest{t: t, inFlightTable: table, now: epoch}
}

func (c *tableTest) note(format string, args ...any) {
	c.told = append(c.told, fmt.Sprintf(format, args...))
}

// submit adds requests, each with its id's first letter as its type, as child.submit does.
func (c *tableTest) submit(ids ...string) {
	c.t.Helper()
	for _, id := range ids {
		e, _, err := c.add(&Request{TaskID: id, Type: id[:1], Caller: toldTo{c, id}}, c.now, func() int64 { c.offset++; return c.offset - 1 })
		if err != nil {
			c.t.Fatalf("add %s: %v", id, err)
		}
		if e.telling {
			e.caller.Began(e.began)
			c.inFlightTable.told(e)
		}
	}
}

func (c *tableTest) pass(d time.Duration) { c.now = c.now.Add(d) }

func (c *tableTest) reply(id string) bool { return c.answer(id, outcome{}, c.now) }

// saw compares what the callers were told since the last call.
func (c *tableTest) saw(what string, want ...string) {
	c.t.Helper()
	if !slices.Equal(c.told, want) {
		c.t.Errorf("%s: told %q, want %q", what, c.told, want)
	}
	c.told = nil
}

// protocol2 is a ready message with these types, each given as "name:kind", and the feature withdraw.
func protocol2(handlers wire.Handlers, types ...string) wire.Ready {
	r := wire.Ready{Protocol: 2, Handlers: handlers, Features: []string{wire.FeatureWithdraw}}
	for _, t := range types {
		if r.Types == nil {
			r.Types = map[string]string{}
		}
		r.Types[t[:1]] = t[2:]
	}
	return r
}

func TestSyncRequestsBeginOneAfterTheOther(t *testing.T) {
	c := newTableTest(t, protocol2(wire.Sync))
	c.submit("a", "b", "c")
	c.saw("three are submitted", "a began at 0s")
	c.pass(time.Second)
	c.reply("b") // refused before it began
	c.saw("one that waits is answered", "b took 0s")
	c.reply("a")
	c.saw("the first is answered", "a took 1s", "c began at 1s")
	c.pass(time.Second)
	c.answer("c", outcome{reply: Reply{Took: time.Millisecond}, timed: true}, c.now)
	c.saw("the process says how long it took", "c took 1ms")
	c.submit("d")
	c.pass(time.Second)
	c.reply("d")
	c.saw("one that was not run", "d began at 2s", "d took 1s")
	if got := *c.durations.of("d"); got.known {
		t.Errorf("its duration counts: %+v", got)
	}
	if c.inFlight.Load() != 0 || c.waiting != 0 || c.turns != 0 || c.unknown != 0 || c.expected != 0 || c.first != nil || c.last != nil {
		t.Errorf("an empty table counts: %+v", c.inFlightTable)
	}
}

func TestAsyncRequestsBeginAtOnce(t *testing.T) {
	c := newTableTest(t, protocol2(wire.Async))
	c.submit("a", "b")
	c.saw("two are submitted", "a began at 0s", "b began at 0s")
}

// A process of protocol 1 tells nothing, so its requests begin when they are written.
func TestProtocol1RequestsBeginAtOnce(t *testing.T) {
	c := newTableTest(t, wire.Ready{Protocol: 1, Handlers: wire.Sync})
	c.submit("a", "b")
	c.saw("two are submitted", "a began at 0s", "b began at 0s")
	c.reply("a")
	c.saw("the first is answered", "a took 0s")
}

func TestFilesWithBothKinds(t *testing.T) {
	c := newTableTest(t, protocol2(wire.Async, "s:sync", "a:async"))
	c.submit("s1", "a1", "s2", "a2", "x")
	c.saw("all are submitted", "s1 began at 0s", "a1 began at 0s", "a2 began at 0s") // x is not announced: it counts as sync
	c.reply("a1")
	c.saw("an async one is answered", "a1 took 0s")
	c.pass(time.Second)
	c.reply("s1")
	c.saw("a sync one is answered", "s1 took 1s", "s2 began at 1s")
	charge(c.inFlightTable, 100, CauseExit, because("gone"), "", c.now)
	c.saw("the process dies",
		"s2: the Python process crashed (exit) while this task and others were running: gone",
		"a2: the Python process crashed (exit) while this task and others were running: gone",
		"x: the task was not run: the Python process crashed (exit) before its turn")
	for _, tc := range []struct {
		types []string
		want  bool
	}{{[]string{"a:async"}, false}, {[]string{"a:async", "s:sync"}, true}, {[]string{"s:sync", "*:async"}, false}, {[]string{"a:async", "*:sync"}, true}} {
		if got := newTableTest(t, protocol2(wire.Async, tc.types...)).kinds.inOrder("x"); got != tc.want {
			t.Errorf("with %q a type that is not named is in order: %v, want %v", tc.types, got, tc.want)
		}
	}
}

func TestChargeWhatBegan(t *testing.T) {
	for name, tc := range map[string]struct {
		ready    wire.Ready
		consumed int64
		want     []string
	}{
		"nothing was read": {protocol2(wire.Async), 0, []string{"not run", "not run", "not run"}},
		"one was read":     {protocol2(wire.Async), 1, []string{"crash", "not run", "not run"}},
		"two were read":    {protocol2(wire.Async), 2, []string{"suspicion", "suspicion", "not run"}},
		"sync":             {protocol2(wire.Sync), 3, []string{"crash", "not run", "not run"}},
		"protocol 1":       {wire.Ready{Protocol: 1}, 3, []string{"suspicion", "suspicion", "suspicion"}},
	} {
		table := newTableTest(t, tc.ready)
		calls := map[string]*blockingCaller{}
		for i, id := range []string{"a", "b", "c"} {
			calls[id] = &blockingCaller{ended: make(chan answer, 1)}
			e, _, err := table.add(&Request{TaskID: id, Caller: calls[id]}, epoch, func() int64 { return int64(i) })
			if err != nil {
				t.Fatalf("%s: add: %v", name, err)
			}
			table.inFlightTable.told(e)
		}
		table.cancel("a", epoch) // changes nothing
		charge(table.inFlightTable, tc.consumed, CauseExit, because("gone"), "", epoch.Add(time.Minute))
		var got []string
		for _, id := range []string{"a", "b", "c"} {
			end := <-calls[id].ended
			err, took := end.err, time.Minute
			if errors.Is(err, ErrNotRun) {
				took = 0
			}
			if end.Took != took {
				t.Errorf("%s: %s took %v, want %v", name, id, end.Took, took)
			}
			var crash *CrashError
			var suspicion *SuspicionError
			switch {
			case errors.As(err, &crash):
				got = append(got, "crash")
			case errors.As(err, &suspicion):
				got = append(got, "suspicion")
			case errors.Is(err, ErrNotRun):
				got = append(got, "not run")
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestAskingBack(t *testing.T) {
	c := newTableTest(t, protocol2(wire.Sync))
	c.submit("a", "b")
	c.pass(time.Second / 2)
	c.submit("c")
	c.pass(time.Second / 2)
	if got := c.askBack(c.now, time.Second); !slices.Equal(got, []string{"b"}) {
		t.Errorf("after a second %q is asked back, want b", got)
	}
	if got := c.askBack(c.now, time.Second); got != nil {
		t.Errorf("%q is asked back again, want nothing", got)
	}
	if r := c.room(c.now); r.Free != 0 {
		t.Errorf("room %+v beyond one that holds others up, want none", r)
	}
	c.told = nil
	if c.giveBack("c", c.now) || c.giveBack("x", c.now) || !c.giveBack("b", c.now) || c.giveBack("b", c.now) {
		t.Error("want b to be given back, once, and no other")
	}
	c.saw("b is given back", "b: the task was not run: the process gave it back")
	if c.accepted != 2 {
		t.Errorf("%d requests count for max_tasks, want 2", c.accepted)
	}
	if got := c.askBack(c.now, 0); !slices.Equal(got, []string{"c"}) {
		t.Errorf("in a drain %q is asked back, want c", got)
	}
	if r := c.room(c.now); r.Free != 0 {
		t.Errorf("room %+v while it runs, want none", r)
	}
	c.pass(time.Second)
	c.reply("a") // c began meanwhile, and goes on
	c.saw("a is answered", "a took 2s", "c began at 2s")
	if r := c.room(c.now); r.Free != 1 {
		t.Errorf("room %+v when it has ended, want one beyond what runs", r)
	}
	c.reply("c")
	c.saw("c is answered", "c took 0s")

	old := newTableTest(t, wire.Ready{Protocol: 2, Handlers: wire.Sync})
	old.submit("a", "b")
	if got := old.askBack(old.now.Add(time.Hour), 0); got != nil {
		t.Errorf("%q is asked back from a process that gives nothing back", got)
	}
}

// The process gave a request back just before the one before it was answered: it did not run, whatever Began said.
func TestGivenBackAtItsTurn(t *testing.T) {
	c := newTableTest(t, protocol2(wire.Sync))
	c.submit("a", "b", "c")
	c.askBack(c.now, 0)
	c.reply("a")
	c.told = nil
	c.giveBack("b", c.now)
	c.saw("b is given back", "b: the task was not run: the process gave it back", "c began at 0s")
}

func TestOverdue(t *testing.T) {
	c := newTableTest(t, protocol2(wire.Sync))
	c.submit("a", "b")
	if !c.cancel("b", c.now) || c.cancel("b", c.now) || c.cancel("x", c.now) {
		t.Error("want b to be cancelled, once, and no other")
	}
	c.pass(time.Hour)
	if got := c.markOverdue(c.now, time.Second); got != nil {
		t.Errorf("%q is overdue before its turn", got)
	}
	c.reply("a")
	c.pass(time.Second / 2)
	if got := c.markOverdue(c.now, time.Second); got != nil {
		t.Errorf("%q is overdue after half of its time", got)
	}
	c.pass(time.Second / 2)
	if got := c.markOverdue(c.now, time.Second); !slices.Equal(got, []string{"b"}) {
		t.Errorf("%q is overdue, want b", got)
	}
	if got := c.markOverdue(c.now, time.Second); got != nil {
		t.Errorf("%q is overdue again", got)
	}
}

func TestInFlightTableIdle(t *testing.T) {
	c := newTableTest(t, protocol2(wire.Async))
	c.submit("a", "b")
	called := 0
	if in, mayEnd := c.close(func() { called++ }); in != 2 || mayEnd != 2 {
		t.Errorf("%d in flight, %d may end; want 2 and 2", in, mayEnd)
	}
	if _, _, err := c.add(&Request{TaskID: "c"}, c.now, func() int64 { return 0 }); !errors.Is(err, errClosed) {
		t.Errorf("add to a closed table: %v, want %v", err, errClosed)
	}
	c.cancel("a", c.now)
	c.markOverdue(c.now, 0)
	if c.reply("b"); called != 1 {
		t.Errorf("only an overdue request is left: idle was called %d times, want once", called)
	}
	if c.reply("b") {
		t.Error("b was answered twice")
	}
	if c.reply("a"); called != 1 || c.overdue != 0 {
		t.Errorf("after the end: idle called %d times, %d overdue; want 1 and 0", called, c.overdue)
	}
}

// What waits for an overdue request cannot end; what runs beside it can.
func TestIdleBehindAnOverdueRequest(t *testing.T) {
	c := newTableTest(t, protocol2(wire.Sync, "s:sync", "a:async"))
	c.submit("s1", "s2", "a")
	c.cancel("s1", c.now)
	c.markOverdue(c.now, 0)
	if in, mayEnd := c.close(func() {}); in != 3 || mayEnd != 1 {
		t.Errorf("%d in flight, %d may end; want 3 and 1", in, mayEnd)
	}
}

func TestInFlightTableTakesItsNumber(t *testing.T) {
	table := newTable(Options{Concurrency: 2, MaxTasks: 2}, nil)
	write := func() int64 { return 0 }
	_, full1, _ := table.add(&Request{TaskID: "a"}, epoch, write)
	_, full2, _ := table.add(&Request{TaskID: "b"}, epoch, write)
	_, _, err := table.add(&Request{TaskID: "c"}, epoch, write)
	if full1 || !full2 || !errors.Is(err, errFull) {
		t.Errorf("full %v, then %v, then %v; want false, true and %v", full1, full2, err, errFull)
	}
	if r := table.room(epoch); r.Free != 0 {
		t.Errorf("room %+v in a full table, want none", r)
	}
	busy := newTable(Options{Concurrency: 1}, nil)
	busy.add(&Request{TaskID: "a"}, epoch, write) //nolint:errcheck // it is empty
	if _, _, err := busy.add(&Request{TaskID: "b"}, epoch, write); !errors.Is(err, errBusy) {
		t.Errorf("beyond Concurrency: %v, want %v", err, errBusy)
	}
}

// An answer may overtake the goroutine that tells the caller that its request has begun.
func TestEndedComesAfterBegan(t *testing.T) {
	c := newTableTest(t, protocol2(wire.Sync))
	e, _, err := c.add(&Request{TaskID: "a", Caller: toldTo{c, "a"}}, c.now, func() int64 { return 0 })
	if err != nil {
		t.Fatalf("add: %v", err)
	}
	c.reply("a")
	c.saw("before Began has returned")
	c.inFlightTable.told(e)
	c.saw("afterwards", "a took 0s")
}
