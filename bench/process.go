package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

// clockTick is the unit of times in /proc/<pid>/stat on every architecture that Go supports.
const clockTick = 10 * time.Millisecond

// stopTimeout is how long a process may take to stop before it is killed with its descendants.
const stopTimeout = 15 * time.Second

// process is a program that the bench has started; stop ends it.
type process struct {
	cmd    *exec.Cmd
	name   string
	log    *os.File
	exited chan struct{} // closed when it has been waited for
}

// startProcess starts a program whose output goes to a file in dir.
func startProcess(ctx context.Context, dir, name string, cmd *exec.Cmd) (*process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	log, err := os.CreateTemp(dir, name+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("make the log of %s: %w", name, err)
	}
	cmd.Stderr = log
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		_ = log.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{cmd: cmd, name: name, log: log, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		_ = cmd.Wait() // a process that ends too early shows as tasks that are not done
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process and returns when it is gone: with a signal, and by force with all its descendants if that does
// not help in time.
func (p *process) stop(signal os.Signal) {
	tree := descendants(p.pid())
	_ = p.cmd.Process.Signal(signal)
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
	}
	for _, member := range tree {
		_ = syscall.Kill(member.pid, syscall.SIGKILL)
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
	_ = p.log.Close()
}

// failed tells how the process ended when it should not have, with the end of what it wrote.
func (p *process) failed() error {
	select {
	case <-p.exited:
		return fmt.Errorf("%s has ended: %v\n%s", p.name, p.cmd.ProcessState, p.tail())
	default:
		return nil
	}
}

func (p *process) tail() string {
	const most = 4 << 10
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-most):]))
}

// member is a process of a tree.
type member struct {
	pid    int
	python bool // it is an interpreter, not a program of ours
	cpu    time.Duration
}

// descendants lists a process and those that it has started, directly or not. The processor time of an interpreter
// includes that of its children that are gone: RQ has one child for each task.
func descendants(root int) []member {
	all, err := procfs.AllProcs()
	if err != nil {
		return nil
	}
	children := map[int][]procfs.ProcStat{}
	var found []member
	add := func(s procfs.ProcStat) {
		m := member{pid: s.PID, cpu: time.Duration(s.UTime+s.STime) * clockTick}
		program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.PID))
		if m.python = strings.HasPrefix(filepath.Base(program), "python"); m.python {
			m.cpu += time.Duration(s.CUTime+s.CSTime) * clockTick
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
		for _, s := range children[found[i].pid] {
			add(s)
		}
	}
	return found
}

// usage is what processes have used since they started.
type usage struct {
	worker, python time.Duration // processor time: of programs in Go, and of interpreters
	switches       float64       // voluntary context switches of the programs in Go, all threads
	workerPeak     float64       // the largest resident size of the programs in Go, bytes
	pythonPeak     float64       // of the interpreters, the sum
}

func usageOf(roots []*process) usage {
	var u usage
	for _, root := range roots {
		for _, m := range descendants(root.pid()) {
			if m.python {
				u.python += m.cpu
				u.pythonPeak += peakOf(m.pid)
				continue
			}
			u.worker += m.cpu
			if m.pid == root.pid() { // the guardian of a worker is another program of ours
				u.switches += switchesOf(m.pid)
				u.workerPeak += peakOf(m.pid)
			}
		}
	}
	return u
}

func peakOf(pid int) float64 {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0
	}
	s, err := p.NewStatus()
	if err != nil {
		return 0
	}
	return float64(s.VmHWM)
}

func switchesOf(pid int) float64 {
	threads, err := procfs.AllThreads(pid)
	if err != nil {
		return 0
	}
	var sum uint64
	for _, t := range threads {
		if s, err := t.NewStatus(); err == nil {
			sum += s.VoluntaryCtxtSwitches
		}
	}
	return float64(sum)
}

// ownCPU is the processor time that the bench itself has used.
func ownCPU() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// output runs a command to its end and returns what it wrote to its standard output.
func output(cmd *exec.Cmd) (string, error) {
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
