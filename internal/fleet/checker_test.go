package fleet

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
)

func TestThousandWorkersAreAskedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 1000 {
			id := fmt.Sprintf("w%d", i)
			w.add(id)
			w.answer(id, answer{pong: rpc.Pong{WorkerID: id, Nonce: "n-" + id, State: status.Free}, after: 900 * time.Millisecond})
		}
		c := NewChecker(CheckerOptions{Registry: w, Pinger: w})
		began := time.Now()
		workers, err := c.Round(t.Context())
		if err != nil {
			t.Fatalf("a round: %v", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("a round took %s, want a second at most", took)
		}
		for _, w := range workers {
			if !w.Seen.Equal(began) {
				t.Fatalf("%s was seen %s after the registry was read", w.ID, w.Seen.Sub(began))
			}
		}
		if n := c.Counts()["FREE"]; n != 1000 || len(workers) != 1000 {
			t.Errorf("%d free of %d, want 1000 of 1000", n, len(workers))
		}
	})
}

// A worker that answers at once is classified at once, and again in the next round, while others take all the time they
// have.
func TestSlowWorkersDelayNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.add("quick")
		w.add("slow")
		w.answer("slow", answer{after: time.Hour})
		stop := start(w.service(t, "c", &logBook{}, Observer{}))
		defer stop()
		s := w.service(t, "c", &logBook{}, Observer{}) // the same name: both lead
		stopToo := start(s)
		defer stopToo()
		time.Sleep(time.Second)
		if workers := s.Workers(); len(workers) != 1 || workers[0].ID != "quick" || workers[0].State != status.Free {
			t.Errorf("after a second: %v, want quick alone, FREE", workers)
		}
		time.Sleep(2100 * time.Millisecond)
		if slow := find(t, s.Workers(), "slow"); slow.State != status.Dead || slow.Cause != CauseTimeout || slow.Proven {
			t.Errorf("after the ping timeout slow is %s, cause %q, proven %t; want DEAD, cause %q, not proven", slow.State, slow.Cause, slow.Proven, CauseTimeout)
		}
	})
}

func TestChangesAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, book := newWorld(), &logBook{}
		died := map[string]int{}
		c := NewChecker(CheckerOptions{
			Registry: w, Pinger: w, Confirm: time.Second, Logger: book.logger(),
			Lost: func(_ context.Context, w Worker) { died[w.Cause]++ }, // one worker: one call at a time
		})
		round := func(times int, want status.State) {
			t.Helper()
			for range times {
				workers, err := c.Round(t.Context())
				if err != nil {
					t.Fatalf("a round: %v", err)
				}
				if len(workers) != 1 || workers[0].State != want {
					t.Fatalf("a round found %v, want one worker that is %s", workers, want)
				}
			}
		}
		w.add("w")
		well := w.answers["w:1"]
		round(3, status.Free)
		w.answer("w", answer{err: failed(rpc.KindRefused)})
		round(3, status.Dead)
		w.answer("w", answer{err: failed(rpc.KindTimeout)})
		round(3, status.Dead)
		w.answer("w", well)
		round(3, status.Free)
		w.answer("w", answer{err: failed(rpc.KindUnauthorised)})
		round(2, status.Dead)
		for _, test := range []struct {
			want  int
			words []string
		}{
			{1, []string{"worker joined"}},
			{1, []string{`msg="worker dead"`, "cause=refused"}},
			{1, []string{"worker dead still", "cause=timeout"}},
			{1, []string{"worker back"}},
			{1, []string{`msg="worker dead"`, "cause=unauthorised"}},
			{5, nil},
		} {
			if n := book.count(test.words...); n != test.want {
				t.Errorf("%d log lines with %q, want %d", n, test.words, test.want)
			}
		}
		if died["refused"] != 1 || died["unauthorised"] != 1 || len(died) != 2 {
			t.Errorf("counted deaths %v, want one refused and one unauthorised", died)
		}
	})
}

// A clean stop closes the port, deletes the heartbeat and leaves the registry, in any order and not all at once.
func TestCleanStopsAreNoDeaths(t *testing.T) {
	for name, stopping := range map[string]func(w *world){
		"left before it was pinged": func(w *world) { w.remove("w") },
		"heartbeat deleted first":   func(w *world) { w.mu.Lock(); w.beats["w"] = time.Time{}; w.mu.Unlock() },
		"restarted in between": func(w *world) {
			w.change("w", func(b *heartbeat.Beat) { b.Nonce = "new" })
			w.answer("w", answer{pong: rpc.Pong{WorkerID: "w", Nonce: "new", State: status.Free}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, book := newWorld(), &logBook{}
				w.add("w")
				died := 0
				c := NewChecker(CheckerOptions{
					Registry: between{w, func() { stopping(w); w.answers["w:1"] = refusedUnlessNew(w.answers["w:1"]) }}, Pinger: w,
					Confirm: time.Second, Logger: book.logger(), Lost: func(context.Context, Worker) { died++ },
				})
				if name == "heartbeat deleted first" {
					leaving := time.AfterFunc(500*time.Millisecond, func() { w.remove("w") })
					defer leaving.Stop()
				}
				if _, err := c.Round(t.Context()); err != nil {
					t.Fatalf("a round: %v", err)
				}
				if n := c.Counts()["DEAD"]; died != 0 || n != 0 {
					t.Errorf("a clean stop counts as %d deaths and %d DEAD workers, want none", died, n)
				}
			})
		})
	}
}

// between is a registry in which something happens right after it is read.
type between struct {
	*world
	after func()
}

func (b between) List(ctx context.Context) ([]heartbeat.Worker, error) {
	list, err := b.world.List(ctx)
	b.after()
	return list, err
}

func refusedUnlessNew(a answer) answer {
	if a.pong.Nonce == "new" {
		return a
	}
	return answer{err: failed(rpc.KindRefused)}
}

func TestWithoutAPingerHeartbeatsDecide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.add("well")
		w.add("unhealthy")
		w.add("silent")
		w.change("unhealthy", func(b *heartbeat.Beat) { b.State = status.Busy; b.Reason.Summary = "degraded" })
		time.Sleep(11 * time.Second)
		w.beat("well", "unhealthy")
		workers, err := NewChecker(CheckerOptions{Registry: w}).Round(t.Context())
		if err != nil {
			t.Fatalf("a round: %v", err)
		}
		for id, want := range map[string]status.State{"well": status.Free, "unhealthy": status.Busy, "silent": status.Dead} {
			if got := find(t, workers, id); got.State != want || got.Proven {
				t.Errorf("%s is %s (%s), proven %t; want %s, not proven", id, got.State, got.Reason, got.Proven, want)
			}
		}
		if r := find(t, workers, "unhealthy").Reason; r != "degraded" {
			t.Errorf("reason %q, want that of the heartbeat", r)
		}
	})
}

func TestRoundSaysWhenItCannotTell(t *testing.T) {
	w := newWorld()
	w.setRedis(errors.New("down"))
	if _, err := NewChecker(CheckerOptions{Registry: w}).Round(t.Context()); err == nil {
		t.Error("a round without Redis returned no error")
	}
	w.setRedis(nil)
	w.add("w")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewChecker(CheckerOptions{Registry: w, Pinger: w}).Round(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled round returned %v, want %v", err, context.Canceled)
	}
}
