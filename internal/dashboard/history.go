package dashboard

import (
	"math"
	"sync"
	"time"
)

// The history is kept in slots of historyStep, the present one included, for historySpan.
const (
	historyStep  = 5 * time.Second
	historySpan  = 15 * time.Minute
	historySlots = int(historySpan / historyStep)
	// quantileSlots is how many slots one point of a duration chart looks back: few tasks end within five seconds.
	quantileSlots = 6
	rateSlots     = int(time.Minute / historyStep)
	// heldSlots is how many slots a measurement of a queue stands for, its own included, until the next one.
	heldSlots = 3
)

// Durations are counted in buckets that are a fourth of an octave wide, from 2^-14 s (61 µs) to 2^18 s (three days): a
// quantile is off by 9 % at most, and never outside what was measured.
const (
	bucketsPerOctave = 4
	lowestOctave     = -14
	octaves          = 32
	durationBuckets  = octaves * bucketsPerOctave
)

// history remembers what happened in the last fifteen minutes. Every value belongs to the slot in which it was told. It
// is safe for concurrent use, and cheap enough to be told of every task.
type history struct {
	now func() time.Time

	began time.Time
	first int64 // number of the slot in which it began

	mu     sync.Mutex // guards the rest
	newest int64      // number of the present slot: time since the epoch by historyStep
	work   [historySlots]workSlot
	queues map[string]*queueSlots
}

type workSlot struct {
	finished, failed  int
	took              [durationBuckets]uint32
	shortest, longest time.Duration // of what finished
}

// queueSlots are the measurements of one queue; NaN where there is none.
type queueSlots struct {
	pending, latency [historySlots]float64
}

func newHistory(now func() time.Time) *history {
	h := &history{now: now, queues: make(map[string]*queueSlots)}
	h.began, h.first = now(), h.slot()
	h.newest = h.first
	return h
}

func (h *history) slot() int64 { return h.now().UnixNano() / int64(historyStep) }

// advance begins the slots that are due. The caller holds mu.
func (h *history) advance() {
	slot := h.slot()
	if slot <= h.newest { // a clock that was set back finds its slots again
		return
	}
	for n := max(h.newest+1, slot-int64(historySlots)+1); n <= slot; n++ {
		i := n % int64(historySlots)
		h.work[i] = workSlot{}
		for name, q := range h.queues {
			q.pending[i], q.latency[i] = math.NaN(), math.NaN()
			if q.empty() {
				delete(h.queues, name)
			}
		}
	}
	h.newest = slot
}

func (q *queueSlots) empty() bool {
	for _, v := range q.pending {
		if !math.IsNaN(v) {
			return false
		}
	}
	return true
}

// finished counts a task that has ended.
func (h *history) finished(took time.Duration, failed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.advance()
	s := &h.work[h.newest%int64(historySlots)]
	if s.shortest = min(s.shortest, took); s.finished == 0 {
		s.shortest = took
	}
	s.longest = max(s.longest, took)
	s.finished++
	if failed {
		s.failed++
	}
	s.took[bucketOf(took)]++
}

// measured records the depth of each queue that could be read.
func (h *history) measured(queues []Queue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.advance()
	for _, q := range queues {
		if q.Err != nil {
			continue
		}
		s := h.queues[q.Name]
		if s == nil {
			s = &queueSlots{}
			for i := range s.pending {
				s.pending[i], s.latency[i] = math.NaN(), math.NaN()
			}
			h.queues[q.Name] = s
		}
		i := h.newest % int64(historySlots)
		s.pending[i] = float64(q.Pending)
		if q.Latency >= 0 {
			s.latency[i] = q.Latency.Seconds()
		}
	}
}

// queue returns what was measured of a queue, oldest first, the present slot included. A measurement stands for the two
// slots after its own too.
func (h *history) queue(name string) (pending, latency []float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.advance()
	q := h.queues[name]
	if q == nil {
		return nil, nil
	}
	held := -1
	for n := h.newest - int64(historySlots) + 1; n <= h.newest; n++ {
		i := n % int64(historySlots)
		if !math.IsNaN(q.pending[i]) {
			held = len(pending)
		} else if held >= 0 && len(pending)-held < heldSlots {
			pending, latency = append(pending, pending[held]), append(latency, latency[held])
			continue
		}
		pending, latency = append(pending, q.pending[i]), append(latency, q.latency[i])
	}
	return pending, latency
}

// load is a summary of the work in the history. The series are of finished slots only, oldest first.
type load struct {
	rate, failedShare float64       // over the last minute; the share is negative when nothing finished in it
	p50, p95          time.Duration // negative: nothing finished
	rates, failures   []float64     // a second; NaN before the history began
	p50s, p95s        []float64     // in seconds; NaN: nothing finished
}

func (h *history) load() load {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.advance()
	var l load
	var all, window distribution
	var finished, failed int
	first := h.newest - int64(historySlots) + 1
	for n := first; n <= h.newest; n++ {
		s := &h.work[n%int64(historySlots)]
		for i, count := range s.took {
			all.counts[i] += count
			window.counts[i] += count
		}
		if old := n - quantileSlots; old >= first {
			for i, count := range h.work[old%int64(historySlots)].took {
				window.counts[i] -= count
			}
		}
		window.shortest, window.longest = h.extremes(max(first, n-quantileSlots+1), n)
		if n >= h.newest-int64(rateSlots) {
			finished, failed = finished+s.finished, failed+s.failed
		}
		switch {
		case n == h.newest:
		case n < h.first:
			for _, series := range []*[]float64{&l.rates, &l.failures, &l.p50s, &l.p95s} {
				*series = append(*series, math.NaN())
			}
		default:
			l.rates = append(l.rates, float64(s.finished)/historyStep.Seconds())
			l.failures = append(l.failures, float64(s.failed)/historyStep.Seconds())
			l.p50s = append(l.p50s, window.quantile(0.5))
			l.p95s = append(l.p95s, window.quantile(0.95))
		}
	}
	present := h.now().Sub(time.Unix(0, h.newest*int64(historyStep)))
	over := time.Duration(rateSlots)*historyStep + min(max(present, 0), historyStep)
	over = max(time.Second, min(over, h.now().Sub(h.began)))
	l.rate = float64(finished) / over.Seconds()
	if l.failedShare = -1; finished > 0 {
		l.failedShare = float64(failed) / float64(finished)
	}
	all.shortest, all.longest = h.extremes(first, h.newest)
	l.p50, l.p95 = durationOf(all.quantile(0.5)), durationOf(all.quantile(0.95))
	return l
}

func bucketOf(took time.Duration) int {
	if took <= 0 {
		return 0
	}
	i := int(math.Floor((math.Log2(took.Seconds()) - lowestOctave) * bucketsPerOctave))
	return min(max(i, 0), durationBuckets-1)
}

// extremes returns the shortest and the longest duration of these slots; zero when nothing finished in them. The caller
// holds mu.
func (h *history) extremes(from, to int64) (shortest, longest time.Duration) {
	found := false
	for n := from; n <= to; n++ {
		s := &h.work[n%int64(historySlots)]
		if s.finished == 0 {
			continue
		}
		if !found || s.shortest < shortest {
			shortest = s.shortest
		}
		longest, found = max(longest, s.longest), true
	}
	return shortest, longest
}

// distribution is how long the tasks of some slots took.
type distribution struct {
	counts            [durationBuckets]uint32
	shortest, longest time.Duration
}

// quantile returns the q-quantile in seconds, NaN when nothing was counted. Within a bucket the durations are taken as
// spread evenly on the logarithmic scale.
func (d *distribution) quantile(q float64) float64 {
	var total float64
	for _, count := range d.counts {
		total += float64(count)
	}
	rank, below := q*total, 0.0
	for i, count := range d.counts {
		c := float64(count)
		if c > 0 && below+c >= rank {
			estimate := math.Exp2(lowestOctave + (float64(i)+(rank-below)/c)/bucketsPerOctave)
			return min(max(estimate, d.shortest.Seconds()), d.longest.Seconds())
		}
		below += c
	}
	return math.NaN()
}

func durationOf(seconds float64) time.Duration {
	if math.IsNaN(seconds) {
		return -1
	}
	return time.Duration(seconds * float64(time.Second))
}
