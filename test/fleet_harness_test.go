package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// roleKey holds who is the fleet's checker.
const roleKey = "runqy:fleet:checker"

// fleetTest is a Redis with workers whose tasks say where they run.
type fleetTest struct {
	*queueUser
	server *redistest.Server
	file   string // where each run leaves a line
	gate   string // tasks of type hold wait until it exists
}

func newFleetTest(t *testing.T) *fleetTest {
	t.Helper()
	server := redistest.Start(t)
	dir := t.TempDir()
	return &fleetTest{
		queueUser: newQueueUser(t, server.Client), server: server,
		file: filepath.Join(dir, "runs"), gate: filepath.Join(dir, "gate"),
	}
}

// worker starts one worker of the fleet and returns at once.
func (f *fleetTest) worker(id string, set settings) *workerProcess {
	f.t.Helper()
	w := f.idle(id, set)
	w.start("run", "-c", w.Config)
	return w
}

// idle is a worker that is only configured: for commands, and to be started later.
func (f *fleetTest) idle(id string, set settings) *workerProcess {
	f.t.Helper()
	all := settings{
		"worker.id": id, "python.command": []string{"python3", taskFile(f.t, "fleet.py")}, "python.env": map[string]any{"WORKER": id},
		"python.startup_timeout": "2m", "fleet.interval": "1s",
	}
	maps.Copy(all, set)
	return newWorker(f.t, f.server.URL, all)
}

// checker starts the checker on its own.
func (f *fleetTest) checker(id string, set settings) *workerProcess {
	f.t.Helper()
	w := f.idle(id, set)
	w.start("fleet", "-c", w.Config)
	return w
}

// holds until a process has the role of the checker.
func (f *fleetTest) leads(id string) time.Duration {
	f.t.Helper()
	return eventually(f.t, id+" is the checker", func() error {
		if now := f.holder(); now != id {
			return fmt.Errorf("it is %q", now)
		}
		return nil
	})
}

// holder is the id of the checker, or nothing.
func (f *fleetTest) holder() string {
	id, _, _ := strings.Cut(f.redis.Get(f.t.Context(), roleKey).Val(), "|")
	return id
}

// hold enqueues a task that runs until the gate is opened.
func (f *fleetTest) hold(opts ...asynq.Option) string {
	f.t.Helper()
	return f.enqueue("hold", f.payload(), append([]asynq.Option{asynq.Retention(time.Hour)}, opts...)...)
}

// payload is what the tasks in tasks/fleet.py want.
func (f *fleetTest) payload() map[string]any { return map[string]any{"file": f.file, "gate": f.gate} }

// payloadText is payload for a command line.
func (f *fleetTest) payloadText() string {
	text, err := json.Marshal(f.payload())
	if err != nil {
		f.t.Fatal(err)
	}
	return string(text)
}

// open lets the tasks of type hold end.
func (f *fleetTest) open() { writeText(f.t, f.gate, "open") }

// taskRun is one line that a task has left.
type taskRun struct {
	Word, Task, Worker string
	At                 time.Time
}

// runs are the lines that begin with a word, in order.
func (f *fleetTest) runs(word string) []taskRun {
	f.t.Helper()
	var out []taskRun
	for _, line := range readLines(f.t, f.file) {
		parts := strings.Fields(line)
		if len(parts) != 4 || parts[0] != word {
			continue
		}
		at, err := strconv.ParseFloat(parts[3], 64)
		if err != nil {
			f.t.Fatalf("line %q: %v", line, err)
		}
		out = append(out, taskRun{parts[0], parts[1], parts[2], time.UnixMicro(int64(at * 1e6))})
	}
	return out
}

// starts are the runs that have begun, by task.
func (f *fleetTest) starts() map[string][]taskRun {
	f.t.Helper()
	out := map[string][]taskRun{}
	for _, r := range f.runs("start") {
		out[r.Task] = append(out[r.Task], r)
	}
	return out
}

// startedOn waits until a task has begun on a worker.
func (f *fleetTest) startedOn(id, worker string) taskRun {
	f.t.Helper()
	var found taskRun
	eventually(f.t, "task "+id+" runs on "+worker, func() error {
		all := f.starts()[id]
		i := slices.IndexFunc(all, func(r taskRun) bool { return r.Worker == worker })
		if i < 0 {
			return fmt.Errorf("it has run so: %v; %s", all, f.describe(id))
		}
		found = all[i]
		return nil
	})
	return found
}

// owners tells which worker holds which active task, by the stamps in Redis.
func (f *fleetTest) owners() map[string]string {
	f.t.Helper()
	ctx := f.t.Context()
	prefix := "asynq:{" + queueName + "}:"
	out := map[string]string{}
	ids, err := f.redis.LRange(ctx, prefix+"active", 0, -1).Result()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, id := range ids {
		if worker, _, _ := strings.Cut(f.redis.HGet(ctx, prefix+"t:"+id, "owner").Val(), "|"); worker != "" {
			out[id] = worker
		}
	}
	return out
}

// crashes is how often a task lost its worker, as its hash says.
func (f *fleetTest) crashes(id string) int {
	f.t.Helper()
	n, _ := f.redis.HGet(f.t.Context(), "asynq:{"+queueName+"}:t:"+id, "crashes").Int()
	return n
}

// dies kills workers at once, with nothing said, and waits for the ends of their processes.
func dies(t *testing.T, workers ...*workerProcess) time.Time {
	t.Helper()
	at := time.Now()
	for _, w := range workers {
		kill(t, w.PID(), syscall.SIGKILL)
	}
	for _, w := range workers {
		w.WaitExit()
	}
	return at
}

// listed is a worker as `workers -o json` shows it.
type listed struct {
	ID, State, Cause, Reason, Status string
	Alive                            bool
}

// workers runs the command that lists them all.
func (w *workerProcess) workers() map[string]listed {
	w.t.Helper()
	out := w.command("workers", "-o", "json")
	var rows []listed
	if err := json.Unmarshal([]byte(out.Out), &rows); out.Code != 0 || err != nil {
		w.t.Fatalf("workers: %+v, %v", out, err)
	}
	byID := map[string]listed{}
	for _, r := range rows {
		byID[r.ID] = r
	}
	return byID
}

// isListed waits until the command shows a worker in a state, with a cause if there is one.
func (w *workerProcess) isListed(id, state, cause string) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("%s is listed as %s %s", id, state, cause), func() error {
		if row := w.workers()[id]; row.State != state || row.Cause != cause {
			return fmt.Errorf("%+v", row)
		}
		return nil
	})
}

// samples reads /metrics once: the values by the sample's name with its labels. It is nil while nobody answers.
func samples(t *testing.T, address string) map[string]float64 {
	t.Helper()
	code, body := get(t, "http://"+address+"/metrics")
	if code != 200 {
		return nil
	}
	out := map[string]float64{}
	for line := range strings.Lines(body) {
		if i := strings.LastIndexByte(strings.TrimSpace(line), ' '); i > 0 && line[0] != '#' {
			if v, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64); err == nil {
				out[line[:i]] = v
			}
		}
	}
	return out
}

// sumOf adds up every sample of one name.
func sumOf(all map[string]float64, name string) float64 {
	sum := 0.0
	for sample, v := range all {
		if strings.HasPrefix(sample, name+"{") {
			sum += v
		}
	}
	return sum
}

// joined waits until so many workers beat and take tasks.
func (f *fleetTest) joined(ids ...string) {
	f.t.Helper()
	for _, id := range ids {
		within(f.t, 2*patience, "worker "+id+" runs", func() error {
			if beat := f.beat(id); beat["status"] != "running" || beat["healthy"] != "true" {
				return fmt.Errorf("the heartbeat is %q", beat)
			}
			return nil
		})
	}
}

// held waits until so many tasks are in the hands of workers.
func (f *fleetTest) held(n int) map[string]string {
	f.t.Helper()
	var now map[string]string
	within(f.t, 2*patience, fmt.Sprintf("%d tasks are held", n), func() error {
		if now = f.owners(); len(now) != n {
			return fmt.Errorf("%d are", len(now))
		}
		return nil
	})
	return now
}

// findWith returns a log line with that message and that value of a field, nil when there is none.
func (b *logBuffer) findWith(text, field, value string) map[string]any {
	for line := range strings.Lines(b.String()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) != nil {
			continue
		}
		if msg, _ := fields["msg"].(string); strings.Contains(msg, text) && fields[field] == value {
			return fields
		}
	}
	return nil
}

const (
	stop           = syscall.SIGSTOP
	goOn           = syscall.SIGCONT
	asynqCompleted = asynq.TaskStateCompleted
)

// signalAll sends a signal to a worker and to everything that it has started.
func signalAll(t *testing.T, w *workerProcess, s syscall.Signal) {
	t.Helper()
	for _, pid := range familyOf(t, w.PID()) {
		kill(t, pid, s)
	}
}

// familyOf is a process and all its descendants.
func familyOf(t *testing.T, pid int) []int {
	t.Helper()
	family := []int{pid}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range tasks {
		text, _ := os.ReadFile(path) // a thread may have ended
		for _, child := range strings.Fields(string(text)) {
			n, err := strconv.Atoi(child)
			if err != nil {
				t.Fatal(err)
			}
			family = append(family, familyOf(t, n)...)
		}
	}
	return family
}

// listedInRedis tells whether a worker is in the registry.
func (f *fleetTest) listedInRedis(id string) bool {
	f.t.Helper()
	_, err := f.redis.ZScore(f.t.Context(), "runqy:workers", id).Result()
	return err == nil
}

// about picks the samples whose names contain a word.
func about(all map[string]float64, word string) map[string]float64 {
	out := map[string]float64{}
	for sample, v := range all {
		if strings.Contains(sample, word) {
			out[sample] = v
		}
	}
	return out
}
