package supervisor

import "time"

const (
	// prefetchTime is how far ahead requests are given to a process that runs them one at a time: what it is given
	// begins within this time, by what was measured.
	prefetchTime = 100 * time.Millisecond
	// enoughTime is how long what waits must last before more is kept back: the way to the process is much shorter.
	enoughTime = 10 * time.Millisecond
	// lateFactor times its mean, and prefetchTime at least, is how long a request may run before it counts as late.
	lateFactor = 4
	// meanWeight is the share of the last duration in a mean: one of meanWeight.
	meanWeight = 8
	// maxMeasured bounds the number of task types that are measured apart.
	maxMeasured = 1000
)

// Room says what may be submitted at a moment.
type Room struct {
	Free int     // further requests that may be submitted now
	Rate float64 // tasks a second that begin, by measured durations; 0: unknown, or none soon since a long one runs
	Idle bool    // a request that is submitted now begins now
}

// mean is an exponentially weighted mean of durations.
type mean struct {
	value time.Duration
	known bool // one was measured
}

func (m *mean) add(d time.Duration) {
	if !m.known {
		m.value, m.known = d, true
		return
	}
	m.value += (d - m.value) / meanWeight
}

// durations holds the mean duration of each task type, and over all that run one at a time and beside each other.
type durations struct {
	types      map[string]*mean
	others     mean // of the types beyond maxMeasured
	inOrder    mean
	sideBySide mean
}

// of returns the mean of a task type.
func (d *durations) of(taskType string) *mean {
	m := d.types[taskType]
	switch {
	case m != nil:
	case len(d.types) >= maxMeasured:
		m = &d.others
	default:
		m = &mean{}
		if d.types == nil {
			d.types = map[string]*mean{}
		}
		d.types[taskType] = m
	}
	return m
}

// load is what a process has in flight at a moment, as far as its room depends on it.
type load struct {
	left       int  // what Concurrency and max_tasks leave
	oneByOne   bool // some of its handlers run one at a time; the fields below tell how far these are
	withdraws  bool // it gives back what has not begun
	withdrawn  bool // it was asked to, and the request that ran then still runs
	running    bool
	ran        time.Duration // how long it has been running
	runs       mean          // of its type
	waiting    int           // requests that have not begun
	unknown    int           // of these, how many have a type that was not measured yet
	expected   time.Duration // how long the others will run
	next       mean          // of any request that runs one at a time
	concurrent int           // requests that run beside each other
	beside     mean          // of these
}

func (l load) room() Room {
	r := Room{Rate: l.rate()}
	if !l.oneByOne {
		r.Free = max(0, l.left)
		r.Idle = r.Free > 0
		return r
	}
	r.Free = l.refill(max(0, min(l.left, l.ahead())))
	r.Idle = r.Free > 0 && !l.running
	return r
}

// ahead is how many further requests may be given to a process that runs them one at a time: as many as will begin
// within prefetchTime. One may wait in any case, so that the process has the next at once, unless the one that runs
// takes longer than was expected: what waits behind it could be done by another worker.
func (l load) ahead() int {
	if l.running && (l.withdrawn || l.late()) {
		return 0
	}
	one := 1 - l.waiting
	if !l.running {
		one++
	}
	if !l.withdraws || !l.next.known || l.unknown > 0 || l.running && !l.runs.known {
		return one
	}
	spare := prefetchTime - l.remaining() - l.expected
	if spare < 0 {
		return one
	}
	return max(one, 1+int(spare/max(1, l.next.value)))
}

// refill is how many of the requests that have room are given now. While more wait there than would come, and for
// enoughTime, none is: a line that arrives makes the handler that runs wait for Python's lock, so they come many at a
// time. What is given later begins no later.
func (l load) refill(room int) int {
	if room < l.waiting && l.expected >= enoughTime {
		return 0
	}
	return room
}

// late reports whether the request that runs takes much longer than its type does.
func (l load) late() bool {
	return l.runs.known && l.ran > max(prefetchTime, lateFactor*l.runs.value)
}

// remaining is how long the request that runs goes on, by what was measured.
func (l load) remaining() time.Duration {
	if !l.running {
		return 0
	}
	return max(0, l.runs.value-l.ran)
}

func (l load) rate() float64 {
	rate := 0.0
	if l.concurrent > 0 && l.beside.known {
		rate = float64(l.concurrent) / perTask(l.beside)
	}
	soon := !l.running || l.runs.known && !l.late() && l.remaining() <= prefetchTime
	if l.oneByOne && l.next.known && soon && !l.withdrawn {
		rate += 1 / perTask(l.next)
	}
	return rate
}

// perTask is a mean in seconds that can be divided by.
func perTask(m mean) float64 { return max(m.value, time.Microsecond).Seconds() }
