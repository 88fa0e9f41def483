package dashboard

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

func TestQuantilesAreWithinABucket(t *testing.T) {
	for _, took := range []time.Duration{time.Microsecond, 100 * time.Microsecond, 3 * time.Millisecond, time.Second, 90 * time.Second, 30 * time.Hour} {
		h := newHistory(time.Now)
		for range 100 {
			h.finished(took, false)
		}
		l := h.load()
		for _, got := range []time.Duration{l.p50, l.p95} {
			if ratio := got.Seconds() / took.Seconds(); ratio < 0.84 || ratio > 1.19 {
				t.Errorf("%v reads as %v", took, got)
			}
		}
	}
	h := newHistory(time.Now)
	for range 90 {
		h.finished(10*time.Millisecond, false)
	}
	for range 10 {
		h.finished(2*time.Second, true)
	}
	l := h.load()
	if l.p50 > 12*time.Millisecond || l.p95 < 1600*time.Millisecond || l.failedShare != 0.1 {
		t.Errorf("p50 %v, p95 %v, %v failed", l.p50, l.p95, l.failedShare)
	}
}

// Nothing takes longer than the longest, and a share of nothing is not zero.
func TestQuantilesStayWithinWhatWasMeasured(t *testing.T) {
	h := newHistory(time.Now)
	if l := h.load(); l.failedShare >= 0 {
		t.Errorf("%v of nothing failed", l.failedShare)
	}
	h.finished(2*time.Second, false)
	if l := h.load(); l.p50 != 2*time.Second || l.p95 != 2*time.Second || l.failedShare != 0 {
		t.Errorf("one task of 2 s: p50 %v, p95 %v", l.p50, l.p95)
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(time.Now)
		h.finished(10*time.Second, false)
		time.Sleep(historyStep)
		h.finished(9500*time.Millisecond, false)
		time.Sleep(quantileSlots * historyStep)
		l := h.load()
		if l.p95 != 10*time.Second || l.p50 < 9500*time.Millisecond {
			t.Errorf("of all: p50 %v, p95 %v", l.p50, l.p95)
		}
		// The longer one has left the window of the last point.
		if n := len(l.p95s); l.p95s[n-1] != 9.5 || l.p95s[n-2] != 10 {
			t.Errorf("p95s %v", l.p95s[n-3:])
		}
	})
}

func TestHistoryDropsOldSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(time.Now)
		if l := h.load(); l.rate != 0 || !math.IsNaN(l.rates[historySlots-2]) || l.p50 >= 0 || len(l.rates) != historySlots-1 || !math.IsNaN(l.p95s[0]) {
			t.Fatalf("empty: %+v", l)
		}
		for range 50 {
			h.finished(time.Second, false)
			h.measured([]Queue{
				{Name: "q", Depth: status.Depth{Pending: 7, Latency: 2 * time.Second}}, {Name: "broken", Depth: status.Depth{Err: errors.New("no")}},
				{Name: "unaged", Depth: status.Depth{Pending: 3, Latency: -1}},
			})
		}
		time.Sleep(historyStep)
		l := h.load()
		if last := l.rates[len(l.rates)-1]; last != 10 || !math.IsNaN(l.rates[len(l.rates)-2]) {
			t.Errorf("%v a second in the last slot, %v before the history began", last, l.rates[len(l.rates)-2])
		}
		if math.IsNaN(l.p50s[len(l.p50s)-1]) || !math.IsNaN(l.p50s[len(l.p50s)-2]) {
			t.Errorf("p50s %v", l.p50s[len(l.p50s)-3:])
		}
		if l.rate != 10 { // over its whole life, which is shorter than a minute
			t.Errorf("%v a second", l.rate)
		}
		pending, latency := h.queue("q")
		if n := len(pending); n != historySlots || pending[n-2] != 7 || latency[n-2] != 2 || pending[n-1] != 7 || !math.IsNaN(pending[n-3]) {
			t.Errorf("pending %v", pending[len(pending)-4:])
		}
		if pending, latency := h.queue("unaged"); pending[historySlots-2] != 3 || !math.IsNaN(latency[historySlots-2]) {
			t.Errorf("a queue whose oldest age is not known has pending %v, latency %v", pending[historySlots-2], latency[historySlots-2])
		}
		if pending, _ := h.queue("broken"); pending != nil {
			t.Errorf("a queue that could not be read has %v", pending)
		}
		time.Sleep(10 * historyStep)
		if pending, _ := h.queue("q"); pending[historySlots-10] != 7 || pending[historySlots-12] != 7 || !math.IsNaN(pending[historySlots-9]) {
			t.Errorf("a measurement is held for %v", pending[historySlots-13:])
		}
		if l := h.load(); l.rate < 0.8 || l.rate > 0.95 { // 50 in 55 s
			t.Errorf("%v a second", l.rate)
		}
		if l := h.load(); math.IsNaN(l.p50s[len(l.p50s)-6]) == math.IsNaN(l.p50s[len(l.p50s)-1]) {
			t.Errorf("the window of the durations does not move on: %v", l.p50s[len(l.p50s)-8:])
		}
		time.Sleep(historySpan)
		if l := h.load(); l.rate != 0 || l.p50 >= 0 {
			t.Errorf("after the span: %+v", l)
		}
		if pending, _ := h.queue("q"); pending != nil || len(h.queues) != 0 {
			t.Errorf("a queue that has not been seen for the whole span still has %v", pending)
		}
	})
}

func BenchmarkFinished(b *testing.B) {
	h := newHistory(time.Now)
	for b.Loop() {
		h.finished(time.Millisecond, false)
	}
}
