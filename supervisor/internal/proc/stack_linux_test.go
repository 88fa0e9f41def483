package proc

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A process that does not catch the signal, or catches it for itself, does not get it: it would die, or do what it does
// for others.
func TestSignalStacksSparesOthers(t *testing.T) {
	t.Parallel()
	for what, script := range map[string]string{
		"catches nothing":    "echo; read x",
		"catches it for own": "trap 'exit 9' 50; echo; read x",
	} {
		p, err := Start(Command{Argv: []string{"bash", "-c", script}, Env: []string{"PATH=" + os.Getenv("PATH")}, StackSignal: 50}, nil)
		if err != nil {
			t.Fatalf("start bash: %v", err)
		}
		t.Cleanup(p.Close)
		if _, err := p.Stdout.Read(make([]byte, 1)); err != nil {
			t.Errorf("%s: read its stdout: %v", what, err)
		}
		if _, err := p.SignalStacks(p.PID); !errors.Is(err, ErrNoStacks) {
			t.Errorf("%s: the signal was sent (%v), want %v", what, err, ErrNoStacks)
		}
		p.Stdin.Close()
		await(t, "the end", p.Reaped())
		if got := p.Exit(); got.Text != "exit status 1" {
			t.Errorf("%s: it ended with %q, want that of a read at the end of its stdin", what, got.Text)
		}
	}
}

// The SDK's handler is found below a wrapper too, and all that it writes arrives.
func TestSignalStacks(t *testing.T) {
	t.Parallel()
	const program = `import faulthandler, os, sys, time
fd = int(os.environ["RUNQY_STACK_FD"])
faulthandler.register(int(os.environ["RUNQY_STACK_SIGNAL"]), file=fd)
os.set_inheritable(fd, False)
print(flush=True)
sys.stdin.read()`
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed")
	}
	p, err := Start(Command{
		Argv: []string{"sh", "-c", "python3 -c '" + program + "'; exit 3"}, Env: os.Environ(), StackSignal: 50,
	}, nil)
	if err != nil {
		t.Fatalf("start sh: %v", err)
	}
	t.Cleanup(p.Close)
	if _, err := p.Stdout.Read(make([]byte, 1)); err != nil {
		t.Fatalf("read its stdout: %v", err)
	}
	writing, err := p.SignalStacks(p.PID)
	if err != nil {
		t.Fatalf("send the signal: %v", err)
	}
	var text string
	for buffer := make([]byte, 4096); !strings.HasSuffix(text, " in <module>\n"); {
		p.Stacks.SetReadDeadline(time.Now().Add(testTimeout)) //nolint:errcheck // a pipe has deadlines
		n, err := p.Stacks.Read(buffer)
		if text += string(buffer[:n]); err != nil {
			t.Fatalf("read the stacks: %v, after %q", err, text)
		}
	}
	eventually(t, "it writes no more", func() bool { return !writing() })
	p.Stdin.Close()
	await(t, "the end", p.Reaped())
	if got := p.Exit(); got.Text != "exit status 3" {
		t.Errorf("it ended with %q, want that of the wrapper", got.Text)
	}
	if _, err := p.SignalStacks(p.PID); !errors.Is(err, ErrNoStacks) {
		t.Errorf("after its end: %v, want %v", err, ErrNoStacks)
	}
}

func TestKernelState(t *testing.T) {
	t.Parallel()
	text, ok := KernelState(os.Getpid())
	if !ok || !strings.HasPrefix(text, "process ") || !strings.Contains(text, "\n  thread ") {
		t.Errorf("of this process the kernel says %q, want its state and its threads", text)
	}
	if text, ok := KernelState(1 << 30); ok {
		t.Errorf("of a process that is not there: %q, want nothing", text)
	}
}
