package fleet

import (
	"cmp"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// receiptWithin waits until the receipt names a failure, or none any more.
func receiptWithin(t *testing.T, s *Service, limit time.Duration, failing bool) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		synctest.Wait()
		r := s.Receipt()
		if (r.Lease != nil || r.Round != nil) == failing {
			return
		}
		if took := time.Since(begun); took > limit {
			t.Fatalf("after %s the receipt is %+v, want a failure: %t", took, r, failing)
		}
	}
}

// steady fails the test when the receipt names a failure within that time.
func steady(t *testing.T, s *Service, during time.Duration) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < during; time.Sleep(100 * time.Millisecond) {
		synctest.Wait()
		if r := s.Receipt(); r.Lease != nil || r.Round != nil {
			t.Fatalf("after %s the receipt is %+v, want no failure", time.Since(begun), r)
		}
	}
}

func TestReceiptOfALeaderAndOfACandidate(t *testing.T) {
	for name, leads := range map[string]bool{"leader": true, "candidate": false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			if !leads {
				w.leader, w.heldUntil = "another", time.Now().Add(time.Hour)
			}
			s := w.service(t, "c", &logBook{}, Observer{})
			s.elector.askEvery = 3 * time.Second
			if r := s.Receipt(); !r.Answered.IsZero() || r.Lease != nil {
				t.Errorf("%s: before it runs the receipt is %+v", name, r)
			}
			stop := start(s)
			steady(t, s, 30*time.Second)
			if r := s.Receipt(); time.Since(r.Answered) > 4*time.Second || s.leading() != leads {
				t.Errorf("%s: the last answer is %s old, leading %t", name, time.Since(r.Answered), s.leading())
			}
			refused := errors.New("READONLY")
			w.setRedis(refused)
			receiptWithin(t, s, 9*time.Second, true)
			r := s.Receipt()
			if f := cmp.Or(r.Lease, r.Round); !errors.Is(f.Err, refused) || f.NotTried || !leads && r.Lease == nil {
				t.Errorf("%s: the receipt is %+v, want what Redis said", name, r)
			}
			w.setRedis(nil)
			receiptWithin(t, s, 5*time.Second, false)
			steady(t, s, 30*time.Second)
			stop()
			if r := s.Receipt(); r.Lease != nil || r.Round != nil {
				t.Errorf("%s: after the end the receipt is %+v", name, r)
			}
		})
	}
}

func TestOneRefusedRenewalIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		s := w.service(t, "c", &logBook{}, Observer{})
		defer start(s)()
		for range 10 {
			steady(t, s, 2900*time.Millisecond)
			w.setRedis(errors.New("once"))
			steady(t, s, 300*time.Millisecond)
			w.setRedis(nil)
			steady(t, s, 10*time.Second)
		}
	})
}

// The lease is renewed, but what the leader is there for is refused.
func TestReceiptOfRefusedSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.add("w")
		stopBeats := w.beating("w")
		defer stopBeats()
		s := w.service(t, "c", &logBook{}, Observer{})
		defer start(s)()
		steady(t, s, 30*time.Second)
		refused := errors.New("NOPERM")
		w.set(func() { w.lapsedErr = refused })
		receiptWithin(t, s, 20*time.Second, true)
		if r := s.Receipt(); r.Round == nil || !errors.Is(r.Round.Err, refused) || r.Lease != nil {
			t.Errorf("the receipt is %+v, want that of the sweeps", r)
		}
		w.set(func() { w.lapsedErr = nil })
		receiptWithin(t, s, 15*time.Second, false)
	})
}
