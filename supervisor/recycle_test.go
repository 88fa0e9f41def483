package supervisor

import (
	"strings"
	"testing"
	"time"
)

func testRecycling() recycling {
	return newRecycling(Options{MaxMemory: 100 << 20, Restart: RestartPolicy{Max: 2, Window: 10 * time.Minute}})
}

func TestRecyclingThatCannotHelpIsSuspended(t *testing.T) {
	r := testRecycling()
	r.least = 120 << 20
	if r.judge(130<<20, epoch) {
		t.Error("a process that was too large when it was loaded is replaced: the next one would be too")
	}
	if !strings.Contains(r.suspended, "120 MiB after loading") {
		t.Errorf("suspended: %q, want the size after loading", r.suspended)
	}
	// Loading may take memory that is given back later.
	if r.judge(90<<20, epoch) || r.suspended != "" {
		t.Errorf("below the limit: suspended %q", r.suspended)
	}
	if !r.judge(130<<20, epoch) || r.suspended != "" {
		t.Errorf("it has grown, and is not replaced: %q", r.suspended)
	}
}

func TestRecyclingHasABreaker(t *testing.T) {
	r := testRecycling()
	at := func(d time.Duration) time.Time { return epoch.Add(d) }
	r.least = 50 << 20
	for i, want := range []bool{true, true, false} {
		if got := r.judge(101<<20, at(time.Duration(i)*time.Minute)); got != want {
			t.Errorf("replaced for the %d. time within the window: %v, want %v", i+1, got, want)
		}
	}
	if !strings.Contains(r.suspended, "2 times within 10m0s") {
		t.Errorf("suspended: %q", r.suspended)
	}
	if r.judge(101<<20, at(9*time.Minute)) {
		t.Error("replaced within the window")
	}
	if !r.judge(101<<20, at(10*time.Minute)) || r.suspended != "" {
		t.Errorf("not replaced after the window: %q", r.suspended)
	}
}
