package supervisor

import (
	"errors"
	"fmt"
	"time"
)

// Submit gives the process one request. It never blocks; r.Caller is told the rest, and its Ended may be called before
// Submit returns. Requests that begin in order do so in the order of the calls.
//
// Room says how many requests the process should have. More are taken up to Options.Concurrency; beyond that, and while
// there is no process that takes requests, the request ends at once with ErrNotRun. A planned replacement is such a
// time: Options.Events.RoomChanged tells when it is over.
func (s *Supervisor) Submit(r Request) {
	c, why := s.gate.current()
	if c == nil {
		r.Caller.Ended(Reply{}, fmt.Errorf("%w: %s", ErrNotRun, why))
		return
	}
	line, err := r.encode()
	if err != nil {
		r.Caller.Ended(Reply{}, err)
		return
	}
	if size := int64(len(line)); size > s.opts.MaxMessage {
		r.Caller.Ended(Reply{Error: fmt.Sprintf("the task's line has %d bytes; max_message allows %d: send less, or raise max_message",
			size, s.opts.MaxMessage)}, nil)
		return
	}
	if err := c.submit(&r, line); err != nil {
		if !errors.Is(err, ErrDuplicate) {
			err = fmt.Errorf("%w: %w", ErrNotRun, err)
		}
		r.Caller.Ended(Reply{}, err)
	}
}

// Cancel says that a task should end: its time is over, or it was cancelled. The process is told, if its protocol has
// that, and the request goes on: what the process answers counts. A task that runs on for StopTimeout is ended by
// replacing the process. Nothing happens when no such request is in flight.
func (s *Supervisor) Cancel(taskID string) {
	if c := s.gate.process.Load(); c != nil {
		c.cancel(taskID, time.Now())
	}
}

// Room says what may be submitted now. It is cheap. It grows with an answer, with time, and when
// Options.Events.RoomChanged is called.
func (s *Supervisor) Room() Room {
	c, _ := s.gate.current()
	if c == nil {
		return Room{}
	}
	return c.requests.room(time.Now())
}
