package metrics_test

import (
	"context"
	"os"
	"os/exec"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/metrics"
)

// started is a moment that floats hold exactly.
var started = time.Unix(1_700_000_000, 500_000_000)

// fullSources answers everything, so that every metric is exported.
func fullSources() metrics.Sources {
	return metrics.Sources{
		Info:          metrics.Info{WorkerID: "worker-abc123", Version: "1.2.3", Environment: "test", Started: started},
		QueueNames:    []string{"inference_default", "low"},
		CrashCauses:   []string{"exit", "signal", "oom", "stalled", "stdout_closed", "startup", "protocol"},
		RestartCauses: []string{"crash", "manual", "max_tasks", "max_memory", "deadline"},
		Worker: func() metrics.Worker {
			return metrics.Worker{
				Healthy: true, Lag: 250 * time.Millisecond, ActiveTasks: 2, IdleTasks: 1, Concurrency: 4,
				LastBeat: started.Add(time.Minute), LastCycle: started.Add(2 * time.Minute),
				LastTake: started.Add(3 * time.Minute), Report: status.Mark{Number: 12, Age: 250 * time.Millisecond},
			}
		},
		Queues: func(context.Context) (map[string]status.Depth, error) {
			return map[string]status.Depth{
				"inference_default": {
					Pending: 7, Active: 2, Scheduled: 3, Retry: 1, Archived: 4, Completed: 5,
					Latency: 1500 * time.Millisecond,
				},
				"low": {Paused: true},
			}, nil
		},
		Python: func() metrics.Python {
			return metrics.Python{
				Implementation: "CPython", Version: "3.11.7", Major: 3, Minor: 11, Patch: 7,
				GC: []metrics.GC{
					{Generation: 0, Collections: 10, Collected: 20},
					{Generation: 1, Collections: 5, Collected: 3},
					{Generation: 2, Collections: 1, Collected: 2, Uncollectable: 1},
				},
			}
		},
		ChildPID:        os.Getpid,
		LogLinesDropped: func() int64 { return 7 },
	}
}

// newSet registers src with a registry of its own.
func newSet(t testing.TB, src metrics.Sources) (*metrics.Set, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	set, err := metrics.New(reg, src)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := metrics.NewFleet(reg, fleetSources()); err != nil {
		t.Fatal(err)
	}
	return set, reg
}

// fleetSources are those of the process that checks the fleet.
func fleetSources() metrics.FleetSources {
	return metrics.FleetSources{
		States: func() map[string]int { return map[string]int{"FREE": 2, "BUSY": 1, "DEAD": 0} },
		Stranded: func(context.Context) (map[string]int64, error) {
			return map[string]int64{"inference_default": 0, "inference_defualt": 3}, nil
		},
		DeadReasons: []string{"refused", "timeout"}, RecoveredReasons: []string{"dead", "lapsed"},
		QueueNames: []string{"inference_default"},
	}
}

// exported lists the names of all metrics that a working worker exports.
func exported(t testing.TB) map[string]bool {
	t.Helper()
	_, reg := newSet(t, fullSources())
	found, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool, len(found))
	for _, f := range found {
		names[f.GetName()] = true
	}
	return names
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// tool finds a program that not every machine has. Where RUNQY_TEST_REQUIRE is 1 every program must be there, so that
// no check is skipped unseen.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("RUNQY_TEST_REQUIRE") == "1" {
		t.Fatalf("%s is not installed and RUNQY_TEST_REQUIRE=1; on Debian: apt-get install prometheus prometheus-alertmanager", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// runTool runs a program and fails the test with what it printed.
func runTool(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, name), args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
