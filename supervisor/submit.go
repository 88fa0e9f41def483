package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Do gives the process one request and blocks until it has answered or is gone. It may be called from any number of
// goroutines; at most Options.Concurrency requests are with the process at once, the others wait.
//
// When ctx ends before the request was given to the process, Do returns ErrNotRun. When it ends afterwards, the process
// is told to cancel the task (protocol 2) and Do goes on waiting for the answer; a task that does not answer within
// StopTimeout is ended by replacing the process.
//
// Errors: *CrashError, *ReplacedError, ErrStopped, ErrNotRun, ErrDuplicate (possibly wrapped), or an error for a
// request without id. A failure of the task itself is no error: it is in Reply.Error.
func (s *Supervisor) Do(ctx context.Context, r Request) (Reply, error) {
	line, err := r.encode()
	if err != nil {
		return Reply{}, err
	}
	if size := int64(len(line)); size > s.opts.MaxMessage {
		return Reply{Error: fmt.Sprintf("the task's line has %d bytes; max_message allows %d: send less, or raise max_message",
			size, s.opts.MaxMessage)}, nil
	}
	for {
		c, wait, why, changed := s.gate.current()
		if c == nil && !wait {
			return Reply{}, fmt.Errorf("%w: %s", ErrNotRun, why)
		}
		if c != nil {
			select {
			case s.slots <- struct{}{}:
			case <-changed:
				continue
			case <-ctx.Done():
				return Reply{}, notRun(ctx)
			}
			if ctx.Err() != nil {
				<-s.slots
				return Reply{}, notRun(ctx)
			}
			e, err := c.submit(r, line)
			if err == nil {
				o := s.await(ctx, c, e)
				<-s.slots
				return o.reply, o.err
			}
			<-s.slots
			if !errors.Is(err, errClosed) && !errors.Is(err, errFull) {
				return Reply{}, err
			}
		}
		// This process takes no more; the event loop is about to say what comes next.
		select {
		case <-changed:
		case <-ctx.Done():
			return Reply{}, notRun(ctx)
		}
	}
}

func notRun(ctx context.Context) error {
	return fmt.Errorf("%w: %w", ErrNotRun, context.Cause(ctx))
}

// await waits for the outcome of a request in flight.
func (s *Supervisor) await(ctx context.Context, c *child, e *entry) outcome {
	s.snapshots.inFlight.Add(1)
	defer s.snapshots.inFlight.Add(-1)
	select {
	case o := <-e.done:
		return o
	case <-ctx.Done():
	}
	c.cancel(e)
	// Reported again each time: with synchronous handlers a task may be overdue long before it begins.
	overdue := time.NewTicker(s.opts.StopTimeout)
	defer overdue.Stop()
	for {
		select {
		case o := <-e.done:
			return o
		case <-overdue.C:
			c.post(event{kind: eventOverdue, child: c, request: e})
		}
	}
}
