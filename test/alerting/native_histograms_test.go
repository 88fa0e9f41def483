package alerting

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// The same worker under a Prometheus that scrapes native histograms and one that scrapes classic ones: slow tasks are
// notified from either, and the quantiles of docs/metrics.md answer where they are said to. promtool cannot write
// native series.
func TestAlertOnNativeHistograms(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	q := harness.NewQueue(t, redis.Client)
	w := watched(t, redis.URL, "worker-abc123", harness.Settings{"worker.queues": []string{harness.QueueName, "unused"}})
	q.PythonPID(w.ID)
	native := newWatch(t, []string{w.Addr()}, "--enable-feature=native-histograms")
	classic := startPrometheus(t, prometheusConfig(t, []string{w.Addr()}, ""))
	for _, p := range []*server{native.prometheus, classic} {
		p.answers(t, "runqy_worker_healthy == 1")
	}

	began := time.Now()
	for range 60 {
		q.Enqueue("sleep", map[string]any{"seconds": 1.5})
	}
	n := native.firing(t, began.Add(alertTimeout), "RunqyTasksSlow", "queue="+harness.QueueName)
	fault{
		alert: "RunqyTasksSlow", receiver: "someone-today", summary: "Tasks of queue " + harness.QueueName + " take ", tells: "the limit is one minute",
	}.check(t, n)

	const (
		nativeRate  = `histogram_quantile(0.95, sum by (job, queue) (rate(runqy_task_duration_seconds[1m])))`
		classicRate = `histogram_quantile(0.95, sum by (job, queue, le) (rate(runqy_task_duration_seconds_bucket[1m])))`
		withoutRate = `histogram_quantile(0.95, runqy_task_duration_seconds)`
		classicLife = `histogram_quantile(0.95, sum by (job, queue, le) (runqy_task_duration_seconds_bucket))`
		inQueue     = `{queue="` + harness.QueueName + `"}`
	)
	// Native ones have eight buckets to each power of two, so they are at most a tenth below; classic ones end at 1 s
	// and 2.5 s. A task takes its 1.5 s, and on a loaded machine some more.
	const most = 10
	for _, c := range []struct {
		of       *server
		expr     string
		from, to float64
	}{
		{native.prometheus, nativeRate, 1.3, most},
		{native.prometheus, withoutRate, 1.3, most},
		{classic, classicRate, 1, most},
		{classic, classicLife, 1, most},
		{native.prometheus, nativeRate + " or " + classicRate, 1.3, most},
		{classic, nativeRate + " or " + classicRate, 1, most},
	} {
		c.of.value(t, c.expr, harness.QueueName, func(v float64) bool { return c.from <= v && v <= c.to })
	}
	// There has been no attempt in this queue.
	native.prometheus.value(t, withoutRate, "unused", math.IsNaN)
	for _, c := range []struct {
		of   *server
		expr string
	}{
		{classic, withoutRate},
		{classic, nativeRate},
		{native.prometheus, classicRate},
		{native.prometheus, "runqy_task_duration_seconds_bucket" + inQueue},
	} {
		if answer := c.of.query(c.expr); len(answer) > 0 {
			t.Errorf("%s: %+v, want nothing", c.expr, answer)
		}
	}
	for _, p := range []*server{native.prometheus, classic} {
		p.value(t, "job_queue:runqy_task_duration_seconds:p95_rate5m", harness.QueueName, func(v float64) bool { return 1 <= v && v <= most })
	}

	mended := time.Now()
	if _, err := q.Inspector.DeleteAllPendingTasks(harness.QueueName); err != nil {
		t.Fatalf("delete the pending tasks: %v", err)
	}
	for range 600 {
		q.Enqueue("echo", nil, asynq.MaxRetry(0))
	}
	native.resolved(t, mended.Add(alertTimeout), "RunqyTasksSlow", "queue="+harness.QueueName)
}

// value waits until an expression's result for a queue is as it should be.
func (s *server) value(t *testing.T, expr, queue string, good func(float64) bool) {
	t.Helper()
	harness.Eventually(t, expr+" for "+queue, func() error {
		answer := s.query(expr)
		if text := failed(answer); text != "" {
			return fmt.Errorf("it says %s", text)
		}
		var found []string
		for _, one := range answer {
			text, _ := one.Value[1].(string)
			found = append(found, fmt.Sprint(one.Metric, " ", text))
			if v, err := strconv.ParseFloat(text, 64); err == nil && one.Metric["queue"] == queue && good(v) {
				return nil
			}
		}
		return fmt.Errorf("it answers %s", strings.Join(found, ", "))
	})
}
