package worker

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// hangingChild is a child that hangs as kind says, and the place where it does.
func hangingChild(t *testing.T, kind string) (command []string, where string) {
	t.Helper()
	file, err := filepath.Abs(filepath.Join("..", "children", "hangs.py"))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range harness.ReadLines(t, file) {
		if strings.HasSuffix(line, "# hangs: "+kind) {
			return []string{"python3", file, kind}, fmt.Sprintf("%s:%d in ", file, i+1)
		}
	}
	t.Fatalf("%s has no line for %s", file, kind)
	return nil, ""
}

// Every hang names its line: the stack command says it first.
func TestStackCommand(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{
		"lock", "socket", "subprocess", "queue", "c_with_the_gil", "c_without_the_gil",
		"await", "blocked_loop", "deadlock", "import_lock", "sleep", "load",
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			q := harness.NewQueue(t, server.Client)
			command, where := hangingChild(t, kind)
			w := harness.StartWorker(t, server.URL, harness.Settings{"python.command": command, "python.stop_timeout": "1s"})
			ask := []string{"stack", w.ID}
			if kind != "load" {
				q.PythonPID(w.ID)
				ask = append(ask, q.Enqueue("hang", nil))
			}
			harness.Eventually(t, "it names the line", func() error {
				out := w.Command(ask...)
				if first, _, _ := strings.Cut(out.Out, "\n"); out.Code != 0 || !strings.HasPrefix(first, where) {
					return fmt.Errorf("the command says %+v, want %s first", out, where)
				}
				return nil
			})
		})
	}
}

// The line stands in the error of a task that outlives its time, in the log, and in the reason, but not for everybody.
func TestStackOfAnOverdueTask(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	command, where := hangingChild(t, "socket")
	w := harness.StartWorker(t, server.URL, harness.Settings{"python.command": command, "python.stop_timeout": "1s"})
	q.PythonPID(w.ID)
	task := q.Enqueue("hang", nil, asynq.MaxRetry(0), asynq.Timeout(time.Second))
	info := q.AwaitState(task, asynq.TaskStateArchived)
	if first, rest, _ := strings.Cut(info.LastErr, "\n"); !strings.Contains(first, "at "+where) || !strings.Contains(rest, " in receive\n") {
		t.Errorf("the task's error is %q, want %q in its first line, and the stacks", info.LastErr, where)
	}
	if line := w.Log.Find("python process stacks"); line == nil || !strings.Contains(fmt.Sprint(line), where) {
		t.Errorf("the log has the line %v, want one with %q", line, where)
	}
	w.Stop()
}

// A task that waits for something is marked, and goes on.
func TestIdleTask(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"health.task_idle_warning": "1s"})
	q.PythonPID(w.ID)
	w.AwaitMetric("runqy_worker_idle_tasks", "0")
	task := q.Enqueue("sleep", map[string]any{"seconds": 5})
	w.AwaitMetric("runqy_worker_idle_tasks", "1")
	harness.Eventually(t, "the log says so", func() error {
		if line := w.Log.Find("task idle"); line == nil || !strings.Contains(fmt.Sprint(line), task) {
			return fmt.Errorf("it has the line %v", line)
		}
		return nil
	})
	if got := q.Result(task); got != `"slept"` {
		t.Errorf("result %s, want %s", got, `"slept"`)
	}
	w.AwaitMetric("runqy_worker_idle_tasks", "0")
	w.AwaitAnswer("/health", 200, harness.HealthyBody)
	w.Stop()
}
