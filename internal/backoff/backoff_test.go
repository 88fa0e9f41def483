package backoff

import (
	"math"
	"testing"
	"time"
)

func TestDelayDoublesUpToMax(t *testing.T) {
	p := Policy{First: time.Second, Max: 5 * time.Second, Jitter: 0.5}
	for _, c := range []struct {
		n      int
		chance float64
		want   time.Duration
	}{
		{1, 0, time.Second}, {2, 0, 2 * time.Second}, {3, 0, 4 * time.Second}, {4, 0, 5 * time.Second},
		{math.MaxInt, 0, 5 * time.Second}, {1, 1, time.Second / 2}, {4, 0.5, 3750 * time.Millisecond},
	} {
		if got := p.DelayAt(c.n, c.chance); got != c.want {
			t.Errorf("DelayAt(%d, %v) = %v, want %v", c.n, c.chance, got, c.want)
		}
	}
	for n := 1; n < 10; n++ {
		if got, most := p.Delay(n), p.DelayAt(n, 0); got > most || got < most/2 {
			t.Errorf("Delay(%d) = %v, want between %v and %v", n, got, most/2, most)
		}
	}
}
