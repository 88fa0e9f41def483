package worker

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// stepsFile is a handler whose first attempt fails; it goes on when the test makes a file.
const stepsFile = `
import os, time
from runqy import Retry, log, progress, run, task

@task("steps")
def steps(payload, ctx):
    def wait(name):
        while not os.path.exists(os.path.join(payload["dir"], name)):
            time.sleep(0.01)
    if ctx.retry_count == 0:
        progress(0.75, "first try")
        wait("fail")
        raise Retry("once more", delay=1)
    wait("begin")
    log.warning("step %d", 1, extra={"epoch": 4, "task_id": "forged"})
    progress(0.25, "epoch 4")
    wait("end")
    progress(1, "all of it")
    return "done"

run()
`

// What a handler reports is shown in Redis and at the terminal of a command that waits while the task runs; what it
// logs is in the worker's log with the task's id.
func TestProgressAndLogs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	dir := t.TempDir()
	script := filepath.Join(dir, "steps.py")
	harness.WriteFile(t, script, stepsFile)
	w := harness.StartWorker(t, server.URL, harness.Settings{"python.command": []string{"python3", script}})
	q.PythonPID(w.ID)

	// Python's pty gives the command a terminal and copies what it writes there.
	terminal := &harness.LogBuffer{}
	cmd := exec.Command("python3", "-c", "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))",
		harness.Program(), "enqueue", harness.QueueName, "steps", fmt.Sprintf(`{"dir": %q}`, dir), "--id", "s1", "--wait", "-c", w.Config)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(harness.Environ(), "TERM=xterm"), terminal, terminal
	cmd.SysProcAttr = harness.DieWithParent()
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the enqueue command: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the command, which is killed at the latest now:
	t.Cleanup(func() { _ = cmd.Process.Kill() })

	view := func(state, progress, message string) {
		t.Helper()
		harness.Eventually(t, "the view shows "+state+" "+progress+" "+message, func() error {
			got := hash(redisCLI(t, server, "HGETALL", "asynq:t:s1"))
			if got["state"] != state || got["progress"] != progress || got["progress_message"] != message {
				return harness.NotYet(w, "%q", got)
			}
			return nil
		})
	}
	shown := func(after string, parts ...string) {
		t.Helper()
		harness.Eventually(t, fmt.Sprintf("the terminal shows %q", parts), func() error {
			_, text, _ := strings.Cut(terminal.String(), after)
			for _, part := range parts {
				if !strings.Contains(text, part) {
					return harness.NotYet(w, "it shows %q", terminal)
				}
			}
			return nil
		})
	}
	view("active", "0.75", "first try")
	shown("", "first try", "75%")
	harness.WriteFile(t, filepath.Join(dir, "fail"), "")
	shown("", "trying again")
	view("active", "", "")
	harness.WriteFile(t, filepath.Join(dir, "begin"), "")
	view("active", "0.25", "epoch 4")
	shown("trying again", "epoch 4", "25%")
	harness.Eventually(t, "the worker's log has the line", func() error {
		line := w.Log.Find("step 1")
		if line == nil {
			return harness.NotYet(w, "not yet")
		}
		fields, _ := line["fields"].(map[string]any)
		if line["level"] != "WARN" || line["task_id"] != "s1" || line["queue"] != harness.QueueName || line["type"] != "steps" ||
			line["logger"] != "runqy" || fields["epoch"] != 4.0 || fields["task_id"] != "forged" {
			return harness.Fatal("it is %v", line)
		}
		return nil
	})
	harness.WriteFile(t, filepath.Join(dir, "end"), "")
	harness.Eventually(t, "the command ends", func() error {
		select {
		case err := <-ended:
			if err != nil {
				return harness.Fatal("%v: %q", err, terminal)
			}
			return nil
		default:
			return harness.NotYet(w, "it shows %q", terminal)
		}
	})
	// The bar is gone, and the last thing that stands there is the result.
	if lines := strings.Split(strings.TrimSpace(terminal.String()), "\r"); strings.TrimSpace(lines[len(lines)-1]) != `"done"` {
		t.Errorf("the terminal ends with %q, want %q", lines[len(lines)-1], `"done"`)
	}
	view("completed", "1", "all of it")
	w.Stop()
}
