package supervisor

import (
	"fmt"
	"log/slog"
)

// receive handles one line of stdout, on the reader's goroutine.
func (c *child) receive(line []byte) {
	m := decode(line)
	if len(m.stray) > 0 {
		c.stray(m.stray)
	}
	switch m.kind {
	case kindReply:
		if !c.ledger.answer(m.task, outcome{reply: m.reply}) {
			c.warn(fmt.Sprintf("ignored a reply for task %q, which is not in flight", clip(m.task)))
		}
	case kindInvalid:
		reply := Reply{Error: "invalid reply from the Python process: " + m.err, Retry: true}
		if c.ledger.answer(m.task, outcome{reply: reply}) {
			c.warn(fmt.Sprintf("the reply for task %q is invalid: %s", clip(m.task), m.err))
		}
		c.stray(line)
	case kindPong:
		c.post(event{kind: evPong, child: c, msg: m})
	case kindReady:
		if c.hello.CompareAndSwap(nil, &m) {
			c.post(event{kind: evReady, child: c, msg: m})
			return
		}
		c.stray(line)
	case kindFailed:
		if c.hello.Load() == nil {
			c.post(event{kind: evFailed, child: c, msg: m})
			return
		}
		c.stray(line)
	case kindProgress, kindLog:
		// A process of protocol 1 means something else by it. One that has not
		// said which it speaks may have something to log while it loads.
		switch {
		case c.hello.Load() != nil && !c.speaks2():
			c.stray(line)
		case m.kind == kindLog:
			c.logged(m.note)
		default:
			c.progressed(m.note)
		}
	default:
		c.stray(line)
	}
}

// oversize fails the task that a too long line answers: the one it names, or
// with synchronous handlers the one that was running.
func (c *child) oversize(line textLine) {
	id, ok := findTaskID(line.data)
	if !ok && c.sync() && !isNote(line.data) && c.hello.Load() != nil {
		id = c.ledger.oldest()
	}
	text := fmt.Sprintf("the Python process wrote a line of %d bytes; max_message allows %d", line.size, c.max)
	// The same task would answer with as much again, so no retry.
	answered := id != "" && c.ledger.answer(id, outcome{reply: Reply{Error: text + ": return less, or raise max_message"}})
	if answered {
		text += fmt.Sprintf("; task %q failed with it", clip(id))
	}
	c.warn(text)
}

func (c *child) stray(line []byte) {
	if len(line) > logLineMax {
		line = line[:logLineMax]
	}
	if len(line) > 0 {
		c.logs.put(logLine{level: slog.LevelInfo, msg: string(line), origin: "stdout"})
	}
}

func (c *child) warn(text string) {
	c.logs.put(logLine{level: slog.LevelWarn, msg: text, origin: "supervisor"})
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
