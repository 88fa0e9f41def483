package supervisor

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

// receive handles one line of stdout, on the reader's goroutine.
func (c *child) receive(line []byte) {
	m := wire.Decode(line)
	if len(m.Output) > 0 {
		c.logOutput(m.Output)
	}
	switch m.Kind {
	case wire.KindReply:
		if !c.requests.answer(m.TaskID, outcome{reply: replyOf(m.Reply), timed: m.Reply.HasTook}, time.Now()) {
			c.warn("reply ignored", slog.String("task_id", shortened(m.TaskID)), slog.String("reason", "the task is not in flight"))
		}
	case wire.KindWithdrawn:
		if !c.requests.giveBack(m.TaskID, time.Now()) {
			c.warn("reply ignored", slog.String("task_id", shortened(m.TaskID)), slog.String("reason", "the task was not asked back"))
		}
	case wire.KindInvalid:
		reply := Reply{Error: "invalid reply from the Python process: " + m.Error, Retry: true}
		if c.requests.answer(m.TaskID, outcome{reply: reply}, time.Now()) {
			c.warn("invalid reply", slog.String("task_id", shortened(m.TaskID)), slog.String("error", m.Error))
		}
		c.logOutput(line)
	case wire.KindStack:
		c.stacks.answered(m)
	case wire.KindChecked:
		if !c.ready.protocol2() {
			c.logOutput(line)
			return
		}
		c.mailbox.post(event{kind: eventChecked, child: c, message: m})
	case wire.KindPong:
		c.mailbox.post(event{kind: eventPong, child: c, message: m})
	case wire.KindReady:
		if c.ready.CompareAndSwap(nil, &m.Ready) {
			c.requests.announce(m.Ready)
			c.mailbox.post(event{kind: eventReady, child: c, message: m})
			return
		}
		c.logOutput(line)
	case wire.KindFailed:
		if c.ready.Load() == nil {
			c.mailbox.post(event{kind: eventStartFailed, child: c, message: m})
			return
		}
		c.logOutput(line)
	case wire.KindProgress, wire.KindLog:
		// A process of protocol 1 means something else by it. One that has not said which it speaks may have something
		// to log while it loads.
		switch {
		case c.ready.Load() != nil && !c.ready.protocol2():
			c.logOutput(line)
		case m.Kind == wire.KindLog:
			c.logReport(m.Report)
		default:
			c.reportProgress(m.Report)
		}
	default:
		c.logOutput(line)
	}
}

func replyOf(r wire.Reply) Reply {
	return Reply{
		Result: r.Result, Error: r.Error, Retry: r.Retry, RetryDelay: r.RetryDelay, HasRetryDelay: r.HasRetryDelay,
		Broken: r.Broken, Took: r.Took,
	}
}

// receiveTooLong fails the task that a too long line answers: the one that it names, or the one that runs where that is
// certain.
func (c *child) receiveTooLong(line wire.Line) {
	id, ok := wire.FindTaskID(line.Data)
	if !ok && !wire.IsReport(line.Data) && c.ready.Load() != nil {
		id = c.requests.runningInOrder()
	}
	// The same task would answer with as much again, so no retry.
	reply := Reply{Error: "the Python process wrote a line of " + strconv.FormatInt(line.Size, 10) + " bytes; max_message allows " +
		strconv.FormatInt(c.maxMessage, 10) + ": return less, or raise max_message"}
	attrs := []slog.Attr{slog.Int64("bytes", line.Size), slog.Int64("max_message", c.maxMessage)}
	if id != "" && c.requests.answer(id, outcome{reply: reply}, time.Now()) {
		attrs = append(attrs, slog.String("task_id", shortened(id)), slog.String("effect", "the task failed"))
	}
	c.warn("line too long", attrs...)
}

// logOutput logs output that is not protocol. Before the process is ready it is evidence as well: many programs say on
// stdout how far their start has come.
func (c *child) logOutput(line []byte) {
	line = lastShown(line)
	if len(line) > wire.MaxLogLine {
		line = line[:wire.MaxLogLine]
	}
	if len(line) == 0 {
		return
	}
	if c.ready.Load() == nil {
		c.tail.add(append([]byte("stdout: "), line...))
	}
	c.logText(originStdout, line)
}

// logText logs a line that the process wrote.
func (c *child) logText(origin string, line []byte) {
	if ctx := context.Background(); c.log.Enabled(ctx, slog.LevelInfo) {
		c.log.LogAttrs(ctx, slog.LevelInfo, string(line), slog.String("origin", origin)) //nolint:sloglint // what the process wrote
	}
}

// warn logs what is wrong with a line of the process.
func (c *child) warn(message string, attrs ...slog.Attr) {
	c.own.LogAttrs(context.Background(), slog.LevelWarn, message, attrs...) //nolint:sloglint // a constant of this file
}

// reportProgress tells the caller of a request how far its task has come.
func (c *child) reportProgress(r wire.Report) {
	if e := c.requests.progress(r.TaskID, time.Now()); e != nil {
		e.caller.Progress(r.Fraction, r.Message)
	}
}

// logReport puts a line into the log under our own names; the process' names stand in a group, where they cannot be
// taken for ours.
//
// The line is also among the last of stderr: what the process wrote before it died is evidence, whichever way it wrote
// it.
func (c *child) logReport(r wire.Report) {
	ctx := context.Background()
	if !c.log.Enabled(ctx, r.Level) {
		return
	}
	head := r.Level.String()
	if r.Logger != "" {
		head += " " + r.Logger
	}
	for line := range strings.SplitSeq(head+": "+r.Message, "\n") {
		c.tail.add([]byte(line))
	}
	attrs := []slog.Attr{slog.String("origin", originLog)}
	if r.TaskID != "" {
		if e := c.requests.find(r.TaskID); e != nil {
			attrs = append(attrs, slog.String("queue", e.queue), slog.String("type", e.taskType))
		}
		attrs = append(attrs, slog.String("task_id", shortened(r.TaskID)))
	}
	if r.Logger != "" {
		attrs = append(attrs, slog.String("logger", r.Logger))
	}
	if len(r.Fields) > 0 {
		attrs = append(attrs, slog.GroupAttrs("fields", r.Fields...))
	}
	c.log.LogAttrs(ctx, r.Level, r.Message, attrs...) //nolint:sloglint // what the process wrote
}

// shortened is a task id that a process wrote, of bounded length.
func shortened(id string) string {
	const limit = 200
	if len(id) > limit {
		return id[:limit] + "…"
	}
	return id
}
