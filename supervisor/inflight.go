package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

var (
	errClosed  = errors.New("the process takes no more requests")
	errFull    = errors.New("the process has taken its last request")
	errBusy    = errors.New("the process has as many requests as it may have")
	errChecked = errors.New("the process is asked whether it can do its work")
)

// entry is one request in flight. The table's lock guards what changes.
type entry struct {
	id       string
	queue    string
	taskType string
	caller   Caller
	start    int64 // where its line begins in the stream to the process

	ordered    bool // it is in the table's list: it runs in order with the others there
	prev, next *entry
	submitted  time.Time
	began      time.Time // what Began was told; zero: it waits
	turn       time.Time // since when nothing in the list is before it; zero: something is
	cancelled  time.Time // zero: it is not
	overdue    bool      // cancelled long ago and still unanswered
	withdrawn  bool      // the process was asked to give it back
	progressed time.Time // when it last reported progress; zero: never
	idle       time.Time // marked: it does nothing that is to be seen since then; zero: it is not
	mean       *mean     // of its type
	expected   mean      // of its type, when it was submitted

	linesBefore int64 // how many lines of stderr the process had written when its turn came

	// While the goroutine that submits it calls Began, another may learn how it ends: then that is kept here, since
	// Ended must come after Began.
	telling bool
	ended   *outcome
}

// unanswered is the outcome of a request that ran until its process ended.
func (e *entry) unanswered(err error, now time.Time) outcome {
	o := outcome{err: err}
	if !e.began.IsZero() {
		o.reply.Took = now.Sub(e.began)
	}
	return o
}

type outcome struct {
	reply Reply
	timed bool // the process says how long the handler ran
	err   error
}

// inFlightTable holds the requests in flight with one process. Those that run in order form a list, the oldest first,
// in the order in which their lines are written; it says which of them has begun.
//
// Callers are told without the lock. One goroutine at a time tells them of a request, beside the one that submits it:
// the reader of stdout, and the event loop once the reader has ended.
type inFlightTable struct {
	limit int // requests at once
	max   int // accept at most this many in all; 0: any number
	// maxFailures in a row are a breakage; 0: none are.
	maxFailures int
	inFlight    *atomic.Int64  // of the snapshots
	tail        *outputTail    // of the process; may be nil
	onBreakage  func(breakage) // called at most once for each cause; may be nil

	mu           sync.Mutex // guards all below, and keeps order and writes in step
	kinds        kinds
	withdraws    bool // the process gives back what has not begun
	entries      map[string]*entry
	first, last  *entry // of the list
	accepted     int
	turns        int           // entries whose turn has come
	waiting      int           // entries that have not begun
	unknown      int           // of these, how many have a type that was not measured
	expected     time.Duration // how long the others will run, by what was measured when they came
	overdue      int
	closed       bool
	checking     bool   // a check is unanswered: the process gets no request
	quiet        func() // not nil: the process gets no more requests, and this is called whenever none is left
	broken       bool   // the process has said so: no request begins any more
	failed       int64  // answers with an error, ever
	failedInARow int    // of them, since the last success
	idle         func() // called once when nothing is left that may end; nil: nobody waits
	finished     int64  // answered requests, ever
	timed        bool   // the process tells how long a task ran; when it does not, the task did not run
	durations    durations
	heldUp       *entry // it ran when others behind it were asked back; nil: none, or it has ended
}

func newInFlightTable(o Options, inFlight *atomic.Int64, tail *outputTail) *inFlightTable {
	return &inFlightTable{
		limit: o.Concurrency, max: o.MaxTasks, maxFailures: o.MaxConsecutiveFailures, inFlight: inFlight, tail: tail,
		entries: map[string]*entry{},
	}
}

// announce takes what the process says of itself before it gets a request.
func (t *inFlightTable) announce(r wire.Ready) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kinds, t.withdraws = kindsOf(r), r.Protocol >= 2 && r.Has(wire.FeatureWithdraw)
}

// add registers a request and hands its line to write while the order is held. full reports that it was the last one
// that this process may take. When e.telling is set, the request has begun: the caller must be told so, and then told
// must be called.
func (t *inFlightTable) add(r *Request, now time.Time, write func() int64) (e *entry, full bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return nil, false, errClosed
	case t.full():
		return nil, false, errFull
	case t.checking:
		return nil, false, errChecked
	case len(t.entries) >= t.limit:
		return nil, false, errBusy
	case t.entries[r.TaskID] != nil:
		return nil, false, fmt.Errorf("%w: %q", ErrDuplicate, r.TaskID)
	}
	e = &entry{
		id: r.TaskID, queue: r.Queue, taskType: r.Type, caller: r.Caller, submitted: now,
		ordered: t.kinds.inOrder(r.Type), mean: t.durations.of(r.Type),
	}
	e.expected = *e.mean
	e.start = write()
	t.entries[e.id] = e
	t.accepted++
	t.inFlight.Add(1)
	t.count(e, 1)
	if e.ordered {
		t.link(e)
	}
	if !e.ordered || t.first == e {
		t.takeTurn(e, now)
	} else if !t.kinds.told {
		t.begin(e, now)
	}
	e.telling = !e.began.IsZero()
	return e, t.full(), nil
}

// told is called when the caller of a request that began with add knows that.
func (t *inFlightTable) told(e *entry) {
	t.mu.Lock()
	e.telling = false
	o := e.ended
	t.mu.Unlock()
	if o != nil {
		e.caller.Ended(o.reply, o.err)
	}
}

// end tells a request that was removed how it ended, unless told does.
func (t *inFlightTable) end(e *entry, o outcome) {
	t.mu.Lock()
	telling := e.telling
	if telling {
		e.ended = &o
	}
	t.mu.Unlock()
	if !telling {
		e.caller.Ended(o.reply, o.err)
	}
}

// answer ends one request; false: no such request is in flight.
func (t *inFlightTable) answer(id string, o outcome, now time.Time) bool {
	t.mu.Lock()
	e := t.entries[id]
	if e == nil {
		t.mu.Unlock()
		return false
	}
	t.finished++
	if !e.began.IsZero() {
		if o.timed {
			t.timed = true
		} else {
			o.reply.Took = now.Sub(e.began)
		}
		if o.timed || !t.timed {
			t.measure(e, o.reply.Took)
		}
	}
	wrong := t.judge(o)
	next := t.remove(e, now)
	t.leave(e, next, o, now)
	if wrong != nil && t.onBreakage != nil {
		t.onBreakage(*wrong)
	}
	return true
}

// giveBack ends one request that the process was asked to give back; false: there is none.
func (t *inFlightTable) giveBack(id string, now time.Time) bool {
	t.mu.Lock()
	e := t.entries[id]
	if e == nil || !e.withdrawn {
		t.mu.Unlock()
		return false
	}
	t.accepted-- // max_tasks counts what runs
	next := t.remove(e, now)
	t.leave(e, next, outcome{err: fmt.Errorf("%w: the process gave it back", ErrNotRun)}, now)
	return true
}

// leave unlocks the table and tells those whom the end of e concerns.
func (t *inFlightTable) leave(e, next *entry, o outcome, now time.Time) {
	idle, quiet := t.takeIdle(), t.quiet
	if len(t.entries) > 0 {
		quiet = nil
	}
	t.mu.Unlock()
	t.end(e, o)
	if next != nil {
		next.caller.Began(now)
	}
	if idle != nil {
		idle()
	}
	if quiet != nil {
		quiet()
	}
}

// takeAll refuses further requests and removes those in flight, oldest first. The caller must end them.
func (t *inFlightTable) takeAll() []*entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed, t.idle = true, nil
	all := make([]*entry, 0, len(t.entries))
	for _, e := range t.entries {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *entry) int { return cmp.Compare(a.start, b.start) })
	for i := range all {
		t.remove(all[len(all)-1-i], time.Time{}) // the last first, so that nothing begins
	}
	return all
}

// close refuses further requests. It returns how many are in flight and how many of these may still end. When some may,
// idle is called once none is left.
func (t *inFlightTable) close(idle func()) (inFlight, mayEnd int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.idle = nil
	mayEnd = t.mayEnd()
	if mayEnd > 0 {
		t.idle = idle
	}
	return len(t.entries), mayEnd
}

// find returns the request in flight with this id; nil: there is none.
func (t *inFlightTable) find(id string) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entries[id]
}

// answered is how many requests the process has answered, ever.
func (t *inFlightTable) answered() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.finished
}

// isFull reports whether the process has taken its last request.
func (t *inFlightTable) isFull() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.full()
}

// room says what may be submitted now.
func (t *inFlightTable) room(now time.Time) Room {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := load{
		left: t.limit - len(t.entries), oneByOne: t.kinds.told && t.kinds.oneByOne, withdraws: t.withdraws,
		waiting: t.waiting, unknown: t.unknown, expected: t.expected,
		next: t.durations.inOrder, beside: t.durations.sideBySide, concurrent: len(t.entries) - t.waiting,
	}
	if t.max > 0 {
		l.left = min(l.left, t.max-t.accepted)
	}
	if t.closed || t.checking || t.quiet != nil {
		l.left = 0
	}
	if e := t.first; e != nil && t.kinds.told {
		l.running, l.ran, l.runs, l.withdrawn = true, now.Sub(e.began), *e.mean, t.heldUp == e
		l.concurrent--
	}
	return l.room()
}
