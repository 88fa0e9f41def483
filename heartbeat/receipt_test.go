package heartbeat

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runqy/runqy-worker/internal/pause"
)

// slowStore answers after a while, and not at all while hang is set.
type slowStore struct {
	fakeStore
	wait atomic.Int64 // ns
	hang atomic.Bool
}

func (s *slowStore) write(ctx context.Context, r writeRequest) (*holder, error) {
	if err := s.pause(ctx); err != nil {
		return nil, err
	}
	return s.fakeStore.write(ctx, r)
}

func (s *slowStore) register(ctx context.Context, ttl time.Duration) error {
	if err := s.pause(ctx); err != nil {
		return err
	}
	return s.fakeStore.register(ctx, ttl)
}

func (s *slowStore) pause(ctx context.Context) error {
	wait := time.Duration(s.wait.Load())
	if s.hang.Load() {
		wait = time.Hour
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func newSlowWriter(k *fakeKey) (*Writer, *slowStore) {
	s := &slowStore{fakeStore: fakeStore{k, "n1"}}
	return newWriter(s, Options{ID: "w1", Identity: remote("n1"), Logger: quiet(), Source: func() Beat { return Beat{} }}), s
}

// failureWithin waits for a failure, or for the end of one, and returns how long that took.
func failureWithin(t *testing.T, w *Writer, limit time.Duration, failing bool) time.Duration {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		synctest.Wait()
		took := time.Since(begun)
		if (w.Failure() != nil) == failing {
			return took
		}
		if took > limit {
			t.Fatalf("after %v the failure is %+v, want one: %v", took, w.Failure(), failing)
		}
	}
}

func TestRefusedHeartbeatsAreAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		w := newFakeWriter(&k, remote("n1"), nil)
		if f := w.Failure(); f != nil {
			t.Errorf("before it runs: %+v", f)
		}
		stop := startWriter(t, w)
		time.Sleep(time.Second)
		k.setDown(true)
		failureWithin(t, w, 10*time.Second, true)
		if f := w.Failure(); !errors.Is(f.Err, errDown) || f.NotTried || f.Since.IsZero() {
			t.Errorf("failure %+v, want what the store said", f)
		}
		k.setDown(false)
		failureWithin(t, w, 2*time.Second, false)
		k.setDown(true) // at its end too it fails, and nobody is told
		_ = stop()
		if f := w.Failure(); f != nil {
			t.Errorf("after the end: %+v", f)
		}
	})
}

func TestOneRefusedHeartbeatIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		w := newFakeWriter(&k, remote("n1"), nil)
		stop := startWriter(t, w)
		defer func() { _ = stop() }()
		for range 10 {
			time.Sleep(4500 * time.Millisecond)
			k.setDown(true) // for the beat that follows
			time.Sleep(700 * time.Millisecond)
			k.setDown(false)
			for range 20 {
				if f := w.Failure(); f != nil {
					t.Fatalf("failure %+v", f)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
	})
}

func TestUnansweredHeartbeatIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		w, s := newSlowWriter(&k)
		stop := startWriter(t, w)
		time.Sleep(time.Second)
		s.hang.Store(true)
		failureWithin(t, w, 10*time.Second, true)
		for range 300 { // it goes on until one is answered
			if time.Sleep(100 * time.Millisecond); w.Failure() == nil {
				t.Fatal("it is no failure any more, and nothing was answered")
			}
		}
		s.hang.Store(false)
		failureWithin(t, w, 7*time.Second, false)
		s.hang.Store(true)
		time.Sleep(6 * time.Second) // in the middle of a write
		begun := time.Now()
		_ = stop()
		if took := time.Since(begun); took > stopOp+removeTimeout {
			t.Errorf("it ended after %v, want %v at most", took, stopOp+removeTimeout)
		}
	})
}

func TestSlowHeartbeatIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		w, s := newSlowWriter(&k)
		stop := startWriter(t, w)
		defer func() { _ = stop() }()
		for range 30 {
			s.wait.Store(int64(4 * time.Second)) // a new connection and a command, of 2 s each
			for range 100 {
				if time.Sleep(100 * time.Millisecond); w.Failure() != nil {
					t.Fatalf("failure %+v", w.Failure())
				}
			}
			s.wait.Store(0)
			time.Sleep(7 * time.Second)
		}
	})
}

// Between a slow answer and the next arrangement nothing hangs.
func TestNothingIsDueRightAfterASlowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &newFakeWriter(&fakeKey{}, remote("n1"), nil).receipts
		begun := time.Now()
		r.expect(begun)
		r.ask()
		time.Sleep(wokenWithin)
		r.answer(begun, nil)
		if f := r.judge(time.Now()); f != nil {
			t.Errorf("failure %+v", f)
		}
		time.Sleep(wokenWithin)
		if r.judge(time.Now()) == nil {
			t.Error("no failure when nothing follows")
		}
	})
}

func TestHangingWriterIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		var hang atomic.Bool
		release := make(chan struct{})
		w := newFakeWriter(&k, remote("n1"), func() Beat {
			if hang.Load() {
				<-release
			}
			return Beat{}
		})
		stop := startWriter(t, w)
		hang.Store(true)
		failureWithin(t, w, 10*time.Second, true)
		if f := w.Failure(); !f.NotTried || f.Err != nil {
			t.Errorf("failure %+v, want one of this process", f)
		}
		hang.Store(false)
		close(release)
		failureWithin(t, w, time.Second, false)
		_ = stop()
	})
}

// A pause of the whole process is no fault of a heartbeat that was due in it.
func TestPauseOfTheProcessIsNoFailure(t *testing.T) {
	for name, asked := range map[string]bool{"due": false, "unanswered": true} {
		t.Run(name, func(t *testing.T) {
			var pauses pause.Watch
			r := &receipts{running: pauses.Running}
			now := time.Now()
			r.expect(now)
			if asked {
				r.ask()
			}
			if f := r.judge(now); f != nil {
				t.Errorf("before the pause: %+v", f)
			}
			now = now.Add(time.Hour)
			if f := r.judge(now); f != nil {
				t.Errorf("right after the pause: %+v", f)
			}
			for range 10 {
				now = now.Add(500 * time.Millisecond)
				r.judge(now)
			}
			if r.judge(now) == nil {
				t.Error("no failure when nothing follows the pause")
			}
		})
	}
}
