package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/runqy/runqy-worker/internal/redistest"
)

const (
	// patience bounds every wait. It is no statement about speed: a loaded machine is no reason to fail.
	patience = 60 * time.Second
	pollTick = 15 * time.Millisecond
)

// queueName is the queue of every test; each test has a Redis of its own.
const queueName = "inference_default"

// settings are configuration keys with dots, as in docs, and their values.
type settings map[string]any

// workerProcess is one run of the real program.
type workerProcess struct {
	t      *testing.T
	ID     string
	Config string // path of the configuration file
	Dir    string // a short directory of this worker's own
	Log    *logBuffer

	extraEnv []string // for the worker and the commands that are run for it
	within   []string // what the worker is run by: on a host of its own

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has been waited for
}

// startWorker runs the program with the sync handlers, unless set says otherwise, and returns at once. It is killed
// when the test ends.
func startWorker(t *testing.T, redisURL string, set settings) *workerProcess {
	t.Helper()
	w := newWorker(t, redisURL, set)
	w.start("run", "-c", w.Config)
	return w
}

// newWorker writes a worker's configuration without starting it.
func newWorker(t *testing.T, redisURL string, set settings) *workerProcess {
	t.Helper()
	// Not t.TempDir: the path of a unix socket must stay short.
	dir, err := os.MkdirTemp("", "rw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	all := settings{
		"redis.url":      redisURL,
		"worker.id":      "worker-abc123",
		"worker.queues":  []string{queueName},
		"python.command": []string{"python3", taskFile(t, "sync.py")},
		"python.dir":     dir,
		"health.listen":  "127.0.0.1:0",
		"health.socket":  filepath.Join(dir, "s"),
		// As slow as the defaults would be, nothing would show for seconds.
		"heartbeat.interval":  "1s",
		"heartbeat.ttl":       "3s",
		"python.stop_timeout": "5s",
	}
	maps.Copy(all, set)
	w := &workerProcess{t: t, ID: all["worker.id"].(string), Config: filepath.Join(dir, "worker.yaml"), Dir: dir, Log: &logBuffer{}}
	writeConfig(t, w.Config, all)
	return w
}

// taskFile is the absolute path of a file in test/tasks.
func taskFile(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("tasks", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func writeConfig(t *testing.T, path string, set settings) {
	t.Helper()
	tree := map[string]any{}
	for key, value := range set {
		parts := strings.Split(key, ".")
		at := tree
		for _, p := range parts[:len(parts)-1] {
			if at[p] == nil {
				at[p] = map[string]any{}
			}
			at = at[p].(map[string]any)
		}
		at[parts[len(parts)-1]] = value
	}
	text, err := yaml.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// environ is this process' environment without what would configure a worker.
func environ() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "RUNQY_") && !strings.HasPrefix(e, "ENVIRONMENT=") && !strings.HasPrefix(e, "NOTIFY_SOCKET=") {
			env = append(env, e)
		}
	}
	return append(env, "GORACE=atexit_sleep_ms=0") // else a program built with -race lingers for a second
}

func (w *workerProcess) start(args ...string) {
	w.t.Helper()
	argv := slices.Concat(w.within, []string{binary, "--log-format", "json"}, args)
	w.cmd = exec.Command(argv[0], argv[1:]...)
	w.cmd.Env = append(environ(), w.extraEnv...)
	w.cmd.Stdout, w.cmd.Stderr = w.Log, w.Log
	w.cmd.SysProcAttr = dieWithParent()
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
		w.t.Fatal(err)
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

// PID is the worker's own.
func (w *workerProcess) PID() int { return w.cmd.Process.Pid }

func (w *workerProcess) Signal(s syscall.Signal) {
	w.t.Helper()
	if err := w.cmd.Process.Signal(s); err != nil {
		w.t.Fatalf("signal %v: %v", s, err)
	}
}

// WaitExit waits for the end of the process and returns its exit code, -1 after a signal.
func (w *workerProcess) WaitExit() int {
	w.t.Helper()
	select {
	case <-w.done:
		return w.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		w.t.Fatalf("the worker still runs after %v", patience)
		return 0
	}
}

// Stop ends the worker with SIGTERM; it must end with 0.
func (w *workerProcess) Stop() {
	w.t.Helper()
	w.Signal(syscall.SIGTERM)
	if code := w.WaitExit(); code != 0 {
		w.t.Fatalf("exit code %d after SIGTERM, want 0", code)
	}
}

// Addr is the bound address of the HTTP server, as the worker tells it.
func (w *workerProcess) Addr() string {
	w.t.Helper()
	var addr string
	eventually(w.t, "the worker tells its address", func() error {
		line := w.Log.find("http server listening")
		if line == nil {
			select {
			case <-w.done:
				return fatal("the worker has ended with %d:\n%s", w.cmd.ProcessState.ExitCode(), w.Log)
			default:
			}
			return errors.New("not yet")
		}
		addr, _ = line["address"].(string)
		return nil
	})
	return addr
}

// command runs the program to its end with another subcommand and this worker's configuration.
func (w *workerProcess) command(args ...string) outcome {
	w.t.Helper()
	return execute(w.t, append(environ(), w.extraEnv...), binary, append(args, "-c", w.Config)...)
}

// outcome is how a command ended.
type outcome struct {
	Code        int
	Out, ErrOut string
	Took        time.Duration
}

// execute runs any command to its end, or kills it after twice our patience.
func execute(t *testing.T, env []string, name string, args ...string) outcome {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &errOut, env
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(2*patience, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return outcome{Code: cmd.ProcessState.ExitCode(), Out: out.String(), ErrOut: errOut.String(), Took: time.Since(began)}
}

// logBuffer keeps what a process writes.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// find returns the newest log line whose message contains text, nil when there is none.
func (b *logBuffer) find(text string) map[string]any {
	lines := strings.Split(b.String(), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		var line map[string]any
		if json.Unmarshal([]byte(lines[i]), &line) != nil {
			continue
		}
		if msg, _ := line["msg"].(string); strings.Contains(msg, text) {
			return line
		}
	}
	return nil
}

// fatalError ends a wait at once.
type fatalError struct{ error }

func fatal(format string, args ...any) error { return fatalError{fmt.Errorf(format, args...)} }

// eventually waits until check returns nil and tells how long that took; it fails the test when patience is over.
func eventually(t *testing.T, what string, check func() error) time.Duration {
	t.Helper()
	return within(t, patience, what, check)
}

func within(t *testing.T, limit time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		err := check()
		took := time.Since(began)
		var final fatalError
		switch {
		case err == nil:
			return took
		case errors.As(err, &final):
			t.Fatalf("%s: %v", what, err)
		case took > limit:
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(pollTick)
	}
}

func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	return strconv.Itoa(redistest.FreePort(t))
}
