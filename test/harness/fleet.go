package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// LeaderKey is the key of the fleet leader's lease.
const LeaderKey = "runqy:fleet:checker"

// Fleet is a Redis with workers whose tasks, those of test/tasks/fleet.py, leave a line in a file where they run.
type Fleet struct {
	*Queue
	Server   *redistest.Server
	RunsFile string // where each run leaves a line
	GateFile string // tasks of type hold wait until it exists
}

// NewFleet starts a Redis for a fleet, which has no workers yet.
func NewFleet(t *testing.T) *Fleet {
	t.Helper()
	return NewFleetOn(t, redistest.Start(t))
}

// NewFleetOn is NewFleet with a Redis that is there already.
func NewFleetOn(t *testing.T, server *redistest.Server) *Fleet {
	t.Helper()
	dir := t.TempDir()
	return &Fleet{
		Queue: NewQueue(t, server.Client), Server: server,
		RunsFile: filepath.Join(dir, "runs"), GateFile: filepath.Join(dir, "gate"),
	}
}

// StartWorker starts one worker of the fleet and returns at once.
func (f *Fleet) StartWorker(id string, set Settings) *Worker {
	f.t.Helper()
	w := f.NewWorker(id, set)
	w.Start("run", "-c", w.Config)
	return w
}

// NewWorker configures a worker of the fleet without starting it: for commands, or to be started later.
func (f *Fleet) NewWorker(id string, set Settings) *Worker {
	f.t.Helper()
	all := Settings{
		"worker.id": id, "python.command": []string{"python3", TaskFile(f.t, "fleet.py")}, "python.env": map[string]any{"WORKER": id},
		"python.startup_timeout": "2m", "fleet.interval": "1s",
	}
	maps.Copy(all, set)
	return NewWorker(f.t, f.Server.URL, all)
}

// StartChecker starts a checker, the program's subcommand fleet, and returns at once.
func (f *Fleet) StartChecker(id string, set Settings) *Worker {
	f.t.Helper()
	w := f.NewWorker(id, set)
	w.Start("fleet", "-c", w.Config)
	return w
}

// AwaitLeader waits until a process is the leader, and returns how long that took.
func (f *Fleet) AwaitLeader(id string) time.Duration {
	f.t.Helper()
	return Eventually(f.t, id+" is the leader", func() error {
		if now := f.Leader(); now != id {
			return fmt.Errorf("it is %q", now)
		}
		return nil
	})
}

// Leader returns the id of the leader, "" if there is none.
func (f *Fleet) Leader() string {
	id, _, _ := strings.Cut(f.Redis.Get(f.t.Context(), LeaderKey).Val(), "|")
	return id
}

// Hold enqueues a task that runs until the gate is opened, and returns its id.
func (f *Fleet) Hold(opts ...asynq.Option) string {
	f.t.Helper()
	return f.Enqueue("hold", f.Payload(), append([]asynq.Option{asynq.Retention(time.Hour)}, opts...)...)
}

// Payload returns what the tasks of test/tasks/fleet.py want.
func (f *Fleet) Payload() map[string]any {
	return map[string]any{"file": f.RunsFile, "gate": f.GateFile}
}

// PayloadText returns Payload as JSON, for a command line.
func (f *Fleet) PayloadText() string {
	text, err := json.Marshal(f.Payload())
	if err != nil {
		f.t.Fatalf("marshal the payload: %v", err)
	}
	return string(text)
}

// OpenGate lets the tasks of type hold end.
func (f *Fleet) OpenGate() { WriteFile(f.t, f.GateFile, "open") }

// Run is one line that a task has left.
type Run struct {
	Event, Task, Worker string // the event is start or end
	At                  time.Time
}

// Runs returns the lines of one event, in order.
func (f *Fleet) Runs(event string) []Run {
	f.t.Helper()
	var out []Run
	for _, line := range ReadLines(f.t, f.RunsFile) {
		parts := strings.Fields(line)
		if len(parts) != 4 || parts[0] != event {
			continue
		}
		at, err := strconv.ParseFloat(parts[3], 64)
		if err != nil {
			f.t.Fatalf("line %q: %v", line, err)
		}
		out = append(out, Run{parts[0], parts[1], parts[2], time.UnixMicro(int64(at * 1e6))})
	}
	return out
}

// Starts returns the runs that have begun, by task.
func (f *Fleet) Starts() map[string][]Run {
	f.t.Helper()
	out := map[string][]Run{}
	for _, r := range f.Runs("start") {
		out[r.Task] = append(out[r.Task], r)
	}
	return out
}

// AwaitStart waits until a task has begun on a worker, and returns that run.
func (f *Fleet) AwaitStart(id, worker string) Run {
	f.t.Helper()
	var found Run
	Eventually(f.t, "task "+id+" runs on "+worker, func() error {
		all := f.Starts()[id]
		i := slices.IndexFunc(all, func(r Run) bool { return r.Worker == worker })
		if i < 0 {
			return fmt.Errorf("it has run so: %v; %s", all, f.Describe(id))
		}
		found = all[i]
		return nil
	})
	return found
}

// Owners returns which worker has which active task, by the stamps in Redis: worker ids by task id.
func (f *Fleet) Owners() map[string]string {
	f.t.Helper()
	ctx := f.t.Context()
	out := map[string]string{}
	ids, err := f.Redis.LRange(ctx, "asynq:{"+QueueName+"}:active", 0, -1).Result()
	if err != nil {
		f.t.Fatalf("list the active tasks: %v", err)
	}
	stamps := make([]*redis.StringCmd, len(ids))
	if _, err := f.Redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			stamps[i] = p.HGet(ctx, taskHash(id), "owner")
		}
		return nil
	}); err != nil && !errors.Is(err, redis.Nil) {
		f.t.Fatalf("read the owners of the active tasks: %v", err)
	}
	for i, id := range ids {
		if worker, _, _ := strings.Cut(stamps[i].Val(), "|"); worker != "" {
			out[id] = worker
		}
	}
	return out
}

// Crashes returns how often the Python process died while a task ran alone in it, as the task's hash says.
func (f *Fleet) Crashes(id string) int { return f.count(id, "crashes") }

// Recoveries returns how often a task lost its worker, as its hash says.
func (f *Fleet) Recoveries(id string) int { return f.count(id, "recoveries") }

func (f *Fleet) count(id, field string) int {
	f.t.Helper()
	n, _ := f.Redis.HGet(f.t.Context(), taskHash(id), field).Int()
	return n
}

// Async returns settings with asynchronous handlers, those of test/tasks/fleet_async.py: a worker then runs as many
// tasks at once as it has slots.
func (f *Fleet) Async(set Settings) Settings {
	f.t.Helper()
	return set.With("python.command", []string{"python3", TaskFile(f.t, "fleet_async.py")})
}

// ListedWorker is a worker as `workers -o json` shows it.
type ListedWorker struct {
	ID, State, Cause, Reason, Status string
	Alive                            bool
}

// ListWorkers returns all workers by their ids, as the command lists them.
func (w *Worker) ListWorkers() map[string]ListedWorker {
	w.t.Helper()
	out := w.Command("workers", "-o", "json")
	var rows []ListedWorker
	if err := json.Unmarshal([]byte(out.Out), &rows); out.Code != 0 || err != nil {
		w.t.Fatalf("workers: %+v, %v", out, err)
	}
	byID := map[string]ListedWorker{}
	for _, r := range rows {
		byID[r.ID] = r
	}
	return byID
}

// AwaitListed waits until the command lists a worker with a state, and a cause, "" if there is none.
func (w *Worker) AwaitListed(id, state, cause string) {
	w.t.Helper()
	Eventually(w.t, fmt.Sprintf("%s is listed as %s %s", id, state, cause), func() error {
		if row := w.ListWorkers()[id]; row.State != state || row.Cause != cause {
			return fmt.Errorf("%+v", row)
		}
		return nil
	})
}

// AwaitRunning waits until each of the workers is healthy and takes tasks.
func (f *Fleet) AwaitRunning(ids ...string) {
	f.t.Helper()
	for _, id := range ids {
		EventuallyWithin(f.t, 2*Timeout, "worker "+id+" runs", func() error {
			if beat := f.Heartbeat(id); beat["status"] != "running" || beat["healthy"] != "true" {
				return fmt.Errorf("the heartbeat is %q", beat)
			}
			return nil
		})
	}
}

// AwaitHeld waits until exactly n tasks are active with an owner, and returns what Owners does.
func (f *Fleet) AwaitHeld(n int) map[string]string {
	f.t.Helper()
	var now map[string]string
	EventuallyWithin(f.t, 2*Timeout, fmt.Sprintf("%d tasks have an owner", n), func() error {
		if now = f.Owners(); len(now) != n {
			return fmt.Errorf("%d have", len(now))
		}
		return nil
	})
	return now
}

// Registered reports whether a worker is in the registry.
func (f *Fleet) Registered(id string) bool {
	f.t.Helper()
	_, err := f.Redis.ZScore(f.t.Context(), "runqy:workers", id).Result()
	return err == nil
}
