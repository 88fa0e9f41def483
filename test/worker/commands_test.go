package worker

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

func TestEnqueueCommand(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	q.PythonPID(w.ID)

	// Standard output is the result and nothing else; an older one under the same id is not taken for it.
	server.Client.Set(t.Context(), "asynq:result:mine", `"old"`, time.Hour)
	out := w.Command("enqueue", harness.QueueName, "echo", `{"n": [1, null, "ä"]}`, "--wait", "--id", "mine")
	if out.Code != 0 || out.Out != `{"n":[1,null,"ä"]}`+"\n" {
		t.Errorf("enqueue --wait: %+v, want exit code 0", out)
	}
	out = w.Command("enqueue", harness.QueueName, "boom", `{"text": "from a test"}`, "--wait", "--max-retry", "0")
	if out.Code != 1 || out.Out != "" || !strings.Contains(out.ErrOut, "boom: from a test") {
		t.Errorf("enqueue --wait of what fails: %+v, want exit code 1, \"boom: from a test\" on stderr and nothing on stdout", out)
	}
	out = w.Command("enqueue", harness.QueueName, "later", `{"delay": 1}`, "--wait", "--max-retry", "2")
	if out.Code != 0 || out.Out != "\"now\"\n" || !strings.Contains(out.ErrOut, "trying again") {
		t.Errorf("enqueue --wait of what is retried: %+v, want exit code 0 and \"trying again\" on stderr", out)
	}
	out = w.Command("enqueue", harness.QueueName, "echo", `5`, "-o", "json", "--id", "five", "--retention", "1h")
	if out.Code != 0 || !json.Valid([]byte(out.Out)) || !strings.Contains(out.Out, `"five"`) {
		t.Errorf("enqueue -o json: %+v, want exit code 0 and \"five\" on stdout", out)
	}
	q.AwaitState("five", asynq.TaskStateCompleted)
	if out = w.Command("enqueue", harness.QueueName, "echo", `{broken`); out.Code != 2 {
		t.Errorf("enqueue of what is not JSON: %+v, want exit code 2", out)
	}

	// A file of tasks: they run in the order of the lines, and a bad line is named.
	file := filepath.Join(t.TempDir(), "tasks.ndjson")
	ran := filepath.Join(t.TempDir(), "ran")
	var lines strings.Builder
	for n := range 300 {
		fmt.Fprintf(&lines, `{"payload": {"file": %q, "n": %d}, "type": "note", "id": "line-%d"}`+"\n", ran, n, n)
	}
	lines.WriteString("{\"payload\": \n")
	harness.WriteFile(t, file, lines.String())
	out = w.Command("enqueue", harness.QueueName, "--from-file", file)
	if out.Code != 1 || !strings.Contains(out.Out, "300 tasks enqueued, 1 bad") || !strings.Contains(out.ErrOut, "line 301") {
		t.Errorf("enqueue --from-file: %+v, want exit code 1, \"300 tasks enqueued, 1 bad\" on stdout and \"line 301\" on stderr", out)
	}
	if got := q.Result("line-299"); got != "299" {
		t.Errorf("the last line has the result %s, want %s", got, "299")
	}
	q.AwaitEmpty()
	got := harness.ReadLines(t, ran)
	for n := range got {
		if want := fmt.Sprintf("line-%d 0", n); got[n] != want {
			t.Fatalf("run %d was %q, want %q", n, got[n], want)
		}
	}
	if len(got) != 300 {
		t.Errorf("%d tasks of the file ran", len(got))
	}
	w.Stop()
}

func TestWorkersCommand(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, nil)
	second := harness.StartWorker(t, server.URL, harness.Settings{"worker.id": "worker-second", "python.command": []string{"false"}})
	q.PythonPID(w.ID)
	q.AwaitHeartbeat(second.ID, "status=degraded")
	type row struct {
		ID         string
		Alive      bool
		Healthy    bool
		Status     string
		ActiveTask string `json:"active_task"`
		Queues     []string
		Started    time.Time
		PID        int
	}
	list := func() map[string]row {
		t.Helper()
		out := w.Command("workers", "-o", "json")
		var rows []row
		if err := json.Unmarshal([]byte(out.Out), &rows); err != nil || out.Code != 0 {
			t.Fatalf("workers -o json: %+v: %v", out, err)
		}
		byID := map[string]row{}
		for _, r := range rows {
			byID[r.ID] = r
		}
		return byID
	}
	rows := list()
	if r := rows[w.ID]; len(rows) != 2 || !r.Alive || !r.Healthy || r.Status != "running" || r.PID != w.PID() || r.Queues[0] != harness.QueueName || r.Started.IsZero() {
		t.Errorf("workers: %+v", rows)
	}
	if r := rows[second.ID]; !r.Alive || r.Healthy || r.Status != "degraded" {
		t.Errorf("workers: %+v", rows)
	}
	out := w.Command("workers")
	if !regexp.MustCompile(`(?m)^worker-abc123 +.*running`).MatchString(out.Out) || strings.Contains(out.Out, "\x1b") {
		t.Errorf("workers: %+v", out)
	}
	// One that is killed stays listed as gone; one that stops leaves.
	harness.Kill(t, second.PID(), syscall.SIGKILL)
	harness.Eventually(t, "the killed worker is gone", func() error {
		if r := list()[second.ID]; r.Alive || r.Status != "gone" {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	w.Stop()
	if _, listed := list()[w.ID]; listed {
		t.Error("the stopped worker is still listed")
	}
}

func TestWrongConfiguration(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "worker.yaml")
	harness.WriteFile(t, file, "worker:\n  concurency: 2\n  queues: [t]\npython:\n  on_crash: explode\n")
	for _, command := range []string{"run", "check-config", "workers"} {
		out := harness.Execute(t, harness.Environ(), harness.Program(), command, "-c", file)
		if out.Code != 2 {
			t.Errorf("%s: exit code %d, want 2", command, out.Code)
		}
		// All faults at once, each with its line, its key and a way out.
		for _, part := range []string{"concurency", "2", "queues", "3", "on_crash", "explode", "5", "degrade"} {
			if !strings.Contains(out.Out+out.ErrOut, part) {
				t.Errorf("%s does not say %q: %s", command, part, out.ErrOut)
			}
		}
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	out := harness.Execute(t, harness.Environ(), harness.Program(), "demo", "--tasks", "50", "--exit-when-done", "--listen", "127.0.0.1:0")
	if out.Code != 0 {
		t.Errorf("demo: %+v, want exit code 0", out)
	}
	t.Logf("demo of 50 tasks took %v", out.Took)
}
