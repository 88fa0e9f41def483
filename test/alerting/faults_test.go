package alerting

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// fault is something that goes wrong with a real worker, and the notification that it causes.
type fault struct {
	name       string
	happens    func()
	alert      string
	labels     []string // "name=value"; enough to tell it from the others
	receiver   string
	summary    string // the whole of it, or its beginning
	tells      string // a part of the description
	isMended   func()
	withEffect bool // of the fault before it: nothing more happens
}

// Each fault happens to a worker of its own, all under one Prometheus; each is notified, and so is its end.
func TestAlertOnEachFault(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	full := redistest.Start(t) // will refuse to be written to
	q := harness.NewQueue(t, redis.Client)
	dir := t.TempDir()
	async := []string{"python3", harness.TaskFile(t, "async.py")}

	crashed := watched(t, redis.URL, "crashed", nil)
	frozen := watched(t, redis.URL, "frozen", harness.Settings{"health.event_loop_block_threshold": "1s"})
	// An unhealthy worker would inhibit the alert of its event loop.
	blocked := watched(t, redis.URL, "blocked", harness.Settings{"python.command": async, "health.event_loop_block_threshold": "1m"})
	// Its process crashes for as long as there is a file.
	crashes := filepath.Join(dir, "crashes")
	looping := watched(t, redis.URL, "looping", harness.Settings{
		"python.command":  []string{"sh", "-c", `[ -e "$1" ] && exit 7; exec python3 "$0"`, harness.TaskFile(t, "sync.py"), crashes},
		"python.on_crash": "restart",
		"python.restart":  map[string]any{"initial_delay": "100ms", "max_delay": "500ms", "max": 10_000},
	})
	gone := watched(t, redis.URL, "gone", nil)
	silent := watched(t, full.URL, "silent", nil)
	starved := watched(t, redis.URL, "starved", harness.Settings{"worker.queues": map[string]int{"greedy": 2, "starved": 1}, "worker.strict_priority": true})
	hanging := watched(t, redis.URL, "hanging", harness.Settings{
		"python.command": []string{"python3", harness.TaskFile(t, "fleet.py")}, "python.env": map[string]string{"WORKER": "hanging"},
	})
	busy := watched(t, redis.URL, "busy", harness.Settings{"worker.queues": []string{"failing", "backlog"}})
	slow := watched(t, redis.URL, "slow", nil)
	checker := harness.NewWorker(t, redis.URL, harness.Settings{"worker.id": "checker", "health.listen": "127.0.0.1:" + harness.FreePort(t)})
	checker.Start("fleet", "-c", checker.Config)

	workers := []*harness.Worker{crashed, frozen, blocked, looping, gone, silent, starved, hanging, busy, slow}
	var targets []string
	for _, w := range workers {
		if w != silent {
			q.PythonPID(w.ID)
		}
		targets = append(targets, w.Addr())
	}
	harness.NewQueue(t, full.Client).PythonPID(silent.ID)
	targets = append(targets, checker.Addr())
	watch := newWatch(t, targets)
	for _, target := range targets {
		watch.prometheus.answers(t, `up{instance="`+target+`"} == 1`)
	}
	watch.prometheus.answers(t, `runqy_fleet_checker == 1`)

	many := func(n int, queue, taskType string, payload any, opts ...asynq.Option) {
		for range n {
			q.Enqueue(taskType, payload, append(opts, asynq.Queue(queue))...)
		}
	}
	drop := func(queue string) {
		if _, err := q.Inspector.DeleteAllPendingTasks(queue); err != nil {
			t.Fatalf("delete the pending tasks of %s: %v", queue, err)
		}
	}
	try := func(err error) {
		if err != nil {
			t.Fatalf("a step of a fault: %v", err)
		}
	}
	restarted := func(w *harness.Worker) {
		if out := w.Command("restart", w.ID); out.Code != 0 {
			t.Fatalf("restart: %+v, want exit code 0", out)
		}
	}
	gate := filepath.Join(dir, "gate")
	var stopped int
	instance := func(w *harness.Worker) []string { return []string{"instance=" + w.Addr()} }

	faults := []fault{
		{
			name: "the Python process crashes", happens: func() { harness.Kill(t, q.PythonPID(crashed.ID), syscall.SIGKILL) },
			alert: "RunqyWorkerUnhealthy", labels: instance(crashed), receiver: "someone-today",
			summary: "Worker " + crashed.Addr() + " is not healthy and takes no tasks", tells: "Worker crashed:",
			isMended: func() { restarted(crashed) },
		}, {
			name: "the Python process stands still",
			happens: func() {
				stopped = q.PythonPID(frozen.ID)
				harness.Kill(t, stopped, syscall.SIGSTOP)
			},
			alert: "RunqyWorkerUnhealthy", labels: instance(frozen), receiver: "someone-today",
			summary: "Worker " + frozen.Addr() + " is not healthy and takes no tasks", tells: "Worker frozen:",
			isMended: func() { harness.Kill(t, stopped, syscall.SIGCONT) },
		}, {
			name:    "asynchronous handlers block their loop",
			happens: func() { many(200, blocked.ID, "block", map[string]any{"seconds": 2.5}) },
			alert:   "RunqyEventLoopBlocked", labels: instance(blocked), receiver: "someone-today",
			summary:  "The Python process of worker " + blocked.Addr() + " keeps blocking",
			isMended: func() { drop(blocked.ID) },
		}, {
			name: "the Python process crashes again and again",
			happens: func() {
				harness.WriteFile(t, crashes, "")
				harness.Kill(t, q.PythonPID(looping.ID), syscall.SIGKILL)
			},
			alert: "RunqyWorkerCrashLooping", labels: instance(looping), receiver: "someone-today",
			summary: "Worker " + looping.Addr() + " keeps crashing", tells: "times in the last 15 minutes",
			isMended: func() {
				try(os.Remove(crashes))
				q.PythonPID(looping.ID)
			},
		}, {
			name: "a worker is killed", happens: func() { harness.KillWorkers(t, gone) },
			alert: "RunqyWorkerDown", labels: instance(gone), receiver: "someone-today",
			summary: "Worker " + gone.Addr() + " cannot be scraped", tells: "Worker gone:",
			isMended: func() { gone.Start("run", "-c", gone.Config) },
		}, {
			name:    "Redis takes no writes",
			happens: func() { try(full.Client.ConfigSet(t.Context(), "maxmemory", "1").Err()) },
			// It says so itself, which inhibits RunqyHeartbeatStale.
			alert: "RunqyWorkerUnhealthy", labels: instance(silent), receiver: "someone-today",
			summary: "Worker " + silent.Addr() + " is not healthy and takes no tasks", tells: "Worker silent:",
			isMended: func() { try(full.Client.ConfigSet(t.Context(), "maxmemory", "0").Err()) },
		}, {
			name: "another queue takes every slot",
			happens: func() {
				many(15, "greedy", "sleep", map[string]any{"seconds": 10})
				many(1, "starved", "echo", nil)
			},
			alert: "RunqyNoProgress", labels: []string{"queue=starved", "severity=critical"}, receiver: "someone-now",
			summary:  "Queue starved stands still: 1 tasks wait and none runs",
			isMended: func() { drop("greedy") },
		}, {
			name: "a task hangs",
			happens: func() {
				payload := map[string]any{"file": filepath.Join(dir, "runs"), "gate": gate}
				many(1, "hanging", "hold", payload)
				many(1, "hanging", "who", payload)
			},
			alert: "RunqyNoProgress", labels: []string{"queue=hanging", "severity=warning"}, receiver: "someone-today",
			summary:  "No task of queue hanging has ended for an hour, and 1 wait",
			isMended: func() { harness.WriteFile(t, gate, "open") },
		}, {
			name: "a queue is paused and grows",
			happens: func() {
				try(q.Inspector.PauseQueue("backlog"))
				many(30, "backlog", "echo", nil)
			},
			alert: "RunqyQueueBacklog", labels: []string{"queue=backlog"}, receiver: "someone-today",
			summary:  "30 tasks wait in queue backlog",
			isMended: func() { try(q.Inspector.UnpauseQueue("backlog")) },
		}, {
			name: "and its tasks wait", withEffect: true,
			alert: "RunqyQueueLatencyHigh", labels: []string{"queue=backlog"}, receiver: "someone-today",
			summary: "Tasks wait ", tells: "The oldest pending task of queue backlog (job runqy-worker) is",
		}, {
			name: "tasks fail", happens: func() { many(20, "failing", "boom", nil, asynq.MaxRetry(0)) },
			alert: "RunqyTaskFailures", labels: []string{"queue=failing"}, receiver: "someone-today",
			summary:  "100% of the attempts in queue failing fail",
			isMended: func() { many(400, "failing", "echo", nil) },
		}, {
			name: "tasks are slow", happens: func() { many(12, "slow", "sleep", map[string]any{"seconds": 2}) },
			alert: "RunqyTasksSlow", labels: []string{"queue=slow"}, receiver: "someone-today",
			summary: "Tasks of queue slow take ", tells: "longer than",
			isMended: func() {
				drop("slow")
				many(400, "slow", "echo", nil)
			},
		}, {
			name: "nobody checks the fleet", happens: func() { harness.KillWorkers(t, checker) },
			alert: "RunqyFleetUnchecked", receiver: "someone-today",
			summary:  "Nobody checks the fleet of ",
			isMended: func() { checker.Start("fleet", "-c", checker.Config) },
		},
	}

	began := time.Now()
	for _, f := range faults {
		if !f.withEffect {
			f.happens()
		}
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			f.check(t, watch.firing(t, began.Add(alertTimeout), f.alert, f.labels...))
		})
	}
	t.Logf("every fault was told after %v", time.Since(began).Round(time.Second))
	mended := time.Now()
	for _, f := range faults {
		if !f.withEffect {
			f.isMended()
		}
	}
	for _, f := range faults {
		t.Run(f.name+", and is mended", func(t *testing.T) {
			n := watch.resolved(t, mended.Add(alertTimeout), f.alert, f.labels...)
			if n.Receiver != f.receiver {
				t.Errorf("the receiver is %s, want %s", n.Receiver, f.receiver)
			}
		})
	}
	t.Logf("the end of every fault was told after %v", time.Since(mended).Round(time.Second))
}

// check compares a notification with what the fault must cause.
func (f fault) check(t *testing.T, n notification) {
	t.Helper()
	if n.Receiver != f.receiver {
		t.Errorf("the receiver is %s, want %s", n.Receiver, f.receiver)
	}
	if !strings.HasPrefix(n.Annotations["summary"], f.summary) {
		t.Errorf("the summary is %q, want %q", n.Annotations["summary"], f.summary)
	}
	if d := n.Annotations["description"]; d == "" || !strings.Contains(d, f.tells) || strings.Contains(d, "error") {
		t.Errorf("the description is %q, want %q in it", d, f.tells)
	}
	want := "https://github.com/runqy/runqy-worker/blob/main/docs/runbook.md#" + strings.ToLower(f.alert)
	if n.Annotations["runbook_url"] != want {
		t.Errorf("runbook_url is %q, want %q", n.Annotations["runbook_url"], want)
	}
}

// answers waits until an expression has a result, and returns it.
func (s *server) answers(t *testing.T, expr string) []sample {
	t.Helper()
	var found []sample
	harness.Eventually(t, "Prometheus answers "+expr, func() error {
		found = s.query(expr)
		if text := failed(found); text != "" {
			return fmt.Errorf("it says %s", text)
		}
		if len(found) == 0 {
			return fmt.Errorf("nothing yet; up is %v", s.query("up"))
		}
		return nil
	})
	return found
}
