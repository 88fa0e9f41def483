package heartbeat

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// startWriter runs w and returns what stops it and waits for its result.
func startWriter(t *testing.T, w *Writer) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	synctest.Wait()
	return func() error {
		cancel()
		return <-done
	}
}

func TestRunBeatsEveryIntervalAndLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		w := newFakeWriter(&k, remote("n1"), nil)
		if !w.LastBeat().IsZero() {
			t.Error("a beat before the first")
		}
		stop := startWriter(t, w)
		begin := time.Now()
		time.Sleep(20*time.Second + time.Millisecond)
		synctest.Wait()
		got := k.written()
		if len(got) != 5 {
			t.Fatalf("%d writes in 20 s, want 5", len(got))
		}
		for i, at := range got {
			if want := begin.Add(time.Duration(i) * 5 * time.Second); !at.Equal(want) {
				t.Errorf("write %d came after %s, want %s", i, at.Sub(begin), want.Sub(begin))
			}
		}
		if !w.LastBeat().Equal(got[4]) || k.entries != 5 {
			t.Errorf("last beat %v, %d registrations; want %v, 5", w.LastBeat(), k.entries, got[4])
		}
		if k.get("nonce") != "n1" || k.get("ttl_seconds") != "15.000" || k.get("started") == "" {
			t.Errorf("hash %v, want nonce n1, a TTL of 15 s and the start", k.hash)
		}
		if err := stop(); err != nil || k.get("nonce") != "" || k.removals != 1 {
			t.Errorf("after the stop: %v, hash %v", err, k.hash)
		}
	})
}

func TestWriteNowWritesWithin100MillisecondsAndCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		var healthy atomic.Bool
		w := newFakeWriter(&k, remote("n1"), func() Beat { return Beat{Healthy: healthy.Load()} })
		stop := startWriter(t, w)
		defer func() { _ = stop() }()
		time.Sleep(time.Second)
		healthy.Store(true)
		for range 10 {
			w.WriteNow()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(90 * time.Millisecond)
		synctest.Wait()
		if n := len(k.written()); n != 2 || k.get("healthy") != "true" {
			t.Fatalf("%d writes, healthy %s; want 2, true", n, k.get("healthy"))
		}
		// A call right behind a write is not lost, and not late either.
		healthy.Store(false)
		w.WriteNow()
		time.Sleep(21 * time.Millisecond)
		healthy.Store(true)
		w.WriteNow()
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if k.get("healthy") != "true" {
			t.Error("the second call of WriteNow was lost")
		}
		// The regular rhythm is not disturbed.
		before := len(k.written())
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if n := len(k.written()) - before; n != 1 {
			t.Errorf("%d regular writes, want 1", n)
		}
	})
}

func TestWritesAreCapped(t *testing.T) {
	for name, c := range map[string]struct {
		request func(*Writer)
		most    int
	}{
		"WriteNow":  {(*Writer).WriteNow, 21},
		"WriteSoon": {(*Writer).WriteSoon, 11},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var k fakeKey
				w := newFakeWriter(&k, remote("n1"), nil)
				stop := startWriter(t, w)
				defer func() { _ = stop() }()
				time.Sleep(time.Second)
				before := len(k.written())
				for range 1000 {
					c.request(w)
					time.Sleep(time.Millisecond)
				}
				synctest.Wait()
				if n := len(k.written()) - before; n > c.most || n < c.most/2 {
					t.Errorf("%d writes in a second, want %d at most and half of that at least", n, c.most)
				}
			})
		})
	}
}

func TestRunSurvivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		var log bytes.Buffer
		w := newFakeWriter(&k, remote("n1"), nil)
		w.opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
		stop := startWriter(t, w)
		time.Sleep(time.Second)
		last := w.LastBeat()
		k.setDown(true)
		w.WriteNow()
		for range 100 { // these do not hammer a server that is down
			time.Sleep(200 * time.Millisecond)
			w.WriteNow()
		}
		synctest.Wait()
		if !w.LastBeat().Equal(last) {
			t.Error("LastBeat moves during the outage")
		}
		if n := len(k.tries); n < 15 || n > 30 {
			t.Errorf("%d tries in 20 s of outage, want 15 to 30", n)
		}
		if k.get("nonce") != "" {
			t.Error("the fake key has not expired")
		}
		k.setDown(false)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if k.get("nonce") != "n1" || !w.LastBeat().After(last) {
			t.Error("the heartbeat is not back")
		}
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if n := strings.Count(log.String(), "heartbeat write failed"); n != 1 {
			t.Errorf("the failure is logged %d times, want once:\n%s", n, log.String())
		}
		if n := strings.Count(log.String(), "heartbeat write resumed"); n != 1 {
			t.Errorf("the end of the failure is logged %d times, want once", n)
		}
	})
}

func TestRunReportsWhatItCannotLeaveBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		stop := startWriter(t, newFakeWriter(&k, remote("n1"), nil))
		k.setDown(true)
		if err := stop(); !errors.Is(err, errDown) {
			t.Errorf("Run = %v, want %v", err, errDown)
		}
	})
}

func TestRunEndsWhenTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		w := newFakeWriter(&k, remote("n1"), nil)
		done := make(chan error, 1)
		go func() { done <- w.Run(t.Context()) }()
		time.Sleep(time.Second)
		k.set(Beat{Identity: remote("n2")}, 15*time.Second)
		w.WriteNow()
		err := <-done
		if !errors.Is(err, ErrTakenOver) || !strings.Contains(err.Error(), "elsewhere") || !strings.Contains(err.Error(), "4321") {
			t.Errorf("Run = %v, want ErrTakenOver with the host and pid of the successor", err)
		}
		if k.get("nonce") != "n2" || k.removals != 0 {
			t.Error("the successor's key was touched")
		}
	})
}
