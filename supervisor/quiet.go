package supervisor

// How a process becomes and stays without requests while it is asked whether it can do its work. All methods of this
// file take the table's lock.

// hold has no more requests given to the process until release or beginCheck, and quiet called whenever none is left.
// It reports whether none is left already.
func (t *inFlightTable) hold(quiet func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.quiet = quiet
	return len(t.entries) == 0
}

// release ends hold.
func (t *inFlightTable) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.quiet = nil
}

// beginCheck writes a check, if no request is in flight, and refuses requests until endCheck. It ends hold then. It
// returns how many attempts had failed by then.
func (t *inFlightTable) beginCheck(write func()) (failed int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.checking || len(t.entries) > 0 {
		return 0, false
	}
	t.checking, t.quiet = true, nil
	write()
	return t.failed, true
}

func (t *inFlightTable) endCheck() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.checking = false
}

// failedAttempts is how many attempts the process has answered with an error, ever.
func (t *inFlightTable) failedAttempts() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// runsSideBySide reports whether some requests may run beside others for long.
func (t *inFlightTable) runsSideBySide() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kinds.sideBySide()
}

// breakage says why a process cannot be given any more tasks.
type breakage struct {
	cause string // CauseBroken or CauseFailures
	text  string // what has happened; what the process wrote of it stands below the first line
}

// judge looks at an answer, and returns what is wrong with the process by that; nil: nothing is. It needs the lock.
func (t *inFlightTable) judge(o outcome) *breakage {
	if o.reply.Error == "" {
		t.failedInARow = 0
		return nil
	}
	t.failed++
	t.failedInARow++
	switch {
	case t.broken:
		return nil // that is known
	case o.reply.Broken:
		t.broken, t.closed = true, true
		return &breakage{CauseBroken, "a task said that the process cannot work any more: " + o.reply.Error}
	case !o.reply.Retry, o.reply.HasRetryDelay:
		t.failedInARow-- // the handler has decided so: that says nothing of the process
	case t.maxFailures > 0 && t.failedInARow == t.maxFailures:
		t.closed = true
		return &breakage{CauseFailures, failuresText(t.failedInARow, o.reply.Error)}
	}
	return nil
}

// askAllBack returns the ids of all requests in flight that were not asked back yet. A process that is broken gives
// back what has not begun, whatever the order in which that would have been.
func (t *inFlightTable) askAllBack() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.withdraws {
		return nil
	}
	var ids []string
	for id, e := range t.entries {
		if !e.withdrawn {
			e.withdrawn = true
			ids = append(ids, id)
		}
	}
	return ids
}

// running returns how many requests have begun and may end by themselves.
func (t *inFlightTable) running() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.turns - t.overdue
}
