package fleet

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runqy/runqy-worker/queue"
)

// watch runs a service's watcher for its own queue until stop is called.
func watch(t *testing.T, w *world, book *logBook) (stop func()) {
	t.Helper()
	s := w.service(t, "c", book, Observer{})
	s.opts.Queues = []string{"q"}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { _ = s.Watch(ctx) })
	return func() { cancel(); group.Wait() }
}

func TestWithoutALeaderEachWorkerSweepsItsOwnQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, book := newWorld(), &logBook{}
		w.add("dead")
		w.add("well")
		stopBeats := w.beating("well")
		defer stopBeats()
		defer watch(t, w, book)()
		time.Sleep(29 * time.Second)
		if events := w.happened(); len(events) != 0 {
			t.Errorf("after 29 s without a leader: events %q, want none", events)
		}
		time.Sleep(30 * time.Second)
		if events := w.happened(); !slices.Equal(events, []string{"lapsed q of dead"}) {
			t.Errorf("without a leader: events %q, want the recovery of what lapsed and no removal", events)
		}
		if got := w.fate("dead"); got != queue.DirectReturned {
			t.Errorf("fate %d of what waits for the dead worker, want it returned", got)
		}
		if got := w.fate("well"); got != queue.DirectKept {
			t.Errorf("fate %d of what waits for the living worker, want it kept", got)
		}
		if n := book.count("queues swept without a leader"); n != 1 {
			t.Errorf("logged %d times, want once", n)
		}
	})
}

func TestWithALeaderNobodyElseSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.add("dead")
		defer watch(t, w, &logBook{})()
		for range 60 {
			if held, _, err := w.Acquire(t.Context(), "leader", leaseDuration); !held || err != nil {
				t.Fatalf("lease held %t, error %v", held, err)
			}
			time.Sleep(3 * time.Second)
		}
		if events := w.happened(); len(events) != 0 {
			t.Errorf("events %q, want none", events)
		}
	})
}

// After an outage everybody's heartbeat and the leader's lease are over.
func TestAfterAnOutageTheWatcherWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.add("w")
		defer watch(t, w, &logBook{})()
		stopBeats := w.beating("w")
		time.Sleep(35 * time.Second)
		stopBeats()
		w.setRedis(errors.New("down"))
		time.Sleep(time.Minute)
		w.setRedis(nil)
		time.Sleep(4 * time.Second)
		stopBeats = w.beating("w")
		defer stopBeats()
		time.Sleep(2 * time.Minute)
		if events := w.happened(); len(events) != 0 {
			t.Errorf("events %q, want none", events)
		}
	})
}
