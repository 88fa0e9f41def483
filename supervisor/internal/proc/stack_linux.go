package proc

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The variables that tell the process how it is asked for the stacks of its threads, and where to write them.
const (
	stackSignalVar = "RUNQY_STACK_SIGNAL"
	stackFDVar     = "RUNQY_STACK_FD"
	// stackFD is the first descriptor after stdin, stdout and stderr.
	stackFD = 3
	// maxThreads bounds how many threads of a process are looked at.
	maxThreads = 1000
	// shownThreads is how many threads KernelState tells of.
	shownThreads = 20
)

// makeStackPipe gives the process a pipe for stacks, when it may be asked for them with a signal. Its end does not block:
// a process must not hang in its signal handler because the worker is slow.
func (p *Process) makeStackPipe(number int) (theirs *os.File, err error) {
	if number == 0 {
		return nil, nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("make the pipe for stacks: %w", err)
	}
	p.Stacks, theirs = os.NewFile(uintptr(fds[0]), "stacks"), os.NewFile(uintptr(fds[1]), "stacks")
	widen(p.Stacks)
	p.stackSignal = number
	p.cmd.ExtraFiles = []*os.File{theirs}
	p.cmd.Env = append(p.cmd.Env, stackSignalVar+"="+strconv.Itoa(number), stackFDVar+"="+strconv.Itoa(stackFD))
	return theirs, nil
}

// SignalStacks has the process write the stacks of its threads into Stacks; preferred is its pid where that is known
// better than from the start. writing reports whether it is still at it.
//
// The signal would kill a process that does not catch it. So it is sent only to one that does, and that has set the
// descriptor of the pipe to be closed on exec, which the SDK does last. Any other error than [ErrNoStacks] is the system's.
func (p *Process) SignalStacks(preferred int) (writing func() bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isGone || p.stackSignal == 0 {
		return nil, ErrNoStacks
	}
	pid := p.stackHandler(preferred)
	if pid == 0 {
		return nil, ErrNoStacks
	}
	// A thread that has the signal blocked before is not in its handler later.
	blocked := map[string]bool{}
	for _, t := range readThreads(pid) {
		blocked[t.id] = t.blocked&p.stackBit() != 0
	}
	if err := unix.Kill(pid, unix.Signal(p.stackSignal)); err != nil {
		return nil, fmt.Errorf("send signal %d to the Python process: %w", p.stackSignal, err)
	}
	return func() bool {
		for _, t := range readThreads(pid) {
			// In its handler a signal is blocked.
			if (t.pending|t.shared)&p.stackBit() != 0 || t.blocked&p.stackBit() != 0 && !blocked[t.id] {
				return true
			}
		}
		return false
	}, nil
}

// stackHandler is the process that has the SDK's handler: the preferred, the one that was started, or one that it has
// started (the command may be a wrapper); 0: none. It needs mu.
func (p *Process) stackHandler(preferred int) int {
	for _, pid := range []int{preferred, p.PID} {
		if p.handlesStacks(pid) {
			return pid
		}
	}
	for _, s := range processTree(p.leader, p.marker) {
		if p.handlesStacks(s.pid) {
			return s.pid
		}
	}
	return 0
}

func (p *Process) handlesStacks(pid int) bool {
	masks, ok := readMasks(filepath.Join(procDir(pid), "status"))
	if !ok || masks.caught&p.stackBit() == 0 {
		return false
	}
	fd := strconv.Itoa(stackFD)
	pipe, err := os.Readlink(filepath.Join(procDir(pid), "fd", fd))
	if err != nil {
		return false
	}
	var stat unix.Stat_t
	control(p.Stacks, func(fd int) { err = unix.Fstat(fd, &stat) })
	if err != nil || pipe != fmt.Sprintf("pipe:[%d]", stat.Ino) {
		return false
	}
	info, err := os.ReadFile(filepath.Join(procDir(pid), "fdinfo", fd))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(info), "flags:")
	line, _, _ := strings.Cut(rest, "\n")
	flags, err := strconv.ParseUint(strings.TrimSpace(line), 8, 64)
	return err == nil && flags&unix.O_CLOEXEC != 0
}

func (p *Process) stackBit() uint64 { return 1 << (p.stackSignal - 1) }

func procDir(pid int) string { return "/proc/" + strconv.Itoa(pid) }

// masks are sets of signals, with a bit for each.
type masks struct{ pending, shared, blocked, caught uint64 }

// readMasks reads a status file of /proc.
func readMasks(file string) (m masks, ok bool) {
	f, err := os.Open(file)
	if err != nil {
		return m, false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		var set *uint64
		switch name {
		case "SigPnd":
			set = &m.pending
		case "ShdPnd":
			set = &m.shared
		case "SigBlk":
			set = &m.blocked
		case "SigCgt":
			set = &m.caught
		default:
			continue
		}
		if *set, err = strconv.ParseUint(strings.TrimSpace(value), 16, 64); err != nil {
			return m, false
		}
		ok = true
	}
	return m, ok
}

type thread struct {
	id string
	masks
}

func readThreads(pid int) []thread {
	var threads []thread
	for _, id := range threadIDs(pid) {
		if m, ok := readMasks(filepath.Join(procDir(pid), "task", id, "status")); ok {
			threads = append(threads, thread{id, m})
		}
	}
	return threads
}

// threadIDs lists the threads of a process, the main thread first.
func threadIDs(pid int) []string {
	dir, err := os.Open(filepath.Join(procDir(pid), "task"))
	if err != nil {
		return nil
	}
	defer dir.Close()
	ids, _ := dir.Readdirnames(maxThreads) // as far as they can be read
	return ids
}

// KernelState says what the kernel knows of where a process is: its state, its CPU time, and what its threads wait for in
// the kernel. false: the process is gone.
func KernelState(pid int) (text string, ok bool) {
	s := readStat(pid)
	if s.state == "" {
		return "", false
	}
	ids := threadIDs(pid)
	var b strings.Builder
	fmt.Fprintf(&b, "process %d: state %s, %v of CPU time, %d threads\n", pid, s.state, s.cpu.Round(time.Millisecond), len(ids))
	for i, id := range ids {
		if i == shownThreads {
			fmt.Fprintf(&b, "  (%d more threads)\n", len(ids)-shownThreads)
			break
		}
		dir := filepath.Join(procDir(pid), "task", id)
		wchan, _ := os.ReadFile(filepath.Join(dir, "wchan"))
		name, _ := os.ReadFile(filepath.Join(dir, "comm"))
		state, where := threadState(dir), string(wchan)
		if where == "" || where == "0" {
			where = "nowhere in the kernel that it names"
		}
		fmt.Fprintf(&b, "  thread %s (%s): state %s, waits in %s\n", id, strings.TrimSpace(string(name)), state, where)
	}
	return b.String(), true
}

// threadState is the letter of a thread's state; "?" when it is gone.
func threadState(dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return "?"
	}
	// The name before it may hold spaces and brackets.
	_, rest, _ := strings.Cut(string(data[strings.LastIndexByte(string(data), ')')+1:]), " ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}
