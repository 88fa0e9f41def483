package programs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

// clockTick is the unit of times in /proc/<pid>/stat on every architecture that Go supports.
const clockTick = 10 * time.Millisecond

// stopTimeout is how long a process may take to stop before it is killed with its descendants.
const stopTimeout = 15 * time.Second

// Process is a program that a bench has started; Stop ends it.
type Process struct {
	cmd    *exec.Cmd
	name   string
	log    *os.File
	exited chan struct{} // closed when it has been waited for
}

// Start starts a program, which does not outlive this one. What it writes goes to a file in dir, unless cmd has its output
// go elsewhere.
func Start(ctx context.Context, dir, name string, cmd *exec.Cmd) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	log, err := os.CreateTemp(dir, name+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("make the log of %s: %w", name, err)
	}
	if cmd.Stderr == nil {
		cmd.Stderr = log
	}
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = DieWithParent()
	}
	p := &Process{cmd: cmd, name: name, log: log, exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() { // ends with the process; Stop waits for it
		// The death signal is tied to the thread that starts the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // a process that ends too early shows as tasks that are not done
		}
	}()
	if err := <-started; err != nil {
		_ = log.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// PID returns the process' id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to the process.
func (p *Process) Signal(signal os.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("send %v to %s: %w", signal, p.name, err)
	}
	return nil
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Stop ends the process and returns when it is gone: with a signal, and by force with all its descendants if that does
// not help in time. It may be called again.
func (p *Process) Stop(signal os.Signal) {
	tree := Descendants(p.PID())
	_ = p.cmd.Process.Signal(signal)
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
	}
	for _, member := range tree {
		_ = syscall.Kill(member.PID, syscall.SIGKILL)
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
	_ = p.log.Close()
}

// Failed tells how the process ended when it should not have, with the end of what it wrote.
func (p *Process) Failed() error {
	select {
	case <-p.exited:
		return fmt.Errorf("%s has ended: %v\n%s", p.name, p.cmd.ProcessState, p.Tail())
	default:
		return nil
	}
}

// Tail is the end of what the process has written to its file.
func (p *Process) Tail() string {
	const most = 4 << 10
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-most):]))
}

// Member is a process of a tree.
type Member struct {
	PID    int
	Python bool // it is an interpreter, not a program in Go
	CPU    time.Duration
}

// Descendants lists a process and those that it has started, directly or not, from the root down. The processor time of
// an interpreter includes that of its children that are gone: RQ has one child for each task.
func Descendants(root int) []Member {
	all, err := procfs.AllProcs()
	if err != nil {
		return nil
	}
	children := map[int][]procfs.ProcStat{}
	var found []Member
	add := func(s procfs.ProcStat) {
		m := Member{PID: s.PID, CPU: time.Duration(s.UTime+s.STime) * clockTick}
		program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.PID))
		if m.Python = strings.HasPrefix(filepath.Base(program), "python"); m.Python {
			m.CPU += time.Duration(s.CUTime+s.CSTime) * clockTick
		}
		found = append(found, m)
	}
	for _, p := range all {
		s, err := p.Stat()
		if err != nil {
			continue // it has ended meanwhile
		}
		children[s.PPID] = append(children[s.PPID], s)
		if s.PID == root {
			add(s)
		}
	}
	for i := 0; i < len(found); i++ {
		for _, s := range children[found[i].PID] {
			add(s)
		}
	}
	return found
}

// Output runs a command to its end and returns what it wrote to its standard output.
func Output(cmd *exec.Cmd) (string, error) {
	text, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", filepath.Base(cmd.Path), err)
	}
	return strings.TrimSpace(string(text)), nil
}

// Environ is this process' environment without what would configure a worker, and with more.
func Environ(more ...string) []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "RUNQY_") && !strings.HasPrefix(e, "ENVIRONMENT=") && !strings.HasPrefix(e, "NOTIFY_SOCKET=") {
			env = append(env, e)
		}
	}
	return append(env, more...)
}

// Build compiles the worker of a checkout as a release is compiled.
func Build(ctx context.Context, checkout, program string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./cmd/runqy-worker")
	cmd.Dir = checkout
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the worker in %s: %w\n%s", checkout, err, text)
	}
	return nil
}

// Await asks again and again until the answer is yes, an error, or the time is over.
func Await(ctx context.Context, limit, pause time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", limit, ctx.Err())
		case <-tick.C:
		}
	}
}
