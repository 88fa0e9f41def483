package test

import (
	"bytes"
	"errors"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// /metrics is clean for promtool while tasks run, and has every name that alerts and dashboards rely on.
func TestMetrics(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := newQueueUser(t, server.Client)
	w := startWorker(t, server.URL, nil)
	q.pythonPID(w.ID)
	for n := range 5 {
		q.enqueue("echo", n)
	}
	failed := q.enqueue("boom", nil, asynq.MaxRetry(0))
	q.inState(failed, asynq.TaskStateArchived)
	running := q.enqueue("sleep", map[string]any{"seconds": 600})
	q.beats(w.ID, "active_task="+running, "processed=6", "failed=1")
	q.enqueue("echo", 9)
	w.metric(`runqy_queue_pending_tasks{queue="`+queueName+`"}`, "1")

	const queueLabel = `{queue="` + queueName + `"}`
	for sample, value := range map[string]string{
		"runqy_worker_healthy":                                               "1",
		"runqy_tasks_processed_total" + queueLabel:                           "6",
		"runqy_tasks_failed_total" + queueLabel:                              "1",
		"runqy_task_duration_seconds_count" + queueLabel:                     "6",
		"runqy_queue_tasks{queue=\"" + queueName + "\",state=\"active\"}":    "1",
		"runqy_queue_tasks{queue=\"" + queueName + "\",state=\"archived\"}":  "1",
		"runqy_queue_tasks{queue=\"" + queueName + "\",state=\"retry\"}":     "0",
		"runqy_queue_tasks{queue=\"" + queueName + "\",state=\"scheduled\"}": "0",
		"runqy_worker_active_tasks":                                          "1",
		"runqy_worker_concurrency":                                           "1",
		`runqy_worker_crashes_total{cause="oom"}`:                            "0",
		`runqy_worker_restarts_total{cause="manual"}`:                        "0",
	} {
		w.metric(sample, value)
	}
	code, body := get(t, "http://"+w.Addr()+"/metrics")
	if code != 200 {
		t.Fatalf("/metrics answers %d %s", code, body)
	}
	for _, pattern := range []string{
		`runqy_queue_latency_seconds\{queue="inference_default"\} [\d.e-]+`,
		`runqy_task_duration_seconds_bucket\{queue="inference_default",le="\+Inf"\} 6`,
		`runqy_worker_event_loop_lag_seconds [\d.e-]+`,
		`runqy_worker_last_heartbeat_timestamp_seconds 1\.\d+e\+09`,
		`runqy_worker_start_time_seconds 1\.\d+e\+09`,
		`runqy_worker_info\{environment="development",python_version="3\.\d+\.\d+[^"]*",version="[^"]+",worker_id="worker-abc123"\} 1`,
		`runqy_child_process_resident_memory_bytes [\d.e+]+`,
		`runqy_child_process_cpu_seconds_total [\d.e+-]+`,
		`python_gc_objects_collected_total\{generation="0"\} [\d.e+]+`,
		`python_gc_objects_uncollectable_total\{generation="2"\} \d+`,
		`python_gc_collections_total\{generation="1"\} \d+`,
		`python_info\{implementation="CPython",major="3",minor="\d+",patchlevel="\d+",version="3\.[^"]+"\} 1`,
		`go_goroutines \d+`,
		`go_build_info\{.*\} 1`,
	} {
		if !regexp.MustCompile(`(?m)^` + pattern + `$`).MatchString(body) {
			name := regexp.MustCompile(`^[a-z_]+`).FindString(pattern)
			t.Errorf("no sample matches %s; there are %q", pattern, linesWith(body, name))
		}
	}
	if n := strings.Count(body, running) + strings.Count(body, failed); n > 0 {
		t.Errorf("task ids stand in /metrics %d times", n)
	}

	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool is not on PATH; Debian's package is prometheus")
	}
	lint := exec.Command("promtool", "check", "metrics")
	lint.Stdin = strings.NewReader(body)
	var said bytes.Buffer
	lint.Stdout, lint.Stderr = &said, &said
	var exit *exec.ExitError
	if err := lint.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil || said.Len() > 0 {
		t.Errorf("promtool check metrics: %v\n%s", exit, &said)
	}
	w.Signal(syscall.SIGTERM)
	q.beats(w.ID, "status=draining")
	w.Stop() // the second signal ends the drain
}
