package supervisor

import "time"

// What changes the entries of an inFlightTable. All methods of this file but those that say so need its lock.

func (t *inFlightTable) full() bool { return t.max > 0 && t.accepted >= t.max }

// link appends e to the list of those that run in order.
func (t *inFlightTable) link(e *entry) {
	e.prev = t.last
	if t.last != nil {
		t.last.next = e
	} else {
		t.first = e
	}
	t.last = e
}

func (t *inFlightTable) unlink(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		t.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		t.last = e.prev
	}
	e.prev, e.next = nil, nil
}

// count adds e to what waits, n is 1, or takes it away, n is -1.
func (t *inFlightTable) count(e *entry, n int) {
	t.waiting += n
	if e.expected.known {
		t.expected += time.Duration(n) * e.expected.value
	} else {
		t.unknown += n
	}
}

// takeTurn says that nothing is before e any more.
func (t *inFlightTable) takeTurn(e *entry, now time.Time) {
	e.turn = now
	e.linesBefore = t.tail.count()
	t.turns++
	if e.began.IsZero() {
		t.begin(e, now)
	}
}

func (t *inFlightTable) begin(e *entry, now time.Time) {
	e.began = now
	t.count(e, -1)
}

// remove takes e out of the table. It returns the request that begins by that; nil: none does.
func (t *inFlightTable) remove(e *entry, now time.Time) (next *entry) {
	delete(t.entries, e.id)
	t.inFlight.Add(-1)
	if e.overdue {
		t.overdue--
	}
	if e.began.IsZero() {
		t.count(e, -1)
	}
	if !e.turn.IsZero() {
		t.turns--
	}
	if t.heldUp == e {
		t.heldUp = nil
	}
	if !e.ordered {
		return nil
	}
	t.unlink(e)
	head := t.first
	if head == nil || !head.turn.IsZero() || t.broken {
		return nil
	}
	begun := !head.began.IsZero()
	t.takeTurn(head, now)
	if begun {
		return nil
	}
	return head
}

// measure takes the duration of a request that has ended.
func (t *inFlightTable) measure(e *entry, took time.Duration) {
	e.mean.add(took)
	if e.ordered && t.kinds.told {
		t.durations.inOrder.add(took)
	} else {
		t.durations.sideBySide.add(took)
	}
}

// mayEnd is how many requests may still end by themselves. What is overdue may not, and when that holds up those behind
// it, these may not either. Of a broken process, what has not begun ends by being given back, where it does that.
func (t *inFlightTable) mayEnd() int {
	if t.broken && !t.withdraws {
		return len(t.entries) - t.waiting - t.overdue
	}
	if t.first != nil && t.first.overdue {
		return t.turns - t.overdue
	}
	return len(t.entries) - t.overdue
}

// takeIdle returns the waiting callback when nothing is left that may end.
func (t *inFlightTable) takeIdle() func() {
	if t.idle == nil || t.mayEnd() > 0 {
		return nil
	}
	f := t.idle
	t.idle = nil
	return f
}

// cancel notes that a request was cancelled; false: it is not in flight, or was cancelled before. It takes the lock.
func (t *inFlightTable) cancel(id string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[id]
	if e == nil || !e.cancelled.IsZero() {
		return false
	}
	e.cancelled = now
	return true
}

// markOverdue marks the requests that have run on for limit since they were cancelled, and returns the ids of those
// that it marked. One that was cancelled while it waited has limit from its turn. It takes the lock.
func (t *inFlightTable) markOverdue(now time.Time, limit time.Duration) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []string
	for _, e := range t.entries {
		if e.overdue || e.cancelled.IsZero() || e.turn.IsZero() {
			continue
		}
		if now.Sub(e.cancelled) >= limit && now.Sub(e.turn) >= limit {
			e.overdue = true
			t.overdue++
			ids = append(ids, e.id)
		}
	}
	return ids
}

// askBack returns the ids of the requests that have waited for age and are to be asked back, each once; none when the
// process does not give anything back. It takes the lock.
func (t *inFlightTable) askBack(now time.Time, age time.Duration) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.withdraws || t.waiting == 0 {
		return nil
	}
	var ids []string
	for e := t.first; e != nil; e = e.next {
		if e.began.IsZero() && !e.withdrawn && now.Sub(e.submitted) >= age {
			e.withdrawn = true
			ids = append(ids, e.id)
		}
	}
	if len(ids) > 0 {
		t.heldUp = t.first
	}
	return ids
}

// runningInOrder is the id of the request that runs, where that is certain: requests run in order, and no other runs
// beside it. Empty: it is not. It takes the lock.
func (t *inFlightTable) runningInOrder() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == nil || t.turns != 1 {
		return ""
	}
	return t.first.id
}

// linesBeforeRunning returns how many lines of stderr the process had written when the request that runs now began, or
// the oldest of those that do: these lines are of earlier ones. false: there is no request. It takes the lock.
func (t *inFlightTable) linesBeforeRunning() (count int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.entries {
		if !e.turn.IsZero() && (!ok || e.linesBefore < count) {
			count, ok = e.linesBefore, true
		}
	}
	return count, ok
}
