package failover

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// Redis, the checker and two workers on a host each. First one worker reaches Redis alone, and keeps its task; then its
// cable is pulled in the middle of the task, with every connection left open, until the other worker has done the task.
func TestNetworkPartition(t *testing.T) {
	t.Parallel()
	network := newNetwork(t)
	store, watch, near, far := network.host(), network.host(), network.host(), network.host()
	server := redistest.StartOn(t, store.by(), store.Addr)
	f := harness.NewFleetOn(t, server)
	everywhere := harness.Settings{"health.listen": ":0"} // as on real hosts: others find out which address leads to it
	on := func(h *host, w *harness.Worker, command string) *harness.Worker {
		w.RunBy = h.by()
		w.Start(command, "-c", w.Config)
		return w
	}
	checker := on(watch, f.NewWorker("checker", everywhere), "fleet")
	f.AwaitLeader("checker")
	late := on(far, f.NewWorker("late", everywhere.With("fleet.enabled", false)), "run")
	f.AwaitRunning("late")
	task := f.Hold()
	f.AwaitStart(task, "late")
	on(near, f.NewWorker("other", everywhere.With("fleet.enabled", false)), "run")
	f.AwaitRunning("other")
	for id, h := range map[string]*host{"late": far, "other": near} {
		if at := f.Heartbeat(id)["address"]; !strings.HasPrefix(at, h.Addr+":") {
			t.Errorf("worker %s on %s has the address %q in its heartbeat, want one of its host", id, h.Addr, at)
		}
	}
	checker.AwaitListed("late", "BUSY", "")
	checker.AwaitListed("other", "FREE", "")

	far.knowsOnly(store.Addr)
	checker.AwaitListed("late", "DEAD", "timeout")
	out := checker.Command("enqueue", harness.QueueName, "who", f.PayloadText(), "--worker", "late")
	if out.Code != 1 || !strings.Contains(out.ErrOut, "DEAD") {
		t.Errorf("enqueue --worker to one that cannot be reached: %+v, want exit code 1 and \"DEAD\" on stderr", out)
	}
	harness.Consistently(t, 4*time.Second, func() error { // twice two of its intervals
		if owner := f.Owners()[task]; owner != "late" || f.Heartbeat("late")["healthy"] != "true" {
			return fmt.Errorf("the task is held by %q and the heartbeat is %q, want late and healthy", owner, f.Heartbeat("late"))
		}
		return nil
	})
	far.knowsAll()
	checker.AwaitListed("late", "BUSY", "")

	unplugged := time.Now()
	far.unplug()
	again := f.AwaitStart(task, "other")
	t.Logf("the task ran again %v after the cable was pulled (45 s promised)", again.At.Sub(unplugged).Round(time.Millisecond))
	if f.Recoveries(task) != 1 {
		t.Errorf("%d recoveries are counted, want 1", f.Recoveries(task))
	}
	f.OpenGate()
	if got := f.Result(task); got != `"other"` {
		t.Fatalf("the result is %s, want %s", got, `"other"`)
	}
	far.plug()
	f.AwaitRunning("late")
	checker.AwaitListed("late", "FREE", "")
	harness.Eventually(t, "the late acknowledgement is refused and counted", func() error {
		now := harness.Samples(t, f.Heartbeat("late")["address"])
		if n := now[`runqy_tasks_fenced_total{queue="`+harness.QueueName+`"}`]; n != 1 {
			return fmt.Errorf("%v are, want 1", n)
		}
		return nil
	})
	if got := f.Result(task); got != `"other"` || len(f.Starts()[task]) != 2 {
		t.Errorf("the result is %s and the runs %v, want that of other and two runs", got, f.Starts()[task])
	}
	for _, id := range []string{"late", "other"} { // both go on working
		out := checker.Command("enqueue", harness.QueueName, "who", f.PayloadText(), "--worker", id, "--wait")
		if out.Code != 0 || !strings.Contains(out.Out, `"`+id+`"`) {
			t.Errorf("enqueue --worker %s: %+v, want exit code 0", id, out)
		}
	}
	f.AwaitEmpty()
	late.Stop()
}
