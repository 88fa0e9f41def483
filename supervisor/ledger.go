package supervisor

import (
	"container/list"
	"errors"
	"fmt"
	"sync"
)

var (
	errSealed = errors.New("the process takes no more requests")
	errFull   = errors.New("the process has taken its last request")
)

// call is one request in flight.
type call struct {
	id      string
	queue   string
	kind    string       // the task's type
	done    chan outcome // capacity 1: receives exactly once
	start   int64        // where its line begins in the stream to the process
	overdue bool         // cancelled long ago and still unanswered
	said    int64        // what count of the process' tail said when it was added

	progress func(fraction float64, message string) // nil: nobody asks
}

type outcome struct {
	reply Reply
	err   error
}

// ledger holds the requests in flight with one process, in the order in which
// their lines are written.
type ledger struct {
	mu       sync.Mutex // guards all below, and keeps order and writes in step
	calls    map[string]*list.Element
	order    *list.List // of *call, oldest first
	max      int        // accept at most this many in all; 0: any number
	accepted int
	overdue  int
	sealed   bool
	idle     func() // called once when all that is left is overdue; nil: nobody waits
	finished int64  // answered requests, ever
	tail     *tail  // of the process; may be nil
	said     int64  // what its count said at the last answer
}

func newLedger(maxTasks int, t *tail) *ledger {
	return &ledger{tail: t, calls: map[string]*list.Element{}, order: list.New(), max: maxTasks}
}

// add registers a request and hands its line to write while the order is
// held. full tells that it was the last one this process may take.
func (l *ledger) add(r Request, write func() int64) (c *call, full bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sealed {
		return nil, false, errSealed
	}
	if l.max > 0 && l.accepted >= l.max {
		return nil, false, errFull
	}
	if _, ok := l.calls[r.TaskID]; ok {
		return nil, false, fmt.Errorf("%w: %q", ErrDuplicate, r.TaskID)
	}
	c = &call{id: r.TaskID, queue: r.Queue, kind: r.Type, progress: r.Progress, done: make(chan outcome, 1), said: l.tail.count()}
	c.start = write()
	l.calls[r.TaskID] = l.order.PushBack(c)
	l.accepted++
	return c, l.max > 0 && l.accepted == l.max, nil
}

// answer settles one request; false: no such request is in flight.
func (l *ledger) answer(id string, o outcome) bool {
	l.mu.Lock()
	e, ok := l.calls[id]
	if !ok {
		l.mu.Unlock()
		return false
	}
	l.finished++
	l.said = l.tail.count()
	c := l.remove(e)
	idle := l.takeIdle()
	l.mu.Unlock()
	c.done <- o
	if idle != nil {
		idle()
	}
	return true
}

// find returns the request in flight with this id; nil: there is none.
func (l *ledger) find(id string) *call {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.calls[id]; ok {
		return e.Value.(*call)
	}
	return nil
}

// remove needs mu.
func (l *ledger) remove(e *list.Element) *call {
	c := l.order.Remove(e).(*call)
	delete(l.calls, c.id)
	if c.overdue {
		l.overdue--
	}
	return c
}

// takeIdle needs mu; it returns the waiting callback when its time has come.
func (l *ledger) takeIdle() func() {
	if l.idle == nil || len(l.calls) > l.overdue {
		return nil
	}
	f := l.idle
	l.idle = nil
	return f
}

// oldest is the id of the oldest request; empty: none.
func (l *ledger) oldest() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.order.Front(); e != nil {
		return e.Value.(*call).id
	}
	return ""
}

// spoken returns what count of the tail said when the request that runs now began, or the oldest of those that do: what
// was written before is of earlier ones. One that runs in the order of the requests began when the one before it was
// answered. false: there is no request.
func (l *ledger) spoken(inOrder bool) (count int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.order.Front()
	if e == nil {
		return 0, false
	}
	count = e.Value.(*call).said
	if inOrder {
		count = max(count, l.said)
	}
	return count, true
}

// late marks c as overdue; false: it has been answered meanwhile.
func (l *ledger) late(c *call) (inFlight, oldest bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.calls[c.id]
	if !ok || e.Value.(*call) != c {
		return false, false
	}
	if !c.overdue {
		c.overdue = true
		l.overdue++
	}
	return true, l.order.Front() == e
}

// seal refuses further requests and reports how many are in flight and how
// many of those are overdue. When some are not, idle is called once all are.
func (l *ledger) seal(idle func()) (inFlight, overdue int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sealed = true
	l.idle = nil
	if len(l.calls) > l.overdue {
		l.idle = idle
	}
	return len(l.calls), l.overdue
}

func (l *ledger) answered() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.finished
}

// settle ends everything in flight; verdict gets the requests oldest first.
func (l *ledger) settle(verdict func(i int, c *call) error) {
	l.mu.Lock()
	l.sealed, l.idle = true, nil
	var ended []*call
	for e := l.order.Front(); e != nil; e = l.order.Front() {
		ended = append(ended, l.remove(e))
	}
	l.mu.Unlock()
	for i, c := range ended {
		c.done <- outcome{err: verdict(i, c)}
	}
}
