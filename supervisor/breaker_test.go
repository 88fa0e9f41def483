package supervisor

import (
	"testing"
	"time"
)

func TestBreakerDelayDoublesUpToItsBound(t *testing.T) {
	for crashes, want := range map[int]int{1: 1, 2: 2, 3: 4, 4: 8, 5: 10, 1000: 10} {
		b := breaker{policy: RestartPolicy{Max: 1000, Window: time.Hour, InitialDelay: time.Second, MaxDelay: 10 * time.Second}}
		var full, half time.Duration
		for n := range crashes {
			if n == crashes-1 {
				half, _ = (&breaker{policy: b.policy, crashes: append([]time.Time(nil), b.crashes...)}).crash(time.Unix(0, 0), 0.5)
			}
			full, _ = b.crash(time.Unix(0, 0), 0)
		}
		if full != time.Duration(want)*time.Second || half != full*3/4 {
			t.Errorf("after crash %d: %v, with half the jitter %v; want %d s, three quarters of it", crashes, full, half, want)
		}
	}
}

func TestBreaker(t *testing.T) {
	b := breaker{policy: RestartPolicy{Max: 2, Window: time.Minute, InitialDelay: time.Second, MaxDelay: time.Hour}}
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	step := func(s int, wantDelay time.Duration, wantOK bool) {
		t.Helper()
		if d, ok := b.crash(at(s), 0); d != wantDelay || ok != wantOK {
			t.Errorf("crash at %d s: delay %v, %v; want %v, %v", s, d, ok, wantDelay, wantOK)
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
		t.Error("Max 0 allowed a restart, want none")
	}
}
