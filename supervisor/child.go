package supervisor

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/supervisor/internal/proc"
	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

// pipeTimeout bounds how long the pipes of a dead process are read: a descendant that escaped can hold them open.
const pipeTimeout = time.Second

// child is one life of the Python process: the process, the protocol that it speaks and the requests that it has. Its
// goroutines all end before eventEnded is posted.
type child struct {
	process    *proc.Process
	maxMessage int64
	log        *slog.Logger // for what the process writes
	own        *slog.Logger // for what is said of it
	mailbox    *mailbox

	requests *inFlightTable
	in       *wire.Writer
	tail     *outputTail
	stacks   *stackReader
	ready    readyMessage
}

// exit is how a child ended.
type exit struct {
	cause    string // CauseExit, CauseSignal or CauseOOM
	text     string // "exit status 3", "killed by SIGSEGV …"
	consumed int64  // how many bytes of its stdin it read
}

// startChild starts the process. The mailbox must be read until eventEnded is in it.
func startChild(o Options, guardian *proc.Guardian, m *mailbox, inFlight *atomic.Int64) (*child, error) {
	process, err := proc.Start(proc.Command{Argv: o.Command, Dir: o.Dir, Env: o.Env, StackSignal: o.StackSignal}, guardian)
	if err != nil {
		return nil, err
	}
	tail := &outputTail{}
	c := &child{
		process: process, maxMessage: o.MaxMessage, log: o.Logger, own: ownLogger(o.Logger), mailbox: m,
		requests: newInFlightTable(o, inFlight, tail), in: wire.NewWriter(process.Stdin), tail: tail,
	}
	c.stacks = newStackReader(process, c.in, &c.ready)
	c.requests.onBreakage = func(b breakage) { m.post(event{kind: eventBroken, child: c, breakage: b}) }
	go c.run() // ends with eventEnded
	return c, nil
}

// run reads and writes until the process is dead, and clears up after it.
func (c *child) run() {
	var writing, reading, looking sync.WaitGroup
	writing.Go(func() {
		if c.in.Run() != nil {
			c.mailbox.post(event{kind: eventStdinClosed, child: c})
		}
	})
	reading.Go(c.readStdout)
	reading.Go(c.readStderr)
	reading.Go(c.stacks.drain)
	looking.Go(func() {
		c.stacks.run(func() Stack { return c.stack(context.Background(), "") }, func(s Stack) {
			c.mailbox.post(event{kind: eventStack, child: c, stack: s})
		})
	})

	<-c.process.Dead()
	c.mailbox.post(event{kind: eventDied, child: c, exit: c.exit()})
	<-c.process.Reaped()
	deadline := time.Now().Add(pipeTimeout)
	c.process.Stdout.SetReadDeadline(deadline) //nolint:errcheck // a pipe has deadlines
	c.process.Stderr.SetReadDeadline(deadline) //nolint:errcheck // as said
	if c.process.Stacks != nil {
		c.process.Stacks.SetReadDeadline(deadline) //nolint:errcheck // as said
	}
	reading.Wait()
	c.stacks.end()
	looking.Wait()
	c.in.Halt()
	writing.Wait()
	exit := c.exit()
	c.process.Close()
	c.mailbox.post(event{kind: eventEnded, child: c, exit: exit})
}

// exit says how the process ended.
func (c *child) exit() exit {
	how := c.process.Exit()
	e := exit{cause: CauseExit, text: how.Text, consumed: c.in.Sent() - c.process.Unread()}
	switch how.Cause {
	case proc.Signaled:
		e.cause = CauseSignal
	case proc.OutOfMemory:
		e.cause = CauseOOM
	}
	return e
}

// pid is the process to measure: the one that the ready message names, if it belongs to the group (the command may be a
// wrapper), else the one that was started.
func (c *child) pid() int {
	started := c.process.PID
	if r := c.ready.Load(); r != nil && r.PID > 0 && r.PID != started && c.process.HasMember(r.PID) {
		return r.PID
	}
	return started
}

// submit gives a request to the process, and tells its caller when it has begun by that.
func (c *child) submit(r *Request, line []byte) error {
	e, full, err := c.requests.add(r, time.Now(), func() int64 { return c.in.Put(line) })
	if err != nil {
		return err
	}
	if full {
		c.mailbox.full.Wake()
	}
	if e.telling {
		e.caller.Began(e.began)
		c.requests.told(e)
	}
	return nil
}

// cancel asks the process to give a task up, if its protocol allows that.
func (c *child) cancel(taskID string, now time.Time) {
	if c.requests.cancel(taskID, now) && c.ready.protocol2() {
		c.in.Put(wire.EncodeCancel(taskID))
	}
}

// askBack asks the process for what has waited for age and has not begun, if it gives anything back.
func (c *child) askBack(now time.Time, age time.Duration) {
	for _, id := range c.requests.askBack(now, age) {
		c.in.Put(wire.EncodeWithdraw(id))
	}
}

// closeRequests refuses further requests and returns how many are in flight and how many of those may still end. When
// some may, eventIdle is posted once none is left.
func (c *child) closeRequests() (inFlight, mayEnd int) {
	return c.requests.close(func() { c.mailbox.post(event{kind: eventIdle, child: c}) })
}

// evidence adds the last lines of stderr to what is known of a crash, of a process that never was ready those of stdout
// too. While requests are in flight, lines that were written before the oldest of them began are of other requests, and
// would lead a reader astray.
func (c *child) evidence(text string) status.Reason {
	before, running := c.requests.linesBeforeRunning()
	evidence := status.NewReason(text, c.tail.since(before))
	switch {
	case len(evidence.Stderr) > 0:
	case running && c.tail.count() > 0:
		evidence.Summary += "; it wrote nothing to stderr since the task began"
	case c.ready.Load() == nil:
		evidence.Summary += "; it wrote nothing to stdout and stderr"
	default:
		evidence.Summary += "; it wrote nothing to stderr"
	}
	return evidence
}

func (c *child) readStderr() {
	r := wire.NewCuttingReader(c.process.Stderr, wire.MaxLogLine)
	for {
		line, err := r.Next()
		if err != nil {
			return
		}
		text := lastShown(line.Data)
		c.tail.add(text)
		c.logText(originStderr, text)
	}
}

func (c *child) readStdout() {
	r := wire.NewReader(c.process.Stdout, int(c.maxMessage))
	for {
		line, err := r.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				c.mailbox.post(event{kind: eventStdoutClosed, child: c})
			}
			return
		}
		if line.TooLong {
			c.receiveTooLong(line)
			continue
		}
		c.receive(line.Data)
	}
}
