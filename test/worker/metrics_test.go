package worker

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// /metrics is clean for promtool while tasks run, and has every name that alerts and dashboards rely on.
func TestMetrics(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"worker.shutdown_timeout": "100ms"}) // there is a task to the end
	q.PythonPID(w.ID)
	for n := range 5 {
		q.Enqueue("echo", n)
	}
	failed := q.Enqueue("boom", nil, asynq.MaxRetry(0))
	q.AwaitState(failed, asynq.TaskStateArchived)
	running := q.Enqueue("sleep", map[string]any{"seconds": 600})
	q.AwaitHeartbeat(w.ID, "active_task="+running, "processed=6", "failed=1")
	q.Enqueue("echo", 9)
	w.AwaitMetric(`runqy_queue_pending_tasks{queue="`+harness.QueueName+`"}`, "1")

	// Over all types.
	for name, want := range map[string]float64{
		"runqy_tasks_processed_total": 6, "runqy_tasks_failed_total": 1, "runqy_task_duration_seconds_count": 6,
	} {
		harness.Eventually(t, name+" is as it should be", func() error {
			_, body := harness.Get(t, "http://"+w.Addr()+"/metrics")
			lines, sum := harness.LinesWith(body, name+`{queue="`+harness.QueueName+`",type="`), 0.0
			for _, line := range lines {
				v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
				if err != nil {
					return err
				}
				sum += v
			}
			if sum != want {
				return fmt.Errorf("the sum is %v, want %v, of %q", sum, want, lines)
			}
			return nil
		})
	}
	const queueLabel = `{queue="` + harness.QueueName + `"}`
	for sample, value := range map[string]string{
		"runqy_worker_healthy":                                                       "1",
		"runqy_tasks_lost_total" + queueLabel:                                        "0",
		"runqy_views_dropped_total":                                                  "0",
		"runqy_queue_archive_limit_ratio" + queueLabel:                               "0.0001",
		"runqy_queue_tasks{queue=\"" + harness.QueueName + "\",state=\"active\"}":    "1",
		"runqy_queue_tasks{queue=\"" + harness.QueueName + "\",state=\"archived\"}":  "1",
		"runqy_queue_tasks{queue=\"" + harness.QueueName + "\",state=\"retry\"}":     "0",
		"runqy_queue_tasks{queue=\"" + harness.QueueName + "\",state=\"scheduled\"}": "0",
		"runqy_worker_active_tasks":                                                  "1",
		"runqy_worker_concurrency":                                                   "1",
		`runqy_worker_crashes_total{cause="oom"}`:                                    "0",
		`runqy_worker_restarts_total{cause="manual"}`:                                "0",
	} {
		w.AwaitMetric(sample, value)
	}
	code, body := harness.Get(t, "http://"+w.Addr()+"/metrics")
	if code != 200 {
		t.Fatalf("/metrics answers %d %s, want 200", code, body)
	}
	for _, pattern := range []string{
		`runqy_queue_latency_seconds\{queue="inference_default"\} [\d.e-]+`,
		`runqy_task_duration_seconds_bucket\{queue="inference_default",type="echo",le="\+Inf"\} 5`,
		`runqy_tasks_failed_total\{queue="inference_default",type="boom"\} 1`,
		`runqy_task_wait_seconds_bucket\{queue="inference_default",le="\+Inf"\} \d+`,
		`runqy_worker_event_loop_lag_seconds [\d.e-]+`,
		`runqy_worker_last_heartbeat_timestamp_seconds 1\.\d+e\+09`,
		`runqy_worker_last_cycle_timestamp_seconds 1\.\d+e\+09`,
		`runqy_worker_last_take_timestamp_seconds 1\.\d+e\+09`,
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
			t.Errorf("no sample matches %s; there are %q", pattern, harness.LinesWith(body, name))
		}
	}
	if n := strings.Count(body, running) + strings.Count(body, failed); n > 0 {
		t.Errorf("/metrics has task ids %d times, want none", n)
	}

	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool is not on PATH; Debian's package is prometheus")
	}
	lint := exec.Command("promtool", "check", "metrics")
	lint.Stdin = strings.NewReader(body)
	var output bytes.Buffer
	lint.Stdout, lint.Stderr = &output, &output
	var exit *exec.ExitError
	if err := lint.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("run promtool: %v", err)
	}
	if exit != nil || output.Len() > 0 {
		t.Errorf("promtool check metrics: %v, want no complaint:\n%s", exit, &output)
	}
	w.Stop()
}
