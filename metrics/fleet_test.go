package metrics_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/metrics"
)

func TestFleetCounts(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	set, err := metrics.NewFleet(reg, fleetSources())
	if err != nil {
		t.Fatal(err)
	}
	set.Died("refused")
	set.QueuesSeen([]string{"b\xff"})
	set.Recovered("inference_default", "dead", 3)
	want := `
# HELP runqy_fleet_checker 1 while this process is the health checker of the fleet, else 0; the sum over all processes should be 1.
# TYPE runqy_fleet_checker gauge
runqy_fleet_checker 1
# HELP runqy_fleet_dead_total Processes of workers that have died, each counted by the one process that has recorded its death, by how that showed.
# TYPE runqy_fleet_dead_total counter
runqy_fleet_dead_total{reason="refused"} 1
runqy_fleet_dead_total{reason="timeout"} 0
# HELP runqy_fleet_workers Registered workers by what the health checker found; absent from processes that are not the checker.
# TYPE runqy_fleet_workers gauge
runqy_fleet_workers{state="BUSY"} 1
runqy_fleet_workers{state="DEAD"} 0
runqy_fleet_workers{state="FREE"} 2
# HELP runqy_queue_unserved_tasks Tasks, pending or due, of a queue that no healthy worker serves, and tasks that wait to be aggregated; 0 when there are none; absent from processes that are not the checker.
# TYPE runqy_queue_unserved_tasks gauge
runqy_queue_unserved_tasks{queue="inference_default"} 0
runqy_queue_unserved_tasks{queue="inference_defualt"} 3
# HELP runqy_tasks_recovered_total Tasks that this process took back from workers that are gone: returned to the queue or, lost too often, archived.
# TYPE runqy_tasks_recovered_total counter
runqy_tasks_recovered_total{queue="b�",reason="dead"} 0
runqy_tasks_recovered_total{queue="b�",reason="lapsed"} 0
runqy_tasks_recovered_total{queue="inference_default",reason="dead"} 3
runqy_tasks_recovered_total{queue="inference_default",reason="lapsed"} 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

// A process that is not the leader exports nothing about the workers.
func TestNoFleetSeriesWithoutLeading(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	src := fleetSources()
	src.States = func() map[string]int { return nil }
	src.Stranded = func(context.Context) (map[string]int64, error) { return nil, nil }
	if _, err := metrics.NewFleet(reg, src); err != nil {
		t.Fatal(err)
	}
	if n, err := testutil.GatherAndCount(reg, "runqy_fleet_workers", "runqy_queue_unserved_tasks"); n != 0 || err != nil {
		t.Errorf("%d series of runqy_fleet_workers and error %v, want none of either", n, err)
	}
	want := "# HELP runqy_fleet_checker 1 while this process is the health checker of the fleet, else 0; the sum over all processes should be 1.\n" +
		"# TYPE runqy_fleet_checker gauge\nrunqy_fleet_checker 0\n"
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "runqy_fleet_checker"); err != nil {
		t.Error(err)
	}
}

// A Redis that does not answer makes the tasks unknown, and takes nothing else from the scrape.
func TestUnservedTasksThatAreNotKnownAreAbsent(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	src := fleetSources()
	src.Stranded = func(context.Context) (map[string]int64, error) { return nil, errors.New("connection refused") }
	if _, err := metrics.NewFleet(reg, src); err != nil {
		t.Fatal(err)
	}
	if n, err := testutil.GatherAndCount(reg, "runqy_queue_unserved_tasks"); n != 0 || err != nil {
		t.Errorf("%d series and error %v, want none of either", n, err)
	}
	if n, err := testutil.GatherAndCount(reg, "runqy_fleet_workers"); n != 3 || err != nil {
		t.Errorf("%d series of runqy_fleet_workers and error %v, want the three states", n, err)
	}
}

func TestFleetWantsItsSources(t *testing.T) {
	if _, err := metrics.NewFleet(prometheus.NewRegistry(), metrics.FleetSources{}); err == nil {
		t.Error("no error without States")
	}
	if err := metrics.NewQueues(prometheus.NewRegistry(), nil, nil); err == nil {
		t.Error("no error without a reader")
	}
	reg := prometheus.NewRegistry()
	if _, err := metrics.NewFleet(reg, fleetSources()); err != nil {
		t.Fatal(err)
	}
	if _, err := metrics.NewFleet(reg, fleetSources()); err == nil {
		t.Error("no error for a registry that has them already")
	}
}

// A process without tasks still exports the queues.
func TestQueuesAlone(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	read := func(context.Context) (map[string]status.Depth, error) {
		return map[string]status.Depth{"q": {Pending: 4}}, nil
	}
	if err := metrics.NewQueues(reg, read, nil); err != nil {
		t.Fatal(err)
	}
	want := "# HELP runqy_queue_pending_tasks Tasks that wait in the queue; the same on every worker, so take the maximum across workers and never the sum.\n" +
		"# TYPE runqy_queue_pending_tasks gauge\nrunqy_queue_pending_tasks{queue=\"q\"} 4\n"
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "runqy_queue_pending_tasks"); err != nil {
		t.Error(err)
	}
}
