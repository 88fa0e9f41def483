package supervisor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// nonceVar marks the process and what descends from it.
	nonceVar = "RUNQY_CHILD_NONCE"
	// drainLimit bounds how long the pipes of a dead process are read: someone
	// who escaped the group can hold them open.
	drainLimit = time.Second
	// huntLimit bounds how long the descendants of a dead process are hunted.
	huntLimit = 5 * time.Second
)

// child is one life of the Python process. Its goroutines (waiter, writer,
// two readers, log) all end before evEnded is posted.
type child struct {
	cmd     *exec.Cmd
	nonce   string
	pid     int
	started time.Time
	leader  procInfo
	oom     oomCounter
	oomBase uint64
	oomSeen bool
	max     int64
	log     *slog.Logger
	guard   *guardian // nil: none
	post    func(event)

	ledger *ledger
	in     *lineWriter
	out    *os.File
	errs   *os.File
	tail   *tail
	logs   *logQueue
	hello  atomic.Pointer[message] // the ready line, once it was read

	mu     sync.Mutex // guards the fields below: no signal goes to a reaped pid
	reaped bool
	killed bool // SIGKILL was ours
}

// ending is what is known about a dead process.
type ending struct {
	cause    string // CauseExit, CauseSignal or CauseOOM
	how      string // "exit status 3", "killed by SIGSEGV …"
	consumed int64  // how many bytes of its stdin it read
}

type eventKind int

const (
	evReady       eventKind = iota // msg is the ready line
	evFailed                       // msg says why it cannot start
	evPong                         // msg
	evEOF                          // stdout was closed
	evWriteFailed                  // stdin was closed by the process
	evDied                         // the process is dead, not reaped yet
	evEnded                        // reaped, pipes drained, goroutines gone; end is set
	evFull                         // it has taken its last request
	evIdle                         // nothing in flight but what is overdue
	evOverdue                      // call ignores its cancellation
)

type event struct {
	kind  eventKind
	child *child
	msg   message
	call  *call
	end   ending
}

// startChild starts the process. post must not block for long and must work
// until evEnded has been posted.
func startChild(o Options, guard *guardian, post func(event)) (*child, error) {
	var random [16]byte
	rand.Read(random[:])
	output := &tail{}
	c := &child{
		nonce: hex.EncodeToString(random[:]), max: o.MaxMessage, log: o.Logger, guard: guard, post: post,
		ledger: newLedger(o.MaxTasks, output), tail: output, logs: newLogQueue(),
	}
	c.cmd = exec.Command(o.Command[0], o.Command[1:]...)
	// The program is found on the worker's PATH, which its own may not be: Python looks for its library beside the
	// name that it was called by.
	c.cmd.Args[0] = c.cmd.Path
	c.cmd.Dir = o.Dir
	c.cmd.Env = append(append([]string(nil), o.Env...), nonceVar+"="+c.nonce)
	c.cmd.SysProcAttr = childAttr()

	var theirs []*os.File
	pipe := func(write bool) (ours *os.File, err error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		if write {
			theirs = append(theirs, r)
			return w, nil
		}
		theirs = append(theirs, w)
		return r, nil
	}
	stdin, err1 := pipe(true)
	stdout, err2 := pipe(false)
	stderr, err3 := pipe(false)
	closeAll := func(files ...*os.File) {
		for _, f := range files {
			if f != nil {
				f.Close()
			}
		}
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		closeAll(append(theirs, stdin, stdout, stderr)...)
		return nil, fmt.Errorf("make pipes for the Python process: %w", err)
	}
	widen(stdin)
	widen(stdout)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = theirs[0], theirs[1], theirs[2]
	c.in, c.out, c.errs = newLineWriter(stdin), stdout, stderr
	c.oom = findOOMCounter()
	c.oomBase, c.oomSeen = c.oom.read()

	started := make(chan error)
	go c.attend(started)
	err := <-started
	closeAll(theirs...)
	if err != nil {
		closeAll(stdin, stdout, stderr)
		return nil, fmt.Errorf("start the Python process %q: %w", o.Command[0], err)
	}
	return c, nil
}

// attend starts the process, waits for its death, and clears up after it. It
// keeps its thread: the kernel takes the end of the thread that forked for
// the parent's death.
func (c *child) attend(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := c.cmd.Start(); err != nil {
		started <- err
		return
	}
	c.pid = c.cmd.Process.Pid
	c.started = time.Now()
	c.leader = lookup(c.pid)
	c.guard.watch(c.leader, c.nonce)
	var writing, reading, logging sync.WaitGroup
	writing.Go(func() {
		if c.in.run() != nil {
			c.post(event{kind: evWriteFailed, child: c})
		}
	})
	reading.Go(c.readOut)
	reading.Go(c.readErr)
	logging.Go(func() { c.logs.run(context.Background(), c.log) })
	started <- nil

	awaitDeath(c.cmd)
	c.mu.Lock()
	ours := c.killed
	c.mu.Unlock()
	signalGroup(c.pid, killSignal)
	c.post(event{kind: evDied, child: c})
	hunt(c.leader, c.nonce, huntLimit)

	c.guard.release(c.leader) // before the pid can be anybody else's
	c.mu.Lock()
	c.reaped = true
	reap(c.cmd)
	c.mu.Unlock()

	deadline := time.Now().Add(drainLimit)
	c.out.SetReadDeadline(deadline)  //nolint:errcheck // a pipe has deadlines
	c.errs.SetReadDeadline(deadline) //nolint:errcheck // as said
	reading.Wait()
	c.in.halt()
	writing.Wait()
	end := c.examine(ours)
	c.in.f.Close()
	c.out.Close()
	c.errs.Close()
	c.logs.close()
	logging.Wait()
	c.post(event{kind: evEnded, child: c, end: end})
}

// examine says how the process ended; killed: by our own SIGKILL.
func (c *child) examine(killed bool) ending {
	e := ending{consumed: c.in.sent() - unread(c.in.f)}
	var sigkill bool
	e.cause, e.how, sigkill = describe(c.cmd.ProcessState)
	if !sigkill || killed {
		return e
	}
	n, ok := c.oom.read()
	switch {
	case !ok || !c.oomSeen:
		e.how += ", not sent by the worker: possibly the OOM killer"
	case n > c.oomBase:
		e.cause = CauseOOM
		e.how += " by the kernel's OOM killer: out of memory"
	default:
		e.how += ", not sent by the worker, and the OOM killer counted nothing"
	}
	return e
}

// kill sends SIGKILL to the group and to every descendant that can be found
// while the process still lives.
func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return
	}
	c.killed = true
	killTree(c.leader, c.nonce)
}

// terminate sends SIGTERM to the group.
func (c *child) terminate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		signalGroup(c.pid, termSignal)
	}
}

// sync tells whether requests run one at a time in order. A process that has
// not said otherwise does.
func (c *child) sync() bool {
	h := c.hello.Load()
	return h == nil || h.handlers == handlersSync
}

func (c *child) speaks2() bool {
	h := c.hello.Load()
	return h != nil && h.protocol >= 2
}

// python is the process to measure: the one that the ready line names, if it
// belongs to the group (the command may be a wrapper), else the leader.
func (c *child) python() int {
	if h := c.hello.Load(); h != nil && h.pid > 0 && h.pid != c.pid && inGroup(h.pid, c.pid) {
		return h.pid
	}
	return c.pid
}

// submit gives a request to the process. full: it was the last one.
func (c *child) submit(r Request, line []byte) (*call, error) {
	k, full, err := c.ledger.add(r, func() int64 { return c.in.put(line) })
	if full {
		c.post(event{kind: evFull, child: c})
	}
	return k, err
}

// cancel asks the process to give a task up, if it knows how.
func (c *child) cancel(k *call) {
	if c.speaks2() {
		c.in.put(encodeCancel(k.id))
	}
}

func (c *child) readErr() {
	r := lineReader{r: c.errs, max: logLineMax, cut: true}
	for {
		line, err := r.next()
		if err != nil {
			return
		}
		c.tail.add(line.data)
		c.logs.put(logLine{level: slog.LevelInfo, msg: string(line.data), origin: "stderr"})
	}
}

func (c *child) readOut() {
	r := lineReader{r: c.out, max: int(c.max)}
	for {
		line, err := r.next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				c.post(event{kind: evEOF, child: c})
			}
			return
		}
		if line.over {
			c.oversize(line)
			continue
		}
		c.receive(line.data)
	}
}
