package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/test/harness"
)

// A queue that no worker was ever configured for, as with a typo in its name, is a fault wherever one looks; and it is
// none any more once somebody serves it, be it plain asynq.
func TestQueueThatNobodyServes(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	const typo, later, grouped = "inference_defualt", "later", "grouped"
	checker := f.StartChecker("checker", nil)
	worker := f.StartWorker("worker", harness.Settings{"fleet.enabled": false, "worker.queues": []string{harness.QueueName, grouped}})
	f.AwaitRunning("worker")
	f.AwaitLeader("checker")

	out := checker.Command("enqueue", typo, "who", f.PayloadText())
	if out.Code != 0 || !strings.Contains(out.ErrOut, "warning: no live worker serves queue "+typo) {
		t.Errorf("enqueue: %+v, want exit code 0 and a warning", out)
	}
	if out := checker.Command("enqueue", harness.QueueName, "who", f.PayloadText()); out.Code != 0 || out.ErrOut != "" {
		t.Errorf("enqueue to a served queue: %+v, want exit code 0 and no warning", out)
	}
	f.Enqueue("who", f.Payload(), asynq.Queue(grouped), asynq.Group("g"))
	f.Enqueue("who", f.Payload(), asynq.Queue(later), asynq.ProcessIn(2*time.Second))

	awaitQueue(t, checker, typo, "error", "1 task waits and no worker serves it")
	awaitQueue(t, checker, grouped, "error", "to be aggregated, which no worker does")
	awaitQueue(t, worker, grouped, "error", "to be aggregated, which no worker does")
	awaitQueue(t, checker, later, "error", "1 task waits and no worker serves it") // it is due, and nobody moves it
	for queue, n := range map[string]int{typo: 1, grouped: 1, later: 1, harness.QueueName: 0} {
		checker.AwaitMetric(fmt.Sprintf("runqy_queue_unserved_tasks{queue=%q}", queue), strconv.Itoa(n))
	}
	checker.AwaitMetric(`runqy_queue_pending_tasks{queue="`+typo+`"}`, "1")
	if _, text := harness.Get(t, "http://"+worker.Addr()+"/metrics"); strings.Contains(text, "runqy_queue_unserved_tasks{") {
		t.Error("a worker that does not lead tells of the queues of all")
	}
	for _, w := range []*harness.Worker{checker, worker} {
		harness.Eventually(t, "the page of "+w.ID+" names the queue", func() error {
			_, page := harness.Get(t, "http://"+w.Addr()+"/")
			if !strings.Contains(page, "Queue "+typo+": 1 task waits and no worker serves it.") || !strings.Contains(page, "queues are not served") {
				return fmt.Errorf("the page is %s", page)
			}
			return nil
		})
	}

	// A program with plain asynq serves them all, and aggregates.
	plain := asynq.NewServerFromRedisClient(f.Redis, asynq.Config{
		Queues: map[string]int{typo: 1, later: 1, grouped: 1}, LogLevel: asynq.FatalLevel, GroupGracePeriod: time.Second, ShutdownTimeout: time.Second,
		GroupAggregator: asynq.GroupAggregatorFunc(func(_ string, tasks []*asynq.Task) *asynq.Task { return tasks[0] }),
	})
	mux := asynq.NewServeMux()
	mux.HandleFunc("who", func(context.Context, *asynq.Task) error { return nil })
	if err := plain.Start(mux); err != nil {
		t.Fatalf("start an asynq server: %v", err)
	}
	defer plain.Shutdown()
	for _, queue := range []string{typo, later, grouped} {
		checker.AwaitMetric(fmt.Sprintf("runqy_queue_unserved_tasks{queue=%q}", queue), "0")
	}
}

// awaitQueue waits until a process says of a queue that it has a status and an error.
func awaitQueue(t *testing.T, w *harness.Worker, queue, status, text string) {
	t.Helper()
	harness.Eventually(t, w.ID+" says "+status+" of "+queue, func() error {
		_, body := harness.Get(t, "http://"+w.Addr()+"/health/v2/queues")
		var answer struct {
			Queues map[string]struct{ Status, Error string }
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			return fmt.Errorf("%s: %w", body, err)
		}
		if q := answer.Queues[queue]; q.Status != status || !strings.Contains(q.Error, text) {
			return fmt.Errorf("it is %s", body)
		}
		return nil
	})
}

// Who died is told for an hour, with the reason and the number of tasks that went back; a successor says so too.
func TestWhoDiedStaysVisible(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	checker := f.StartChecker("checker", nil)
	f.AwaitLeader("checker")
	victim := f.StartWorker("victim", f.Async(harness.Settings{"worker.concurrency": 2, "fleet.enabled": false}))
	f.AwaitRunning("victim")
	f.Hold()
	f.Hold()
	f.AwaitHeld(2)
	checker.AwaitMetric(`runqy_fleet_dead_total{reason="process_gone"}`, "0") // there before the first death
	harness.KillWorkers(t, victim)
	harness.Eventually(t, "the dead worker has left the registry", func() error {
		if f.Registered("victim") {
			return fmt.Errorf("it is registered")
		}
		return nil
	})
	checker.AwaitMetric(`runqy_fleet_dead_total{reason="process_gone"}`, "1")
	type row struct {
		ID, State, Cause, Reason string
		Healthy                  bool
		Died                     *struct {
			Cause, Reason string
			Tasks         int
			AgeSeconds    float64 `json:"age_seconds"`
		}
	}
	list := func() row {
		t.Helper()
		out := checker.Command("workers", "-o", "json")
		var rows []row
		if err := json.Unmarshal([]byte(out.Out), &rows); err != nil || len(rows) != 1 {
			t.Fatalf("workers: %+v, %v", out, err)
		}
		return rows[0]
	}
	if r := list(); r.ID != "victim" || r.State != "DEAD" || r.Healthy || r.Died == nil || r.Died.Tasks != 2 || r.Died.Cause != "process_gone" || r.Died.Reason == "" {
		t.Errorf("listed as %+v, want a death with two tasks", r)
	}
	if out := checker.Command("workers"); !strings.Contains(out.Out, "ago, 2 tasks went back") {
		t.Errorf("the table is\n%s", out.Out)
	}
	harness.Eventually(t, "the page tells who died", func() error {
		_, page := harness.Get(t, "http://"+checker.Addr()+"/")
		if !strings.Contains(page, "Died within the last hour") || !strings.Contains(page, "1 worker died within the last hour, victim") ||
			!strings.Contains(page, "No worker") || strings.Contains(page, "Healthy") {
			return fmt.Errorf("the page is %s", page)
		}
		return nil
	})

	victim.Start("run", "-c", victim.Config)
	f.AwaitRunning("victim")
	checker.AwaitListed("victim", "BUSY", "")
	if r := list(); !r.Healthy || r.Died == nil || r.Died.Tasks != 2 {
		t.Errorf("the successor is listed as %+v, want it healthy, after a death", r)
	}
	f.OpenGate()
}
