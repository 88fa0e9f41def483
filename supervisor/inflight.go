package supervisor

import (
	"container/list"
	"errors"
	"fmt"
	"sync"
)

var (
	errClosed = errors.New("the process takes no more requests")
	errFull   = errors.New("the process has taken its last request")
)

// entry is one request in flight.
type entry struct {
	id          string
	queue       string
	taskType    string
	done        chan outcome // capacity 1: receives exactly once
	start       int64        // where its line begins in the stream to the process
	overdue     bool         // cancelled long ago and still unanswered
	linesBefore int64        // how many lines of stderr the process had written when it was added

	progress func(fraction float64, message string) // nil: nobody asks
}

type outcome struct {
	reply Reply
	err   error
}

// inFlightTable holds the requests in flight with one process, in the order in which their lines are written.
type inFlightTable struct {
	mu          sync.Mutex // guards all below, and keeps order and writes in step
	entries     map[string]*list.Element
	order       *list.List // of *entry, oldest first
	max         int        // accept at most this many in all; 0: any number
	accepted    int
	overdue     int
	closed      bool
	idle        func()      // called once when all that is left is overdue; nil: nobody waits
	finished    int64       // answered requests, ever
	tail        *outputTail // of the process; may be nil
	linesBefore int64       // how many lines of stderr the process had written at the last answer
}

func newInFlightTable(maxTasks int, t *outputTail) *inFlightTable {
	return &inFlightTable{tail: t, entries: map[string]*list.Element{}, order: list.New(), max: maxTasks}
}

// add registers a request and hands its line to write while the order is held. full reports that it was the last one
// that this process may take.
func (t *inFlightTable) add(r Request, write func() int64) (e *entry, full bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, false, errClosed
	}
	if t.max > 0 && t.accepted >= t.max {
		return nil, false, errFull
	}
	if _, ok := t.entries[r.TaskID]; ok {
		return nil, false, fmt.Errorf("%w: %q", ErrDuplicate, r.TaskID)
	}
	e = &entry{
		id: r.TaskID, queue: r.Queue, taskType: r.Type, progress: r.Progress, done: make(chan outcome, 1),
		linesBefore: t.tail.count(),
	}
	e.start = write()
	t.entries[r.TaskID] = t.order.PushBack(e)
	t.accepted++
	return e, t.max > 0 && t.accepted == t.max, nil
}

// answer ends one request; false: no such request is in flight.
func (t *inFlightTable) answer(id string, o outcome) bool {
	t.mu.Lock()
	element, ok := t.entries[id]
	if !ok {
		t.mu.Unlock()
		return false
	}
	t.finished++
	t.linesBefore = t.tail.count()
	e := t.remove(element)
	idle := t.takeIdle()
	t.mu.Unlock()
	e.done <- o
	if idle != nil {
		idle()
	}
	return true
}

// find returns the request in flight with this id; nil: there is none.
func (t *inFlightTable) find(id string) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	if element, ok := t.entries[id]; ok {
		return element.Value.(*entry)
	}
	return nil
}

// remove needs mu.
func (t *inFlightTable) remove(element *list.Element) *entry {
	e := t.order.Remove(element).(*entry)
	delete(t.entries, e.id)
	if e.overdue {
		t.overdue--
	}
	return e
}

// takeIdle needs mu; it returns the waiting callback when all that is left is overdue.
func (t *inFlightTable) takeIdle() func() {
	if t.idle == nil || len(t.entries) > t.overdue {
		return nil
	}
	f := t.idle
	t.idle = nil
	return f
}

// oldest is the id of the oldest request; empty: none.
func (t *inFlightTable) oldest() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if element := t.order.Front(); element != nil {
		return element.Value.(*entry).id
	}
	return ""
}

// linesBeforeRunning returns how many lines of stderr the process had written when the request that runs now began, or
// the oldest of those that do: these lines are of earlier ones. One that runs in the order of the requests began when
// the one before it was answered. false: there is no request.
func (t *inFlightTable) linesBeforeRunning(inOrder bool) (count int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	element := t.order.Front()
	if element == nil {
		return 0, false
	}
	count = element.Value.(*entry).linesBefore
	if inOrder {
		count = max(count, t.linesBefore)
	}
	return count, true
}

// markOverdue marks e as overdue. inFlight is false when it has been answered meanwhile.
func (t *inFlightTable) markOverdue(e *entry) (inFlight, oldest bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	element, ok := t.entries[e.id]
	if !ok || element.Value.(*entry) != e {
		return false, false
	}
	if !e.overdue {
		e.overdue = true
		t.overdue++
	}
	return true, t.order.Front() == element
}

// close refuses further requests and returns how many are in flight and how many of those are overdue. When some are
// not, idle is called once all are.
func (t *inFlightTable) close(idle func()) (inFlight, overdue int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.idle = nil
	if len(t.entries) > t.overdue {
		t.idle = idle
	}
	return len(t.entries), t.overdue
}

// answered is how many requests the process has answered, ever.
func (t *inFlightTable) answered() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.finished
}

// failAll ends everything in flight with the error that reason returns, which gets the requests oldest first.
func (t *inFlightTable) failAll(reason func(i int, e *entry) error) {
	t.mu.Lock()
	t.closed, t.idle = true, nil
	var ended []*entry
	for element := t.order.Front(); element != nil; element = t.order.Front() {
		ended = append(ended, t.remove(element))
	}
	t.mu.Unlock()
	for i, e := range ended {
		e.done <- outcome{err: reason(i, e)}
	}
}
