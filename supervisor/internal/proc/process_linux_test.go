package proc

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// testTimeout bounds every wait in these tests; no test passes by waiting it out.
const testTimeout = 2 * time.Minute

// TestMain lets the test binary be the guardian too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "guardian" {
		if err := RunGuardian(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testTimeout); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", testTimeout, what)
		}
	}
}

// startShell starts a shell script and returns its stdout.
func startShell(t *testing.T, script string) (*Process, *bufio.Reader) {
	t.Helper()
	p, err := Start(Command{Argv: []string{"sh", "-c", script}, Env: []string{"PATH=" + os.Getenv("PATH")}}, nil)
	if err != nil {
		t.Fatalf("start sh: %v", err)
	}
	t.Cleanup(func() {
		p.Kill()
		await(t, "the end", p.Reaped())
		p.Close()
	})
	return p, bufio.NewReader(p.Stdout)
}

func await(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(testTimeout):
		t.Fatalf("not within %v: %s", testTimeout, what)
	}
}

func TestExit(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]Exit{
		"exit 3":         {Exited, "exit status 3"},
		"kill -SEGV $$":  {Signaled, "killed by SIGSEGV (segmentation fault)"},
		"echo; read x":   {Exited, "exit status 0"},
		"echo; sleep 1h": {Signaled, "killed by SIGTERM (terminated)"},
		"kill -KILL $$":  {Signaled, "killed by SIGKILL, not sent by the worker"},
	} {
		p, out := startShell(t, script)
		if strings.HasPrefix(script, "echo") {
			if _, err := out.ReadString('\n'); err != nil {
				t.Errorf("%s: read its stdout: %v", script, err)
			}
			if strings.HasSuffix(script, "1h") {
				p.Terminate()
			} else if _, err := io.WriteString(p.Stdin, "x\n"); err != nil {
				t.Errorf("%s: write to its stdin: %v", script, err)
			}
		}
		await(t, "the process is dead", p.Dead())
		await(t, "the process is reaped", p.Reaped())
		if got := p.Exit(); got.Cause != want.Cause || !strings.HasPrefix(strings.TrimSuffix(got.Text, ", core dumped"), want.Text) {
			t.Errorf("%s: ended as %+v, want %+v", script, got, want)
		}
	}
}

// A SIGKILL of ours is no sign of the OOM killer.
func TestExitAfterKill(t *testing.T) {
	t.Parallel()
	p, _ := startShell(t, "sleep 1h")
	p.Kill()
	await(t, "the process is reaped", p.Reaped())
	if got, want := p.Exit(), (Exit{Signaled, "killed by SIGKILL"}); got != want {
		t.Errorf("ended as %+v, want %+v", got, want)
	}
	p.Kill() // of a process that is gone: no effect
	p.Terminate()
}

// Descendants die with the process, those in sessions of their own too.
func TestReapedLeavesNoDescendants(t *testing.T) {
	t.Parallel()
	p, out := startShell(t, "sleep 1h & echo $!; setsid sleep 1h & echo $!; read x; exit 0")
	var pids []int
	for range 2 {
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatalf("read a pid: %v", err)
		}
		var pid int
		if _, err := fmt.Sscan(line, &pid); err != nil {
			t.Fatalf("no pid: %q", line)
		}
		pids = append(pids, pid)
	}
	// setsid may fork: its child carries the marker all the same.
	if tree := processTree(p.leader, p.marker); len(tree) < 3 {
		t.Errorf("the process tree is %+v, want at least three processes", tree)
	}
	p.Stdin.Close()
	await(t, "the process is reaped", p.Reaped())
	for _, pid := range pids {
		if readStat(pid).alive() {
			t.Errorf("process %d is alive, want it killed with its parent", pid)
		}
	}
}

func TestUnread(t *testing.T) {
	t.Parallel()
	p, _ := startShell(t, "sleep 1h")
	if _, err := io.WriteString(p.Stdin, "12345"); err != nil {
		t.Fatalf("write to stdin: %v", err)
	}
	if got := p.Unread(); got != 5 {
		t.Errorf("%d bytes are unread, want 5", got)
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	_, err := Start(Command{Argv: []string{"/does/not/exist"}}, nil)
	if err == nil || !strings.Contains(err.Error(), `"/does/not/exist"`) {
		t.Errorf("start of a program that is not there: %v, want an error with its name", err)
	}
}

func TestStatAndUsage(t *testing.T) {
	t.Parallel()
	s := readStat(os.Getpid())
	if s.parent != os.Getppid() || s.group != syscall.Getpgrp() || s.start == 0 || !s.alive() || !inGroup(os.Getpid(), s.group) {
		t.Errorf("stat of this process: %+v, want parent %d and group %d", s, os.Getppid(), syscall.Getpgrp())
	}
	if _, ok := CPUTime(os.Getpid()); !ok {
		t.Error("the CPU time of this process is not known")
	}
	if size, ok := ResidentSize(os.Getpid()); !ok || size < 1<<20 {
		t.Errorf("resident size %d, %v; want at least 1 MiB", size, ok)
	}
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatalf("start true: %v", err)
	}
	eventually(t, "it is a zombie", func() bool { return !readStat(cmd.Process.Pid).alive() })
	cmd.Wait() //nolint:errcheck // it succeeds
	if _, ok := CPUTime(cmd.Process.Pid); ok {
		t.Error("the CPU time of a process that is gone is known")
	}
	if _, ok := ResidentSize(cmd.Process.Pid); ok {
		t.Error("the size of a process that is gone is known")
	}
}

func TestKillFromManyGoroutines(t *testing.T) {
	t.Parallel()
	p, _ := startShell(t, "sleep 1h")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			p.Kill()
			p.Terminate()
			<-p.Reaped()
			p.Exit()
		})
	}
	all.Wait()
}
