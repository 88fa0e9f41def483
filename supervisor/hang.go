package supervisor

import (
	"context"
	"log/slog"
)

// maxLoggedStack bounds the stacks in a line of the log, in bytes.
const maxLoggedStack = 16 << 10

// maxErrorStack bounds the stacks in the error of a task and in a reason, which Redis keeps, in bytes.
const maxErrorStack = 4 << 10

// where is where the process was before its end; zero: it was not asked.
func (e *ending) where() Stack {
	if e.stack == nil {
		return Stack{}
	}
	return *e.stack
}

// takeStack has the process say where it is, without holding the event loop up, logs that, and then calls then, unless
// the process is dead. why says what has led to it.
func (l *loop) takeStack(why string, then func(Stack)) {
	l.afterStack = append(l.afterStack, then)
	if len(l.afterStack) == 1 {
		l.stackReason = why
		l.child.stacks.wanted.Wake()
	}
}

// onStack: the process has said where it is, or has not within the time for it.
func (l *loop) onStack(s Stack) {
	then := l.afterStack
	l.afterStack = nil
	if l.dead {
		return
	}
	l.stack = &s
	logStack(l.log, l.stackReason, s)
	for _, f := range then {
		f(s)
	}
}

func logStack(log *slog.Logger, why string, s Stack) {
	log.Warn("python process stacks", slog.String("reason", why), slog.String("where", s.Where),
		slog.Int("python_pid", s.PID), slog.String("stacks", s.Brief(maxLoggedStack)))
}

// LogStack logs where the process is, as at a hang, for a reason that the supervisor does not know of. It returns after half
// a second at most, and when ctx is over with what the process has said by then. Without a process it does nothing.
func (s *Supervisor) LogStack(ctx context.Context, why string) {
	c := s.gate.process.Load()
	if c == nil {
		return
	}
	if stack := c.stack(ctx, ""); stack.Text != "" { // else it has ended meanwhile
		logStack(ownLogger(s.opts.Logger), why, stack)
	}
}

// failWhere is fail, with where the process was. It may be called again until it has an effect; still says whether there
// is a reason left when the process has answered.
func (l *loop) failWhere(cause, evidence string, still func() bool) {
	if l.failing {
		return
	}
	l.failing = true
	l.takeStack(evidence, func(s Stack) {
		l.failing = false
		if l.ending == nil && still() {
			l.fail(cause, evidence)
			l.ending.stack = &s
		}
	})
}

// killWhere kills the process, which is ending already, after it has said where it is.
func (l *loop) killWhere(why string) {
	l.takeStack(why, func(s Stack) {
		l.ending.stack = &s
		l.child.process.Kill()
	})
}

// terminateWhere sends SIGTERM to a process that was asked to end and has not, after it has said where it is.
func (l *loop) terminateWhere() {
	l.takeStack("it has not ended within half of the stop timeout", func(Stack) { l.terminate() })
}
