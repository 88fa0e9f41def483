package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// Redis, the checker and two workers on a host each. First one worker can be reached by nobody but Redis, which costs
// it nothing; then its cable is pulled in the middle of a task, without a word to any connection, until the other has
// done the task.
func TestHostsOfTheirOwn(t *testing.T) {
	t.Parallel()
	network := newNetwork(t)
	store, watch, near, far := network.host(), network.host(), network.host(), network.host()
	server := redistest.StartOn(t, store.by(), store.Addr)
	f := newFleetTestOn(t, server)
	everywhere := settings{"health.listen": ":0"} // as on real hosts: others find out which address leads to it
	on := func(h *host, w *workerProcess, command string) *workerProcess {
		w.within = h.by()
		w.start(command, "-c", w.Config)
		return w
	}
	checker := on(watch, f.idle("checker", everywhere), "fleet")
	f.leads("checker")
	late := on(far, f.idle("late", with(everywhere, "fleet.enabled", false)), "run")
	f.joined("late")
	task := f.hold()
	f.startedOn(task, "late")
	on(near, f.idle("other", with(everywhere, "fleet.enabled", false)), "run")
	f.joined("other")
	for id, h := range map[string]*host{"late": far, "other": near} {
		if at := f.beat(id)["address"]; !strings.HasPrefix(at, h.Addr+":") {
			t.Errorf("worker %s on %s says that it is at %q", id, h.Addr, at)
		}
	}
	checker.isListed("late", "BUSY", "")
	checker.isListed("other", "FREE", "")

	far.knowsOnly(store.Addr)
	checker.isListed("late", "DEAD", "timeout")
	out := checker.command("enqueue", queueName, "who", f.payloadText(), "--worker", "late")
	if out.Code != 1 || !strings.Contains(out.ErrOut, "DEAD") {
		t.Errorf("enqueue --worker to one that nobody reaches: %+v", out)
	}
	stays(t, 4*time.Second, func() error { // twice two of its intervals
		if owner := f.owners()[task]; owner != "late" || f.beat("late")["healthy"] != "true" {
			return fmt.Errorf("the task is held by %q, the heartbeat is %q", owner, f.beat("late"))
		}
		return nil
	})
	far.knowsAll()
	checker.isListed("late", "BUSY", "")

	unplugged := time.Now()
	far.unplug()
	again := f.startedOn(task, "other")
	t.Logf("the task ran again %v after the cable was pulled (45 s promised)", again.At.Sub(unplugged).Round(time.Millisecond))
	if f.crashes(task) != 1 {
		t.Errorf("%d crashes are counted", f.crashes(task))
	}
	f.open()
	if got := f.result(task); got != `"other"` {
		t.Fatalf("the result is %s", got)
	}
	far.plug()
	f.joined("late")
	checker.isListed("late", "FREE", "")
	eventually(t, "the late acknowledgement is refused and counted", func() error {
		now := samples(t, f.beat("late")["address"])
		if n := now[`runqy_tasks_fenced_total{queue="`+queueName+`"}`]; n != 1 {
			return fmt.Errorf("%v are", n)
		}
		return nil
	})
	if got := f.result(task); got != `"other"` || len(f.starts()[task]) != 2 {
		t.Errorf("the result is %s now, and it has run so: %v", got, f.starts()[task])
	}
	for _, id := range []string{"late", "other"} { // both go on working
		out := checker.command("enqueue", queueName, "who", f.payloadText(), "--worker", id, "--wait")
		if out.Code != 0 || !strings.Contains(out.Out, `"`+id+`"`) {
			t.Errorf("enqueue --worker %s: %+v", id, out)
		}
	}
	f.nothingLeft()
	late.Stop()
}

// newFleetTestOn is newFleetTest with a Redis that is there already.
func newFleetTestOn(t *testing.T, server *redistest.Server) *fleetTest {
	t.Helper()
	dir := t.TempDir()
	return &fleetTest{queueUser: newQueueUser(t, server.Client), server: server, file: dir + "/runs", gate: dir + "/gate"}
}
