package metrics_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"go.uber.org/goleak"

	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/metrics"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// golden compares got with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; users scrape these names. If the change is meant, run go test ./metrics/ -update.\ngot:\n%s", path, got)
	}
}

func TestNamesTypesAndHelp(t *testing.T) {
	_, reg := newSet(t, fullSources())
	found, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, f := range found {
		name := f.GetName()
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue // these change with the Go release
		}
		labels := map[string]bool{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = true
			}
		}
		fmt.Fprintf(&out, "%s{%s} %s\n    %s\n", name, strings.Join(sortedKeys(labels), ","), f.GetType(), f.GetHelp())
	}
	golden(t, "names.golden", out.Bytes())
}

func TestExposition(t *testing.T) {
	set, reg := newSet(t, fullSources())
	set.Types([]string{"resize"})
	set.TaskBegan("inference_default", 2*time.Second)
	set.TaskFinished("inference_default", "resize", "task-1", 30*time.Millisecond, false)
	set.TaskFinished("inference_default", "resize", "task-2", 2*time.Second, true)
	set.TaskFinished("inference_default", "unheard of", "task-3", time.Second, true)
	set.TaskRetried("inference_default")
	set.TaskArchived("inference_default")
	set.TasksLost("low", 3)
	set.ViewsDropped(2)
	set.Crashed("signal")
	set.Restarted("manual")
	set.TaskFenced("low")

	var names []string
	for name := range exported(t) {
		if strings.HasPrefix(name, "python_") ||
			strings.HasPrefix(name, "runqy_") && !strings.HasPrefix(name, "runqy_child_") {
			names = append(names, name)
		}
	}
	got, err := testutil.GatherAndFormat(reg, expfmt.TypeTextPlain, names...)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "exposition.golden", got)
}

func TestLint(t *testing.T) {
	_, reg := newSet(t, fullSources())
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("the lint of client_golang says of %s: %s", p.Metric, p.Text)
	}
}

// Every series whose labels are known exists, at zero, before the first event; otherwise rate() would miss the first
// event of each.
func TestSeriesStartAtZero(t *testing.T) {
	src := fullSources()
	set, reg := newSet(t, src)
	set.Types([]string{"resize", "fetch"})
	queues, pairs := len(src.QueueNames), 3*len(src.QueueNames) // the third type is other
	want := map[string]int{
		"runqy_tasks_processed_total": pairs,
		"runqy_tasks_failed_total":    pairs,
		"runqy_task_duration_seconds": pairs,
		"runqy_task_wait_seconds":     queues,
		"runqy_tasks_retried_total":   queues,
		"runqy_tasks_archived_total":  queues,
		"runqy_tasks_lost_total":      queues,
		"runqy_tasks_fenced_total":    queues,
		"runqy_views_dropped_total":   1,
		"runqy_worker_crashes_total":  len(src.CrashCauses),
		"runqy_worker_restarts_total": len(src.RestartCauses),
	}
	for name, n := range want {
		got, err := testutil.GatherAndCount(reg, name)
		if err != nil {
			t.Fatal(err)
		}
		if got != n {
			t.Errorf("%s has %d series before the first event, want %d", name, got, n)
		}
	}
}

// A process that announces the most absurd types costs a bounded number of series, and what it announces once stays.
func TestTypesAreBounded(t *testing.T) {
	set, reg := newSet(t, fullSources())
	count := func(name string) int {
		t.Helper()
		n, err := testutil.GatherAndCount(reg, name)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	set.Types([]string{"resize", "", "resize", metrics.OtherType, strings.Repeat("x", 129)})
	if got := count("runqy_tasks_processed_total"); got != 2*2 {
		t.Errorf("%d series, want those of resize and of other in two queues", got)
	}
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("t\xff%d", i))
	}
	set.Types(many)
	if got := count("runqy_tasks_processed_total"); got > 2*101 || got < 2*99 {
		t.Errorf("%d series after a thousand types, want about a hundred types", got)
	}
	if got := count("runqy_task_duration_seconds"); got != 2*2 {
		t.Errorf("%d histograms before the first attempt, want no more of so many types", got)
	}
	set.TaskFinished("low", "resize", "a", time.Second, false)
	set.TaskFinished("low", many[0], "b", time.Second, false)
	set.TaskFinished("low", many[999], "c", time.Second, true)
	set.TaskFinished("low", "never announced", "d", time.Second, true)
	if got := count("runqy_task_duration_seconds"); got != 2*2+1 {
		t.Errorf("%d histograms, want one more for an announced type that ran", got)
	}
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP runqy_tasks_lost_total Ids that this worker found in a queue without their task, as after an eviction or a flush; the task is gone.
# TYPE runqy_tasks_lost_total counter
runqy_tasks_lost_total{queue="inference_default"} 0
runqy_tasks_lost_total{queue="low"} 0
`), "runqy_tasks_lost_total")
	if err != nil {
		t.Error(err)
	}
	found, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		for _, m := range f.GetMetric() {
			if f.GetName() == "runqy_tasks_failed_total" && m.GetCounter().GetValue() > 0 &&
				(m.GetLabel()[1].GetValue() != metrics.OtherType || m.GetCounter().GetValue() != 2) {
				t.Errorf("failed attempts of types beyond the bound are counted as %v", m)
			}
		}
	}
}

// Whatever ids pass through, they become no label: the number of series does not grow with tasks.
func TestTaskIDsAreNoLabels(t *testing.T) {
	set, reg := newSet(t, fullSources())
	before, err := testutil.GatherAndCount(reg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		set.TaskFinished("inference_default", "resize", fmt.Sprintf("task-%d", i), time.Duration(i)*time.Millisecond, i%2 == 0)
	}
	after, err := testutil.GatherAndCount(reg)
	if err != nil {
		t.Fatal(err)
	}
	if after != before {
		t.Errorf("a thousand tasks took the number of series from %d to %d", before, after)
	}
	found, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.HasPrefix(l.GetValue(), "task-") {
					t.Errorf("%s has a task id in its label %s", f.GetName(), l.GetName())
				}
				if l.GetValue() == "worker-abc123" && f.GetName() != "runqy_worker_info" {
					t.Errorf("%s has the worker id in its label %s", f.GetName(), l.GetName())
				}
			}
		}
	}
}

func gathered(t *testing.T, reg prometheus.Gatherer, prefix string) []string {
	t.Helper()
	found, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range found {
		if strings.HasPrefix(f.GetName(), prefix) {
			names = append(names, f.GetName())
		}
	}
	return names
}

func TestUnreadableQueuesLeaveTheRest(t *testing.T) {
	src := fullSources()
	src.Queues = func(context.Context) (map[string]status.Depth, error) {
		return nil, errors.New("Redis does not answer")
	}
	_, reg := newSet(t, src)
	if got := gathered(t, reg, "runqy_queue_"); !slices.Equal(got, []string{"runqy_queue_unserved_tasks"}) { // the leader's
		t.Errorf("queue series %v although no queue could be read", got)
	}
	if got, want := len(gathered(t, reg, "runqy_worker_")), 15; got != want {
		t.Errorf("%d runqy_worker_ metrics while the queues cannot be read, want %d", got, want)
	}

	src.Queues = func(context.Context) (map[string]status.Depth, error) {
		return map[string]status.Depth{"low": {Pending: 1, Latency: -1}, "broken": {Err: errors.New("WRONGTYPE")}}, nil
	}
	_, reg = newSet(t, src)
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP runqy_queue_pending_tasks Tasks that wait in the queue; the same on every worker, so take the maximum across workers and never the sum.
# TYPE runqy_queue_pending_tasks gauge
runqy_queue_pending_tasks{queue="low"} 1
`), "runqy_queue_pending_tasks", "runqy_queue_latency_seconds") // an age that is not known has no sample
	if err != nil {
		t.Error(err)
	}
}

func TestQueuesAreReadWithADeadline(t *testing.T) {
	src := fullSources()
	var deadline time.Time
	src.Queues = func(ctx context.Context) (map[string]status.Depth, error) {
		deadline, _ = ctx.Deadline()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	_, reg := newSet(t, src)
	if got := gathered(t, reg, "runqy_worker_healthy"); got == nil {
		t.Error("runqy_worker_healthy is missing because the queues were slow")
	}
	if deadline.IsZero() {
		t.Error("the queues are read without a deadline")
	}
}

func TestNothingIsSaidOfAnAbsentPython(t *testing.T) {
	src := fullSources()
	src.Python = func() metrics.Python { return metrics.Python{} }
	src.ChildPID = func() int { return 0 }
	src.Worker = func() metrics.Worker { return metrics.Worker{Concurrency: 1} }
	_, reg := newSet(t, src)
	for _, prefix := range []string{"python_", "runqy_child_", "runqy_worker_last_heartbeat"} {
		if got := gathered(t, reg, prefix); got != nil {
			t.Errorf("%v are exported, want none", got)
		}
	}
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP runqy_worker_healthy 1 when the Python process runs, answers and passes its @health check, Redis answers and refuses neither cycles nor heartbeats, and the configured database answers; else 0, and no new task is taken, but for one at a time as a probe.
# TYPE runqy_worker_healthy gauge
runqy_worker_healthy 0
# HELP runqy_worker_info Always 1; the labels identify the worker. python_version is empty while no interpreter is known.
# TYPE runqy_worker_info gauge
runqy_worker_info{environment="test",python_version="",version="1.2.3",worker_id="worker-abc123"} 1
`), "runqy_worker_healthy", "runqy_worker_info")
	if err != nil {
		t.Error(err)
	}
}

func TestStringsFromOutsideCannotSpoilAScrape(t *testing.T) {
	src := fullSources()
	src.Info.Environment = "pr\xffod"
	src.Python = func() metrics.Python {
		return metrics.Python{
			Implementation: "C\xfePython", Version: "3\xff",
			GC: []metrics.GC{{Generation: 0, Collections: 1}, {Generation: 0, Collections: 2}},
		}
	}
	_, reg := newSet(t, src)
	if got := gathered(t, reg, "python_info"); got == nil {
		t.Error("python_info is missing")
	}
}

func TestNewRefuses(t *testing.T) {
	noWorker := fullSources()
	noWorker.Worker = nil
	badQueue := fullSources()
	badQueue.QueueNames = []string{"q\xff"}
	for name, test := range map[string]struct {
		reg  prometheus.Registerer
		src  metrics.Sources
		want string
	}{
		"no registry": {nil, fullSources(), "no registry"},
		"no worker":   {prometheus.NewRegistry(), noWorker, "Sources.Worker"},
		"bad queue":   {prometheus.NewRegistry(), badQueue, `"q\xff"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := metrics.New(test.reg, test.src)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one that names %s", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "metrics:") {
				t.Errorf("error %q, want one without a prefix: callers add their own", err)
			}
		})
	}
}

func TestNewRegistersAllOrNothing(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "python_info", Help: "Another one."}))
	if _, err := metrics.New(reg, fullSources()); err == nil {
		t.Fatal("no error although python_info is taken")
	}
	if got := gathered(t, reg, "runqy_"); got != nil {
		t.Errorf("%v stay registered after the error", got)
	}
}

// FuzzTaskFinished shows that no task id, of any client, panics or is lost.
func FuzzTaskFinished(f *testing.F) {
	f.Add("6f1c", int64(time.Second))
	f.Add("", int64(-1))
	f.Add("\xff", int64(0))
	f.Add(strings.Repeat("é", 200), int64(time.Hour))
	f.Add(strings.Repeat("x", 121), int64(1))
	f.Add(strings.Repeat("x", 122), int64(1))
	set, reg := newSet(f, fullSources())
	var n int
	f.Fuzz(func(t *testing.T, id string, d int64) {
		set.TaskFinished("low", "resize", id, time.Duration(d), false)
		if d >= 0 { // what never began has no duration
			n++
		}
		found, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, mf := range found {
			if mf.GetName() != "runqy_task_duration_seconds" {
				continue
			}
			if got := mf.GetMetric()[1].GetHistogram().GetSampleCount(); got != uint64(n) {
				t.Errorf("%d durations counted of %d", got, n)
			}
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	set, reg := newSet(t, fullSources())
	const workers, each = 8, 200
	set.Types([]string{"resize"})
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				set.TaskFinished("low", "resize", fmt.Sprintf("%d-%d", w, i), time.Duration(i)*time.Millisecond, i%2 == 0)
				set.Types([]string{"resize", metrics.OtherType})
				set.TaskBegan("low", time.Second)
				set.Crashed("exit")
				set.Restarted("crash")
				set.TaskFenced("low")
			}
		})
		wg.Go(func() {
			for range 5 {
				if _, err := reg.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want := fmt.Sprintf(`
# HELP runqy_tasks_failed_total Attempts that this worker finished and that failed; a part of runqy_tasks_processed_total.
# TYPE runqy_tasks_failed_total counter
runqy_tasks_failed_total{queue="inference_default",type="other"} 0
runqy_tasks_failed_total{queue="inference_default",type="resize"} 0
runqy_tasks_failed_total{queue="low",type="other"} 0
runqy_tasks_failed_total{queue="low",type="resize"} %d
# HELP runqy_tasks_processed_total Attempts that this worker finished, whether they succeeded or failed; a task that is retried twice counts three times.
# TYPE runqy_tasks_processed_total counter
runqy_tasks_processed_total{queue="inference_default",type="other"} 0
runqy_tasks_processed_total{queue="inference_default",type="resize"} 0
runqy_tasks_processed_total{queue="low",type="other"} 0
runqy_tasks_processed_total{queue="low",type="resize"} %d
`, workers*each/2, workers*each)
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "runqy_tasks_processed_total", "runqy_tasks_failed_total"); err != nil {
		t.Error(err)
	}
}
