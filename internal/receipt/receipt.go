// Package receipt judges a part of this process that asks Redis for something again and again by the answers that it gets.
package receipt

import (
	"sync"
	"time"
)

const (
	// refusedAfter is how long a part has to be refused again and again, without a success between, until that counts.
	refusedAfter = 3 * time.Second
	// answeredWithin bounds how long one command is waited for until that counts: a Redis that takes seconds for each, and
	// one more for a new connection, is slow and works.
	answeredWithin = 4500 * time.Millisecond
	// wokenWithin bounds how late what is due is begun.
	wokenWithin = 4 * time.Second
)

// Failure is that nothing gets through.
type Failure struct {
	Since    time.Time
	Err      error // what Redis or the connection said last; nil when nothing was said
	NotTried bool  // nothing was tried although it is due: something hangs in this process
}

// Log are the answers that one part of the process gets. The zero Log expects nothing. It is safe for concurrent use.
type Log struct {
	// Running returns how much of the time between two moments this process was running: a pause of the whole process is no
	// fault of what was due in it. nil: all of it. It must be set before the Log is used.
	Running func(since, now time.Time) time.Duration

	mu       sync.Mutex // guards the rest
	last     time.Time  // when the last exchange that has succeeded was begun; zero: none has
	expects  bool
	due      time.Time // of the next exchange at the latest
	asked    time.Time // when the command under way was sent; zero: none is
	since    time.Time // the first failure since the last success; zero: none
	failures int
	err      error
}

// Ask notes that a command is sent.
func (r *Log) Ask() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = time.Now()
}

// Answer notes the outcome of an exchange, of one command or several, that was begun at that time.
func (r *Log) Answer(begun time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = time.Time{}
	// What was due is done: until the next is arranged this moment counts, or a slow answer would look like a part that
	// hangs.
	if now := time.Now(); r.due.Before(now) {
		r.due = now
	}
	if err == nil {
		r.last, r.since, r.failures, r.err = begun, time.Time{}, 0, nil
		return
	}
	if r.failures == 0 {
		r.since = begun
	}
	r.failures++
	r.err = err
}

// Expect notes when the next exchange is due; a zero time: none is any more, and what failed is over.
func (r *Log) Expect(due time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expects, r.due = !due.IsZero(), due
	if !r.expects {
		r.asked, r.since, r.failures, r.err = time.Time{}, time.Time{}, 0, nil
	}
}

// Judge says what is wrong now; nil: nothing is. One exchange that fails among others is no failure.
func (r *Log) Judge(now time.Time) *Failure {
	r.mu.Lock()
	defer r.mu.Unlock()
	since := r.asked
	if r.failures > 0 {
		since = r.since
	}
	switch {
	case !r.expects:
	case r.failures > 1 && r.late(since, now) >= refusedAfter, !since.IsZero() && r.late(since, now) >= answeredWithin:
		return &Failure{Since: since, Err: r.err}
	case r.asked.IsZero() && r.late(r.due, now) >= wokenWithin:
		return &Failure{Since: r.due, NotTried: true}
	}
	return nil
}

// late is for how long the process was running since a moment.
func (r *Log) late(since, now time.Time) time.Duration {
	if r.Running == nil {
		return now.Sub(since)
	}
	return r.Running(since, now)
}

// Last returns when the last exchange that has succeeded was begun; zero: none has.
func (r *Log) Last() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}
