package heartbeat

import (
	"sync"
	"time"
)

const (
	// refusedAfter is how long heartbeats have to be refused again and again, without a success between, until that counts.
	refusedAfter = 3 * time.Second
	// answeredWithin bounds how long one command is waited for until that counts: a Redis that takes seconds for each, and
	// one more for a new connection, is slow and works.
	answeredWithin = 4500 * time.Millisecond
	// wokenWithin bounds how late a heartbeat is begun.
	wokenWithin = 4 * time.Second
)

// Failure is that Redis takes no heartbeats.
type Failure struct {
	Since    time.Time
	Err      error // what Redis or the connection said last; nil when nothing was said
	NotTried bool  // no write was tried although one is due: something hangs in this process
}

// receipts are the answers to the writes. It is safe for concurrent use.
type receipts struct {
	running func(since, now time.Time) time.Duration // Options.Running: all that is late is measured by it

	mu       sync.Mutex // guards the rest
	last     time.Time  // when the last write that has succeeded was begun; zero: none has
	runs     bool
	due      time.Time // of the next write at the latest
	asked    time.Time // when the command under way was sent; zero: none is
	since    time.Time // the first failure since the last success; zero: none
	failures int
	err      error
}

// ask notes that a command is sent.
func (r *receipts) ask() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = time.Now()
}

// answer notes the outcome of a write that was begun at that time.
func (r *receipts) answer(begun time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = time.Time{}
	// The write that was due is done: until the next one is arranged this moment counts, or a slow answer would look like a
	// writer that hangs.
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

// expect notes when the next write is due; a zero time: none is any more.
func (r *receipts) expect(due time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs, r.due = !due.IsZero(), due
}

// judge says what is wrong now; nil: nothing is.
func (r *receipts) judge(now time.Time) *Failure {
	r.mu.Lock()
	defer r.mu.Unlock()
	since := r.asked
	if r.failures > 0 {
		since = r.since
	}
	switch {
	case !r.runs:
	case r.failures > 1 && r.running(since, now) >= refusedAfter, !since.IsZero() && r.running(since, now) >= answeredWithin:
		return &Failure{Since: since, Err: r.err}
	case r.asked.IsZero() && r.running(r.due, now) >= wokenWithin:
		return &Failure{Since: r.due, NotTried: true}
	}
	return nil
}

// LastBeat returns when the heartbeat was last written with success, on this machine's clock; zero when it never was.
func (w *Writer) LastBeat() time.Time {
	w.receipts.mu.Lock()
	defer w.receipts.mu.Unlock()
	return w.receipts.last
}

// Failure says why Redis takes no heartbeats, while [Writer.Run] runs; nil when it takes them. One write that fails among
// others is no failure.
func (w *Writer) Failure() *Failure { return w.receipts.judge(time.Now()) }
