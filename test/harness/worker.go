package harness

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// QueueName is the queue of every test; each test has a Redis of its own.
const QueueName = "inference_default"

// Worker is a run of the real program, with a configuration file of its own. Its methods belong to the goroutine of its
// test, which they fail.
type Worker struct {
	ID     string
	Config string     // path of the configuration file
	Dir    string     // a folder of this worker's own, with a path short enough for a unix socket in it
	Log    *LogBuffer // what the program writes, over all its runs

	ExtraEnv []string // for the worker and the commands that are run for it
	Binary   string   // the program; "": the one under test
	RunBy    []string // the command that runs the worker, as "ip netns exec NAME" does; nil: it is run directly
	Output   *os.File // gets what the program writes, in place of Log; nil: Log does

	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has been waited for
}

// StartWorker runs the program with the sync handlers, unless set says otherwise, and returns at once. It is killed
// when the test ends.
func StartWorker(t *testing.T, redisURL string, set Settings) *Worker {
	t.Helper()
	w := NewWorker(t, redisURL, set)
	w.Start("run", "-c", w.Config)
	return w
}

// NewWorker writes a worker's configuration without starting it.
func NewWorker(t *testing.T, redisURL string, set Settings) *Worker {
	t.Helper()
	// Not t.TempDir: the path of a unix socket must stay short.
	dir, err := os.MkdirTemp("", "rw")
	if err != nil {
		t.Fatalf("make the worker's folder: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	all := Settings{
		"redis.url":      redisURL,
		"worker.id":      "worker-abc123",
		"worker.queues":  []string{QueueName},
		"python.command": []string{"python3", TaskFile(t, "sync.py")},
		"python.dir":     dir,
		"health.listen":  "127.0.0.1:0",
		"health.socket":  filepath.Join(dir, "s"),
		// As slow as the defaults would be, nothing would show for seconds.
		"heartbeat.interval":  "1s",
		"heartbeat.ttl":       "3s",
		"python.stop_timeout": "5s",
	}
	maps.Copy(all, set)
	w := &Worker{t: t, ID: all["worker.id"].(string), Config: filepath.Join(dir, "worker.yaml"), Dir: dir, Log: &LogBuffer{}}
	WriteConfig(t, w.Config, all)
	return w
}

// Start runs the program with a subcommand and its flags, and returns at once. It is killed when the test ends, which
// fails if it has reported a data race.
func (w *Worker) Start(args ...string) {
	w.t.Helper()
	binary := w.Binary
	if binary == "" {
		binary = Program()
	}
	argv := slices.Concat(w.RunBy, []string{binary, "--log-format", "json"}, args)
	w.cmd = exec.Command(argv[0], argv[1:]...)
	w.cmd.Env = append(Environ(), w.ExtraEnv...)
	w.cmd.Stdout, w.cmd.Stderr = w.Log, w.Log
	if w.Output != nil {
		w.cmd.Stdout, w.cmd.Stderr = w.Output, w.Output
	}
	w.cmd.SysProcAttr = DieWithParent()
	w.cmd.WaitDelay = 5 * time.Second
	w.done = make(chan struct{})
	started := make(chan error, 1)
	cmd, done := w.cmd, w.done
	go func() { // ends with the process; the cleanup waits for it
		// The death signal is tied to the thread that starts the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(done)
	}()
	if err := <-started; err != nil {
		w.t.Fatalf("start worker %s: %v", w.ID, err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		if text := w.Log.String(); strings.Contains(text, "DATA RACE") {
			w.t.Errorf("the worker has a data race:\n%s", text)
		} else if w.t.Failed() {
			w.t.Logf("log of %s:\n%s", w.ID, text)
		}
	})
}

// PID returns the worker's process id.
func (w *Worker) PID() int { return w.cmd.Process.Pid }

// TrySignal sends a signal to the worker's process, or reports why it cannot, os.ErrProcessDone above all.
func (w *Worker) TrySignal(s syscall.Signal) error { return w.cmd.Process.Signal(s) }

// Signal sends a signal to the worker's process, which must run.
func (w *Worker) Signal(s syscall.Signal) {
	w.t.Helper()
	if err := w.TrySignal(s); err != nil {
		w.t.Fatalf("signal %v to worker %s: %v", s, w.ID, err)
	}
}

// Freeze stops the worker's process with SIGSTOP, and returns when none of its threads runs any more.
func (w *Worker) Freeze() {
	w.t.Helper()
	w.Signal(syscall.SIGSTOP)
	Eventually(w.t, "worker "+w.ID+" is stopped", func() error {
		states, err := threadStates(w.PID())
		if strings.Trim(states, "T") != "" || err != nil {
			return fmt.Errorf("the states of its threads are %s (%w)", states, err)
		}
		return nil
	})
}

// Thaw ends Freeze.
func (w *Worker) Thaw() {
	w.t.Helper()
	w.Signal(syscall.SIGCONT)
}

// WaitExit waits for the end of the process and returns its exit code, -1 after a signal.
func (w *Worker) WaitExit() int {
	w.t.Helper()
	select {
	case <-w.done:
		return w.cmd.ProcessState.ExitCode()
	case <-time.After(Timeout):
		w.t.Fatalf("worker %s still runs after %v", w.ID, Timeout)
		return 0
	}
}

// Ended reports whether the process is over.
func (w *Worker) Ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// Stop ends the worker with SIGTERM; it must end with 0.
func (w *Worker) Stop() {
	w.t.Helper()
	w.Signal(syscall.SIGTERM)
	if code := w.WaitExit(); code != 0 {
		w.t.Fatalf("worker %s ended with %d after SIGTERM, want 0", w.ID, code)
	}
}

// Addr waits until the worker has logged the address of its HTTP server, and returns it.
func (w *Worker) Addr() string {
	w.t.Helper()
	var addr string
	Eventually(w.t, "the worker logs its address", func() error {
		line := w.Log.Find("http server listening")
		if line == nil {
			if w.Ended() {
				return Fatal("the worker has ended with %d:\n%s", w.cmd.ProcessState.ExitCode(), w.Log)
			}
			return errors.New("not yet")
		}
		addr, _ = line["address"].(string)
		return nil
	})
	return addr
}
