package alerting

import (
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// What only the fleet's checker can see: a queue that nobody serves, and a worker that died.
func TestAlertsOfTheFleet(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	q := harness.NewQueue(t, redis.Client)
	const typo = "inference_defualt"
	well, victim := watched(t, redis.URL, "well", nil), watched(t, redis.URL, "victim", nil)
	checker := harness.NewWorker(t, redis.URL, harness.Settings{"worker.id": "checker", "health.listen": "127.0.0.1:" + harness.FreePort(t), "fleet.interval": "1s"})
	checker.Start("fleet", "-c", checker.Config)
	q.PythonPID(well.ID)
	q.PythonPID(victim.ID)
	watch := newWatch(t, []string{well.Addr(), victim.Addr(), checker.Addr()})
	watch.prometheus.answers(t, `runqy_fleet_checker == 1`)
	watch.prometheus.answers(t, `sum(runqy_fleet_dead_total) == 0`)
	watch.prometheus.answers(t, `runqy_queue_unserved_tasks{queue="well"} == 0`)

	began := time.Now()
	for range 3 {
		q.Enqueue("echo", nil, asynq.Queue(typo))
	}
	harness.KillWorkers(t, victim)
	unserved := fault{
		alert: "RunqyQueueUnserved", receiver: "someone-now", tells: "no healthy worker (job runqy-worker) has served queue " + typo,
		summary: "3 tasks wait in queue " + typo + ", and no healthy worker takes them",
	}
	unserved.check(t, watch.firing(t, began.Add(alertTimeout), unserved.alert, "queue="+typo, "severity=critical"))
	died := fault{
		alert: "RunqyWorkerDied", receiver: "someone-today", tells: checker.Addr() + " (job runqy-worker) recorded deaths of workers", summary: "Found dead (",
	}
	n := watch.firing(t, began.Add(alertTimeout), died.alert, "instance="+checker.Addr())
	died.check(t, n)
	// Which it is depends on what is seen first: that the port is closed or that the process is gone.
	if reason := n.Labels["reason"]; reason != "process_gone" && reason != "refused" || !strings.Contains(n.Annotations["summary"], "("+reason+"): 1 of the workers") {
		t.Errorf("the death is told as %v, want that of one worker", n)
	}

	mended := time.Now()
	if _, err := q.Inspector.DeleteAllPendingTasks(typo); err != nil {
		t.Fatalf("delete the tasks of %s: %v", typo, err)
	}
	watch.resolved(t, mended.Add(alertTimeout), unserved.alert, "queue="+typo)
	watch.resolved(t, mended.Add(2*alertTimeout), died.alert, "instance="+checker.Addr())
	for _, n := range watch.hook.about(t, "RunqyQueueUnserved") {
		if !strings.Contains(n.Labels["queue"], typo) {
			t.Errorf("an alert of a queue that is served: %v", n)
		}
	}
}
