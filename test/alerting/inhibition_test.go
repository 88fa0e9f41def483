package alerting

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// When no healthy worker is left, that is notified at once, and the backlog that it causes is not.
func TestAlertAllWorkersDownInhibitsBacklog(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	q := harness.NewQueue(t, redis.Client)
	queue := harness.Settings{"worker.queues": []string{harness.QueueName}}
	killed := watched(t, redis.URL, "killed", queue)
	degraded := watched(t, redis.URL, "degraded", queue)
	// It exports the queues' depths when the workers are gone.
	fleet := harness.NewWorker(t, redis.URL, harness.Settings{"worker.id": "fleet", "fleet.interval": "1s"})
	fleet.Start("fleet", "-c", fleet.Config)
	q.PythonPID(killed.ID)
	python := q.PythonPID(degraded.ID)
	fleet.AwaitMetric(`runqy_queue_pending_tasks{queue="`+harness.QueueName+`"}`, "0")
	watch := newWatch(t, []string{killed.Addr(), degraded.Addr(), fleet.Addr()})
	watch.prometheus.answers(t, `sum(runqy_worker_healthy) == 2 and count(up == 1) == 3 and sum(runqy_fleet_checker) == 1`)

	began := time.Now()
	harness.KillWorkers(t, killed)
	harness.Kill(t, python, syscall.SIGKILL)
	for range 30 {
		q.Enqueue("echo", nil)
	}
	n := watch.firing(t, began.Add(alertTimeout), "RunqyAllWorkersDown", "job=runqy-worker")
	fault{
		alert: "RunqyAllWorkersDown", receiver: "someone-now", summary: "No healthy worker is left in job runqy-worker", tells: "Tasks stay pending in Redis.",
	}.check(t, n)
	for _, inhibited := range [][]string{
		{"RunqyQueueBacklog", "queue=" + harness.QueueName},
		{"RunqyQueueLatencyHigh", "queue=" + harness.QueueName},
		{"RunqyWorkerDown", "instance=" + killed.Addr()},
		{"RunqyWorkerUnhealthy", "instance=" + degraded.Addr()},
	} {
		watch.suppressed(t, inhibited[0], inhibited[1:]...)
	}

	// The same alert of a job that still has workers arrives. It came later and waited as long as the other, whose turn
	// has then come and gone.
	other := map[string]string{"alertname": "RunqyQueueBacklog", "job": "another", "queue": harness.QueueName, "severity": "warning"}
	watch.post(t, other)
	watch.firing(t, time.Now().Add(alertTimeout), "RunqyQueueBacklog", "job=another")
	for _, alert := range []string{"RunqyQueueBacklog", "RunqyQueueLatencyHigh"} {
		if told := watch.hook.about(t, alert, "job=runqy-worker"); len(told) > 0 {
			t.Errorf("with all workers down there are notifications of %s: %v, want none", alert, told)
		}
	}

	mended := time.Now()
	if out := degraded.Command("restart", degraded.ID); out.Code != 0 {
		t.Fatalf("restart: %+v, want exit code 0", out)
	}
	q.AwaitEmpty()
	watch.resolved(t, mended.Add(alertTimeout), "RunqyAllWorkersDown", "job=runqy-worker")
	// One worker is still down, and nothing inhibits its alert any more.
	watch.firing(t, mended.Add(alertTimeout), "RunqyWorkerDown", "instance="+killed.Addr())
}

// suppressed waits until Alertmanager inhibits an alert.
func (w *watch) suppressed(t *testing.T, alert string, labels ...string) {
	t.Helper()
	limit := time.Now().Add(alertTimeout)
	for time.Now().Before(limit) {
		held, err := w.alerts()
		if err != nil {
			t.Fatalf("list the alerts: %v", err)
		}
		for _, a := range held {
			if (notification{Labels: a.Labels}).is(alert, labels...) && a.Status.State == "suppressed" && len(a.Status.InhibitedBy) > 0 {
				return
			}
		}
		time.Sleep(harness.PollInterval)
	}
	t.Fatalf("Alertmanager does not inhibit %s %v, want it inhibited:\n%s", alert, labels, w)
}

// post gives Alertmanager an alert as Prometheus would.
func (w *watch) post(t *testing.T, labels map[string]string) {
	t.Helper()
	body, err := json.Marshal([]map[string]any{{"labels": maps.Clone(labels), "annotations": map[string]string{"summary": "posted by the test"}}})
	if err != nil {
		t.Fatalf("marshal an alert: %v", err)
	}
	client := &http.Client{Timeout: harness.Timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post("http://"+w.alertmanager.addr+"/api/v2/alerts", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatalf("post an alert: %v", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("post an alert: %s, want 200", resp.Status)
	}
}
