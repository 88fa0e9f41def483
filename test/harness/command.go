package harness

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Environ returns this process' environment without what would configure a worker.
func Environ() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "RUNQY_") && !strings.HasPrefix(e, "ENVIRONMENT=") && !strings.HasPrefix(e, "NOTIFY_SOCKET=") {
			env = append(env, e)
		}
	}
	return append(env, "GORACE=atexit_sleep_ms=0") // else a program built with -race lingers for a second
}

// Command runs the program to its end with another subcommand and this worker's configuration.
func (w *Worker) Command(args ...string) Outcome {
	w.t.Helper()
	return Execute(w.t, append(Environ(), w.ExtraEnv...), Program(), append(args, "-c", w.Config)...)
}

// Outcome is how a command ended: its exit code, -1 after a signal, and what it wrote.
type Outcome struct {
	Code        int
	Out, ErrOut string
	Took        time.Duration
}

// Execute runs any command to its end, or kills it after twice Timeout.
func Execute(t *testing.T, env []string, name string, args ...string) Outcome {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &errOut, env
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	kill := time.AfterFunc(2*Timeout, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return Outcome{Code: cmd.ProcessState.ExitCode(), Out: out.String(), ErrOut: errOut.String(), Took: time.Since(began)}
}
