package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/internal/wakeup"
	"github.com/runqy/runqy-worker/supervisor/internal/proc"
	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

const (
	// stackTimeout bounds how long one look at the stacks takes.
	stackTimeout = 500 * time.Millisecond
	// answerTimeout is how long the process has to answer before it gets the signal. Only one in which nothing gets the
	// interpreter's lock needs longer, unless the machine is busy.
	answerTimeout = 75 * time.Millisecond
	// writingInterval is how often the process is looked at whether it has written all.
	writingInterval = 5 * time.Millisecond
	// maxStackText bounds what one look keeps, in bytes.
	maxStackText = 256 << 10
)

// ErrNoProcess says that there is no Python process to ask.
var ErrNoProcess = errors.New("there is no Python process")

// ErrUnknownTask says that the process does not have the task.
var ErrUnknownTask = errors.New("the Python process does not have the task")

// Stack says where the Python process was at one moment. It names files, functions and lines: only for those who may see
// the errors of tasks.
type Stack struct {
	At  time.Time
	PID int
	// Where is the innermost line of a handler, of @load or of the task file: "/app/main.py:12 in fetch". Of several, it
	// is that of the task that was asked for, else of the main thread. Empty: none runs, or the process did not say.
	Where string
	// Text has the stacks of all threads and asyncio tasks, the innermost call first: of these, those with a handler stand
	// before the others. At the end is what the kernel says, which is all for a process without the SDK.
	Text string

	stacks stacks
}

// of is Where for one of the tasks.
func (s Stack) of(taskID string) string { return s.stacks.where(taskID) }

// Brief is the text up to limit bytes.
func (s Stack) Brief(limit int) string { return cutLines(s.Text, limit) }

// Stack asks the process where it is, with its threads and asyncio tasks; with a taskID, that task's stack comes first.
// It takes half a second at most, also when the process hangs. Errors: ErrNoProcess, ErrUnknownTask, ctx's.
func (s *Supervisor) Stack(ctx context.Context, taskID string) (Stack, error) {
	c := s.gate.process.Load()
	if c == nil {
		return Stack{}, ErrNoProcess
	}
	if taskID != "" && c.requests.find(taskID) == nil {
		return Stack{}, fmt.Errorf("%w %.200q", ErrUnknownTask, taskID)
	}
	stack := c.stack(ctx, taskID)
	if ctx.Err() != nil {
		return Stack{}, fmt.Errorf("ask the Python process where it is: %w", context.Cause(ctx))
	}
	return stack, nil
}

// stack asks the process where it is.
func (c *child) stack(ctx context.Context, taskID string) Stack {
	ctx, cancel := context.WithTimeout(ctx, stackTimeout)
	defer cancel()
	pid := c.pid()
	running := c.requests.runningInOrder()
	stacks := c.stacks.look(ctx, pid, running)
	kernel, _ := proc.KernelState(pid)
	return Stack{At: time.Now(), PID: pid, Where: stacks.where(taskID), Text: stacks.text(taskID) + kernel, stacks: stacks}
}

// stackReader asks a process for its stacks, one look at a time. First it sends a message: the answer of a thread of the
// SDK is exact. When none comes, it sends the signal, which works whoever holds the interpreter's lock.
type stackReader struct {
	process *proc.Process
	in      *wire.Writer
	ready   *readyMessage
	turn    chan struct{} // capacity 1: held during a look
	answers chan wire.Message
	wanted  wakeup.Signal // of run
	ended   chan struct{} // closed by end

	number     int64 // of the last question; turn guards it and the next
	unanswered bool  // the last question is

	mu      sync.Mutex // guards the fields below
	looking bool       // what is written is kept
	buffer  []byte
}

func newStackReader(process *proc.Process, in *wire.Writer, ready *readyMessage) *stackReader {
	return &stackReader{
		process: process, in: in, ready: ready, turn: make(chan struct{}, 1),
		answers: make(chan wire.Message, 1), wanted: wakeup.New(), ended: make(chan struct{}),
	}
}

// drain reads the pipe until the process has closed it, or its deadline. What nobody has asked for is dropped.
func (r *stackReader) drain() {
	if r.process.Stacks == nil {
		return
	}
	chunk := make([]byte, 16<<10)
	for {
		n, err := r.process.Stacks.Read(chunk)
		r.mu.Lock()
		if r.looking {
			r.buffer = append(r.buffer, chunk[:min(n, maxStackText-len(r.buffer))]...)
		}
		r.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// run looks whenever the event loop wants that, and tells it, until end.
func (r *stackReader) run(look func() Stack, tell func(Stack)) {
	for {
		select {
		case <-r.wanted.C():
			tell(look())
		case <-r.ended:
			return
		}
	}
}

func (r *stackReader) end() { close(r.ended) }

// answered takes the answer to a question; one that nobody waits for any more is dropped.
func (r *stackReader) answered(m wire.Message) {
	select {
	case r.answers <- m:
	default:
	}
}

// look returns what the process says until ctx is over, or its death. running is the task whose handler runs on the main
// thread.
func (r *stackReader) look(ctx context.Context, pid int, running string) stacks {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil
	}
	asks, now := r.ask()
	if now {
		timeout := time.NewTimer(answerTimeout)
		defer timeout.Stop()
		if text, ok := r.awaitAnswer(ctx, timeout.C); ok {
			return parseStacks(text)
		}
	}
	found := parseStacks(r.signalled(ctx, pid))
	found.nameMainThread(running)
	if asks && found.where("") == "" { // not a handler that holds the lock: the answer is only late
		if text, ok := r.awaitAnswer(ctx, nil); ok {
			return parseStacks(text)
		}
	}
	return found
}

// ask sends the question. asks: an answer may come. now: it should come soon. While a question is unanswered no other is
// sent, so that they do not pile up before a process that does not read.
func (r *stackReader) ask() (asks, now bool) {
	if m := r.ready.Load(); m == nil || !m.Has(wire.FeatureStack) {
		return false, false
	}
	select {
	case m := <-r.answers: // it came too late
		r.unanswered = r.unanswered && m.Stack != r.number
	default:
	}
	if r.unanswered {
		return true, false
	}
	r.number++
	r.unanswered = true
	r.in.Put(wire.EncodeStack(r.number))
	return true, true
}

func (r *stackReader) awaitAnswer(ctx context.Context, timeout <-chan time.Time) (text string, ok bool) {
	for {
		select {
		case m := <-r.answers:
			if m.Stack == r.number {
				r.unanswered = false
				return m.Text, true
			}
		case <-timeout:
			return "", false
		case <-r.process.Dead():
			return "", false
		case <-ctx.Done():
			return "", false
		}
	}
}

// signalled returns what the process writes when it gets the signal; empty: nothing.
func (r *stackReader) signalled(ctx context.Context, pid int) string {
	if r.process.Stacks == nil {
		return ""
	}
	r.mu.Lock()
	r.looking, r.buffer = true, nil
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.looking, r.buffer = false, nil
		r.mu.Unlock()
	}()
	writing, err := r.process.SignalStacks(pid)
	if err != nil {
		return "" // the kernel tells the rest
	}
	poll := time.NewTicker(writingInterval)
	defer poll.Stop()
	for last := -1; ; {
		select {
		case <-poll.C:
		case <-r.process.Dead():
			return r.text()
		case <-ctx.Done():
			return r.text()
		}
		r.mu.Lock()
		size := len(r.buffer)
		r.mu.Unlock()
		// It has written something, nothing since the last look, and is not at it.
		if size > 0 && size == last && !writing() {
			return r.text()
		}
		last = size
	}
}

func (r *stackReader) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.ToValidUTF8(string(r.buffer), "\uFFFD")
}
