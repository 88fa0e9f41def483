package supervisor

import (
	"testing"
	"time"
)

func TestDelayDoublesUpToItsBound(t *testing.T) {
	p := RestartPolicy{InitialDelay: time.Second, MaxDelay: 10 * time.Second}
	for n, want := range map[int]int{1: 1, 2: 2, 3: 4, 4: 8, 5: 10, 1000: 10} {
		if got := delay(p, n, 0); got != time.Duration(want)*time.Second {
			t.Errorf("after crash %d: %v", n, got)
		}
	}
	if got := delay(p, 3, 0.5); got != 3*time.Second {
		t.Errorf("half the jitter takes a quarter: %v", got)
	}
}

func TestBreaker(t *testing.T) {
	b := breaker{policy: RestartPolicy{Max: 2, Window: time.Minute, InitialDelay: time.Second, MaxDelay: time.Hour}}
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	step := func(s int, wantDelay time.Duration, wantOK bool) {
		t.Helper()
		if d, ok := b.crash(at(s), 0); d != wantDelay || ok != wantOK {
			t.Errorf("at %d s: %v %v", s, d, ok)
		}
	}
	step(0, time.Second, true)
	step(10, 2*time.Second, true)
	step(20, 0, false)
	// The first two have left the window, the third has not.
	step(75, 2*time.Second, true)
	b.reset()
	step(76, time.Second, true)
	step(1000, time.Second, true)
}

func TestBreakerWithoutRestarts(t *testing.T) {
	b := breaker{policy: RestartPolicy{Max: 0, Window: time.Minute, InitialDelay: time.Second, MaxDelay: time.Hour}}
	if _, ok := b.crash(time.Unix(0, 0), 0); ok {
		t.Error("max 0 allowed a restart")
	}
}
