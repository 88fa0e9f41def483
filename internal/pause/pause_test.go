package pause

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestBetween(t *testing.T) {
	start := time.Unix(1000, 0)
	for _, c := range []struct{ gap, want time.Duration }{
		{time.Second, 0}, {5*time.Second + 100*time.Millisecond, 0}, {time.Minute, 59 * time.Second},
	} {
		if got := Between(start, start.Add(c.gap), time.Second); got != c.want {
			t.Errorf("a gap of %v at looks every second is a pause of %v, want %v", c.gap, got, c.want)
		}
	}
}

func TestPausesAreLeftOut(t *testing.T) {
	var w Watch
	start := time.Unix(1000, 0)
	at := start.Add
	for d := time.Duration(0); d < 10*time.Second; d += lookEvery {
		w.look(at(d))
	}
	if got := w.Running(start, at(10*time.Second)); got != 10*time.Second {
		t.Errorf("running for %v, want all of 10s", got)
	}
	now := at(time.Minute)
	for _, c := range []struct{ since, want time.Duration }{
		{0, 10*time.Second + lookEvery},
		{30 * time.Second, 0},
		{9 * time.Second, time.Second + lookEvery},
	} {
		if got := w.Running(at(c.since), now); got != c.want {
			t.Errorf("after a pause, running for %v since %v, want %v", got, c.since, c.want)
		}
	}
	if got := w.Running(now, now.Add(time.Second)); got != time.Second {
		t.Errorf("running for %v after the pause, want 1s", got)
	}
	for range 2 * mostPauses {
		now = now.Add(time.Minute)
		w.look(now)
	}
	if len(w.pauses) > mostPauses {
		t.Errorf("%d pauses are kept, want %d at most", len(w.pauses), mostPauses)
	}
}

// While it runs, nobody has to ask often for a long time to be no pause.
func TestRunLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Watch
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		begun := time.Now()
		time.Sleep(time.Hour)
		if got := w.Running(begun, time.Now()); got != time.Hour {
			t.Errorf("running for %v, want 1h", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
