package proc

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

const (
	// markerVar marks the process and what descends from it: its value is inherited.
	markerVar = "RUNQY_CHILD_NONCE"
	// treeTimeout bounds how long the descendants of a dead process are looked for and killed.
	treeTimeout = 5 * time.Second
)

// Command says what to start.
type Command struct {
	Argv []string // program and arguments; a relative path with a slash is relative to Dir
	Dir  string   // working directory; empty: the worker's
	Env  []string // the whole environment, "KEY=value"; only RUNQY_CHILD_NONCE and the two below are added
	// StackSignal is the signal that asks the process for the stacks of its threads; 0: none. With it come
	// RUNQY_STACK_SIGNAL and RUNQY_STACK_FD, a pipe to write them to (Linux).
	StackSignal int
}

// Process is one process with pipes to its stdin, stdout and stderr, which leads a process group of its own. All
// methods may be called from any goroutine.
type Process struct {
	Stdin, Stdout, Stderr *os.File // our ends of the pipes
	Stacks                *os.File // our end of the pipe for stacks; nil: there is none
	PID                   int
	Started               time.Time

	cmd    *exec.Cmd
	marker string // the value of markerVar
	leader stat
	oom    oomCounter
	kills  uint64 // what oom had counted before the start
	counts bool   // whether oom could be read then

	stackSignal int // 0: none

	exit Exit // set before dead is closed

	dead   chan struct{} // closed when the process is dead
	reaped chan struct{} // closed when it is reaped, and its process tree is gone

	mu     sync.Mutex // guards the fields below: no signal goes to a reaped pid
	isGone bool       // reaped
	killed bool       // SIGKILL was ours
}

// ErrNoStacks says that the process does not write stacks: it has not registered the signal, or there is none.
var ErrNoStacks = errors.New("the process has not registered the signal for stacks")

// Start starts a process. A guardian that is not nil watches it until it is reaped. The caller must read Stdout,
// Stderr and Stacks, await Reaped, and then call Close. The error tells which program could not be started.
func Start(c Command, g *Guardian) (*Process, error) {
	var random [16]byte
	rand.Read(random[:])
	p := &Process{marker: hex.EncodeToString(random[:]), dead: make(chan struct{}), reaped: make(chan struct{})}
	p.cmd = exec.Command(c.Argv[0], c.Argv[1:]...)
	// The program is found on the worker's PATH, which its own may not be: Python looks for its library beside the name
	// that it was called by.
	p.cmd.Args[0] = p.cmd.Path
	p.cmd.Dir = c.Dir
	p.cmd.Env = append(append([]string(nil), c.Env...), markerVar+"="+p.marker)
	p.cmd.SysProcAttr = processAttr()
	theirs, err := p.makePipes(c.StackSignal)
	if err != nil {
		return nil, fmt.Errorf("make pipes for the Python process: %w", err)
	}
	p.oom = findOOMCounter()
	p.kills, p.counts = p.oom.read()

	started := make(chan error)
	go p.run(g, started) // ends when the process is reaped; Reaped tells
	err = <-started
	closeAll(theirs...)
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("start the Python process %q: %w", c.Argv[0], err)
	}
	return p, nil
}

// makePipes sets our ends and the command's; it returns the latter, which are to be closed after the start.
func (p *Process) makePipes(stackSignal int) (theirs []*os.File, err error) {
	stdinRead, stdin, err1 := os.Pipe()
	stdout, stdoutWrite, err2 := os.Pipe()
	stderr, stderrWrite, err3 := os.Pipe()
	p.Stdin, p.Stdout, p.Stderr = stdin, stdout, stderr
	stackWrite, err4 := p.makeStackPipe(stackSignal)
	theirs = []*os.File{stdinRead, stdoutWrite, stderrWrite, stackWrite}
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		closeAll(theirs...)
		p.Close()
		return nil, err
	}
	widen(stdin)
	widen(stdout)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdinRead, stdoutWrite, stderrWrite
	return theirs, nil
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// run starts the process, awaits its death and clears up after it. It keeps its thread: the kernel takes the end of the
// thread that forked for the parent's death.
func (p *Process) run(g *Guardian, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	p.PID = p.cmd.Process.Pid
	p.Started = time.Now()
	p.leader = readStat(p.PID)
	g.watch(p.leader, p.marker)
	started <- nil

	how := awaitDeath(p.cmd)
	p.mu.Lock()
	killed := p.killed // a SIGKILL of ours that comes after its death did not end it
	p.mu.Unlock()
	signalGroup(p.PID, killSignal)
	p.exit = p.exitOf(how, killed)
	close(p.dead)
	killRemaining(p.leader, p.marker, treeTimeout)

	g.release(p.leader) // before the pid can be anybody else's
	p.mu.Lock()
	p.isGone = true
	reap(p.cmd)
	p.mu.Unlock()
	close(p.reaped)
}

// Dead is closed when the process has died and its group was killed: Exit says how. Its descendants are still being looked for, and
// its pipes may hold what it wrote last.
func (p *Process) Dead() <-chan struct{} { return p.dead }

// Reaped is closed when the process is reaped and nothing that can be found descends from it any more.
func (p *Process) Reaped() <-chan struct{} { return p.reaped }

// Kill sends SIGKILL to the group and to every descendant that can be found while the process still lives.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isGone {
		return
	}
	p.killed = true
	killTree(p.leader, p.marker)
}

// Terminate sends SIGTERM to the group.
func (p *Process) Terminate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.isGone {
		signalGroup(p.PID, termSignal)
	}
}

// Unread is how many bytes in the pipe to its stdin the process has not read; 0 where the system does not tell.
func (p *Process) Unread() int64 { return unread(p.Stdin) }

// HasMember reports whether pid belongs to the process' group; false where the system does not tell.
func (p *Process) HasMember(pid int) bool { return inGroup(pid, p.PID) }

// Close closes our ends of the pipes.
func (p *Process) Close() { closeAll(p.Stdin, p.Stdout, p.Stderr, p.Stacks) }
