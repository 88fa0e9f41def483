package fleet

import (
	"fmt"
	"strings"
	"testing"

	"github.com/runqy/runqy-worker/test/harness"
)

// The checker on its own, after the last worker has gone: it still exports the queues' depths, and it ends with 0.
func TestCheckerAlone(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	checker := f.StartChecker("checker", harness.Settings{"worker.queues": []string{"other_queue"}})
	f.AwaitLeader("checker")
	clean := f.StartWorker("clean", harness.Settings{"fleet.enabled": false})
	f.AwaitRunning("clean")
	harness.Eventually(t, "the worker is counted", func() error {
		if now := harness.Samples(t, checker.Addr()); now[`runqy_fleet_workers{state="FREE"}`] != 1 {
			return fmt.Errorf("the samples are %v, want one FREE worker", harness.SelectSamples(now, "fleet"))
		}
		return nil
	})
	clean.Stop()
	victim := f.StartWorker("victim", harness.Settings{"fleet.enabled": false})
	f.AwaitRunning("victim")
	running := f.Hold()
	f.AwaitStart(running, "victim")
	for range 6 {
		f.Enqueue("who", f.Payload())
	}
	harness.KillWorkers(t, victim)
	// The dead worker's task is pending again, with no worker left to take it.
	harness.Eventually(t, "the queue's depth is exported", func() error {
		now := harness.Samples(t, checker.Addr())
		workers := now[`runqy_fleet_workers{state="FREE"}`] + now[`runqy_fleet_workers{state="BUSY"}`] + now[`runqy_fleet_workers{state="DEAD"}`]
		pending := now[`runqy_queue_pending_tasks{queue="`+harness.QueueName+`"}`]
		if other, there := now[`runqy_queue_pending_tasks{queue="other_queue"}`]; pending != 7 || workers != 0 || !there || other != 0 {
			return fmt.Errorf("the samples are %v, %v, want no worker and 7 pending tasks", harness.SelectSamples(now, "fleet"), harness.SelectSamples(now, "pending"))
		}
		return nil
	})
	now := harness.Samples(t, checker.Addr())
	for sample, want := range map[string]float64{
		"runqy_fleet_checker": 1, `runqy_tasks_recovered_total{queue="` + harness.QueueName + `",reason="dead"}`: 1,
		`runqy_queue_tasks{queue="` + harness.QueueName + `",state="active"}`: 0,
	} {
		if now[sample] != want {
			t.Errorf("%s is %v, want %v", sample, now[sample], want)
		}
	}
	// The worker that stopped cleanly is not among the dead.
	if n := harness.SumSamples(now, "runqy_fleet_dead_total"); n != 1 {
		t.Errorf("%v workers are counted as dead, want 1: %v", n, harness.SelectSamples(now, "dead"))
	}
	checker.AwaitAnswer("/health", 200, harness.HealthyBody)
	checker.AwaitAnswer("/readyz", 200, "")
	if out := checker.Command("healthcheck"); out.Code != 0 || !strings.Contains(out.Out, `"broker":"healthy"`) {
		t.Errorf("healthcheck: %+v, want exit code 0 and \"broker\":\"healthy\" on stdout", out)
	}
	if code, body := harness.Get(t, "http://"+checker.Addr()+"/health/v2/queues"); code != 200 || !strings.Contains(body, harness.QueueName) {
		t.Errorf("/health/v2/queues answers %d %s, want 200 and the queue", code, body)
	}
	checker.Stop()
	if f.Redis.Exists(t.Context(), harness.LeaderKey).Val() != 0 {
		t.Error("the leader's lease is still there after its end, want it released")
	}
	// Redis is gone and comes back.
	again := f.StartChecker("again", nil)
	f.AwaitLeader("again")
	f.Server.Kill()
	again.AwaitAnswer("/health", 503, harness.UnhealthyBody)
	f.Server.Restart()
	again.AwaitAnswer("/health", 200, harness.HealthyBody)
	f.AwaitLeader("again")
	again.Stop()
}
