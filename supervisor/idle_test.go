package supervisor

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

// A task is marked when it has run for a while, has reported nothing for as long, and its process was idle meanwhile.
func TestIdleTasksAreMarked(t *testing.T) {
	const after = 5 * time.Minute
	c := newTableTest(t, protocol2(wire.Async, "s:sync", "a:async"))
	begin := c.now
	c.submit("s1", "s2", "a1", "a2") // s2 waits for s1
	check := func(what string, idle bool, all string, fresh ...string) {
		t.Helper()
		gotAll, gotFresh := c.markIdle(c.now, after, idle)
		names := []string{}
		for _, f := range gotFresh {
			names = append(names, f.id)
		}
		slices.Sort(names)
		ids := slices.Sorted(maps.Keys(gotAll))
		if strings.Join(ids, " ") != all || !slices.Equal(names, append([]string{}, fresh...)) {
			t.Errorf("%s: marked are %q and fresh %q, want %q and %q", what, ids, names, all, fresh)
		}
	}
	c.pass(after - time.Second)
	check("too early", true, "")
	c.progress("a2", c.now)
	c.pass(time.Second)
	check("a busy process", false, "")
	check("an idle one", true, "a1 s1", "a1", "s1")
	c.pass(time.Minute)
	check("again", true, "a1 s1")
	if all, _ := c.markIdle(c.now, after, true); !all["s1"].Equal(begin) {
		t.Errorf("s1 is idle since %v, want since it began, at %v", all["s1"], begin)
	}
	c.reply("s1")
	c.progress("a1", c.now)
	check("after an answer and progress", true, "")
	c.pass(after)
	check("much later", true, "a1 a2 s2", "a1", "a2", "s2")
	if c.progress("unknown", c.now) != nil {
		t.Error("progress of a task that is not in flight is noted, want nothing")
	}
}

func TestCPUWindow(t *testing.T) {
	w := cpuWindow{span: time.Minute}
	now, cpu := time.Unix(1000, 0), time.Duration(0)
	pass := func(span time.Duration, share float64) {
		for range int(span / time.Second) {
			now = now.Add(time.Second)
			cpu += time.Duration(share * float64(time.Second))
			w.sample(now, cpu)
		}
	}
	check := func(what string, want bool) {
		t.Helper()
		if got := w.idle(now); got != want {
			t.Errorf("%s: idle is %v, want %v", what, got, want)
		}
	}
	check("nothing is known", false)
	pass(30*time.Second, 0)
	check("half of the span is known", false)
	pass(40*time.Second, 0.001)
	check("hardly any CPU time", true)
	pass(5*time.Second, 1)
	check("it computes", false)
	pass(70*time.Second, 0)
	check("it has computed before", true)
	now = now.Add(2 * time.Minute)
	check("no sample for long", false)
	w.forget()
	check("all is forgotten", false)
}
