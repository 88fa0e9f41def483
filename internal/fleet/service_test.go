package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/queue"
)

// die has a worker's process vanish: no beat any more, and its port refuses.
func (w *world) die(id string) { w.answer(id, answer{err: failed(rpc.KindRefused)}) }

// A Redis that can be read and not written to lets no round end well, so none has resumed.
func TestRoundThatCannotBeSavedHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, book := newWorld(), &logBook{}
		w.add("well")
		defer w.beating("well")()
		defer start(w.service(t, "c", book, Observer{}))()
		save := func(err error) {
			w.mu.Lock()
			w.saveErr = err
			w.mu.Unlock()
			time.Sleep(30 * time.Second)
			synctest.Wait()
		}
		save(nil)
		save(errors.New("READONLY"))
		if failed, resumed := book.count("fleet check failed"), book.count("fleet check resumed"); failed != 1 || resumed != 0 {
			t.Errorf("while it refuses: failed is logged %d times and resumed %d times, want once and never", failed, resumed)
		}
		save(nil)
		if failed, resumed := book.count("fleet check failed"), book.count("fleet check resumed"); failed != 1 || resumed != 1 {
			t.Errorf("at last: failed is logged %d times and resumed %d times, want once each", failed, resumed)
		}
	})
}

func TestProvenDeathRecoversTheTasksAndThenRemovesTheWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, book := newWorld(), &logBook{}
		recovered, died := 0, 0
		w.add("dead")
		w.add("well")
		w.change("dead", func(b *heartbeat.Beat) { b.Queues = []string{"a", "b"} })
		w.forgetErr = errors.New("not yet")
		stopBeats := w.beating("well")
		defer stopBeats()
		s := w.service(t, "c", book, Observer{
			Died:      func(string) { died++ },
			Recovered: func(_, reason string, n int) { recovered += n * len(reason) / len(queue.RecoveredDead) },
		})
		defer start(s)()
		w.die("dead")
		time.Sleep(9 * time.Second)
		if events := w.happened(); len(events) != 0 {
			t.Errorf("nine seconds after the last beat: events %q, want none", events)
		}
		time.Sleep(7 * time.Second)
		first := []string{"recover a of dead n-dead", "recover b of dead n-dead"}
		if events := w.happened(); len(events) < 2 || !slices.Equal(events[:2], first) || slices.Contains(events, "forget dead") {
			t.Errorf("while it cannot be removed: events %q, want the recovery of a and b and no removal", events)
		}
		w.mu.Lock()
		w.forgetErr = nil
		w.mu.Unlock()
		time.Sleep(5 * time.Second)
		if events := w.happened(); events[len(events)-1] != "forget dead" {
			t.Errorf("at last: events %q, want the removal as the last one", events)
		}
		if died != 1 || recovered < 6 || book.count(`msg="worker dead"`) != 1 || book.count("dead worker reaped") != 1 {
			t.Errorf("died %d (want 1), recovered %d (want 6 or more), logged as dead %d times and as reaped %d times (want 1 each)",
				died, recovered, book.count(`msg="worker dead"`), book.count("dead worker reaped"))
		}
		time.Sleep(time.Minute)
		if got := s.States(); got["FREE"] != 1 || got["DEAD"] != 0 {
			t.Errorf("states %v, want one FREE and none DEAD", got)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if _, there := w.checkpoint.Beats["dead"]; there || w.checkpoint.Beats["well"].Nonce != "n-well" {
			t.Errorf("the checkpoint has %v, want the living worker only", w.checkpoint.Beats)
		}
	})
}

// A worker that lives and cannot be pinged has not died, and who has is counted by one leader only.
func TestEachDeathIsCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.add("unreachable")
		w.answer("unreachable", answer{err: failed(rpc.KindUnauthorised)})
		w.add("dead")
		stopBeats := w.beating("unreachable")
		defer stopBeats()
		w.set(func() { w.forgetErr = errors.New("not yet") }) // the next leader finds it as well
		w.die("dead")
		died := make(map[string]int)
		observer := Observer{Died: func(cause string) { w.set(func() { died[cause]++ }) }}
		for range 3 {
			s := w.service(t, "c", &logBook{}, observer)
			stop := start(s)
			time.Sleep(30 * time.Second)
			if got := s.States(); got["DEAD"] != 2 {
				t.Errorf("states %v, want two DEAD", got)
			}
			stop()
		}
		if len(died) != 1 || died[CauseRefused] != 1 {
			t.Errorf("counted deaths %v, want that of dead alone", died)
		}
	})
}

// Silent, and nothing proves its death, before another process takes its id: that proves it.
func TestTheDeathOfAReplacedProcessIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for _, id := range []string{"replaced", "restarted"} {
			w.add(id)
		}
		stopBeats := w.beating("restarted")
		defer stopBeats()
		w.answer("replaced", answer{err: failed(rpc.KindTimeout)}) // its host is gone
		died := 0
		s := w.service(t, "c", &logBook{}, Observer{Died: func(string) { died++ }})
		defer start(s)()
		time.Sleep(25 * time.Second)
		if deaths := w.recorded(); len(deaths) != 0 {
			t.Errorf("deaths %+v before anything is proven", deaths)
		}
		for _, id := range []string{"replaced", "restarted"} { // the second one stopped cleanly
			w.change(id, func(b *heartbeat.Beat) { b.Nonce = "new" })
			w.answer(id, answer{pong: rpc.Pong{WorkerID: id, Nonce: "new", State: status.Free}})
		}
		stopNew := w.beating("replaced")
		defer stopNew()
		time.Sleep(20 * time.Second)
		deaths := w.recorded()
		if len(deaths) != 1 || deaths[0].ID != "replaced" || deaths[0].Nonce != "n-replaced" || deaths[0].Age <= 0 || died != 1 {
			t.Errorf("deaths %+v, %d counted, want that of the replaced process", deaths, died)
		}
	})
}

// What does not prove a death: an answer of 401, TLS that does not come about, a timeout; and a heartbeat that goes on,
// whatever the address does.
func TestUnreachableWorkersKeepTheirTasks(t *testing.T) {
	for _, kind := range []rpc.Kind{rpc.KindUnauthorised, rpc.KindTLS, rpc.KindTimeout, rpc.KindOther, rpc.KindRefused} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.add("w")
			w.answer("w", answer{err: failed(kind)})
			stopBeats := w.beating("w")
			defer stopBeats()
			s := w.service(t, "c", &logBook{}, Observer{})
			defer start(s)()
			time.Sleep(2 * time.Minute)
			if got := find(t, s.Workers(), "w"); got.State != status.Dead || got.Cause != string(kind) {
				t.Errorf("%s: the worker is %s, cause %q; want DEAD, cause %q", kind, got.State, got.Cause, kind)
			}
			if events := w.happened(); len(events) != 0 {
				t.Errorf("%s: events %q, want none", kind, events)
			}
			if got := w.fate("w"); got != queue.DirectReturned {
				t.Errorf("%s: fate %d of what waits for it and has not begun, want it returned", kind, got)
			}
		})
	}
}

// Frozen: it does not answer and does not beat, but its port accepts. Only lapsed leases count.
func TestSilenceWaitsForTheLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, book := newWorld(), &logBook{}
		w.add("w")
		w.answer("w", answer{err: failed(rpc.KindTimeout)})
		s := w.service(t, "c", book, Observer{})
		defer start(s)()
		time.Sleep(14 * time.Second)
		if events := w.happened(); len(events) != 0 {
			t.Errorf("while its heartbeat lives: events %q, want none", events)
		}
		time.Sleep(12 * time.Second)
		if events := w.happened(); !slices.Equal(events, []string{"lapsed q of w"}) {
			t.Errorf("after its heartbeat: events %q, want the recovery of what lapsed", events)
		}
		if got := find(t, s.Workers(), "w"); got.Cause != CauseHeartbeatExpired || got.Proven {
			t.Errorf("the worker is %s, cause %q, proven %t; want cause %q, not proven", got.State, got.Cause, got.Proven, CauseHeartbeatExpired)
		}
		time.Sleep(45 * time.Second)
		if deaths := w.recorded(); len(deaths) != 1 || deaths[0].ID != "w" || deaths[0].Cause != CauseHeartbeatExpired || deaths[0].Age <= 0 {
			t.Errorf("deaths %+v, want that of w", deaths)
		}
		if events := w.happened(); !slices.Equal(events, []string{"lapsed q of w", "forget w"}) {
			t.Errorf("at last: events %q, want the recovery and then the removal", events)
		}
		if n := book.count(`msg="worker dead"`); n != 1 {
			t.Errorf("its death is logged %d times, want once", n)
		}
	})
}

// Redis stood still for a minute: every heartbeat and every lease has run out, and no worker is dead.
func TestAfterAnOutageOfRedisWorkersKeepTheirTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, book := newWorld(), &logBook{}
		ids := []string{"a", "b"}
		for _, id := range ids {
			w.add(id)
		}
		stopBeats := w.beating(ids...)
		s := w.service(t, "c", book, Observer{})
		defer start(s)()
		time.Sleep(20 * time.Second)
		stopBeats()
		w.setRedis(errors.New("down"))
		time.Sleep(time.Minute)
		w.die("a") // its port is closed to us, but it beats: as soon as it can
		w.setRedis(nil)
		time.Sleep(4 * time.Second)
		stopBeats = w.beating(ids...)
		defer stopBeats()
		time.Sleep(time.Minute)
		if events := w.happened(); len(events) != 0 {
			t.Errorf("events %q, want none", events)
		}
		if got := s.States(); got["FREE"] != 1 {
			t.Errorf("states %v, want one FREE", got)
		}
	})
}

func TestLeadershipPassesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.add("w")
		stopBeats := w.beating("w")
		defer stopBeats()
		first, second := w.service(t, "first", &logBook{}, Observer{}), w.service(t, "second", &logBook{}, Observer{})
		stopFirst := start(first)
		time.Sleep(time.Second)
		stopSecond := start(second)
		defer stopSecond()
		time.Sleep(time.Minute)
		if !first.leading() || second.leading() || second.States() != nil {
			t.Fatalf("first leads: %t, second leads: %t; want only the first to", first.leading(), second.leading())
		}
		stopFirst() // cleanly: the lease is released at once
		w.mu.Lock()
		free := w.heldUntil.IsZero()
		w.mu.Unlock()
		if !free || first.leading() || first.States() != nil {
			t.Error("after a clean stop the first one still leads, or its lease goes on")
		}
		time.Sleep(15 * time.Second)
		if !second.leading() || second.States()["FREE"] != 1 {
			t.Errorf("within 15 s: second leads %t, its states %v; want it to lead and see one FREE worker", second.leading(), second.States())
		}
	})
}

// The leader and a worker die together, on another host: the next leader knows from the checkpoint which process that
// worker was, and its tasks run again 20 s after.
func TestTheNextLeaderReapsAWorkerThatDiedWithTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, book := newWorld(), &logBook{}
		w.add("w")
		stopBeats := w.beating("w")
		stopFirst := start(w.service(t, "first", &logBook{}, Observer{}))
		time.Sleep(30 * time.Second)
		stopBeats()
		stopFirst()
		w.mu.Lock()
		w.leader, w.heldUntil = "first|x", time.Now().Add(leaseDuration) // killed right after a renewal
		w.beats["w"] = time.Now().Add(-beatEvery)                        // and right before its next beat
		w.mu.Unlock()
		w.die("w")
		defer start(w.service(t, "second", book, Observer{}))()
		time.Sleep(20 * time.Second)
		if events := w.happened(); !slices.Contains(events, "recover q of w n-w") || !slices.Contains(events, "forget w") {
			t.Errorf("after 20 s: events %q, want its tasks recovered and the worker removed", events)
		}
	})
}

// The lease is renewed and the registry cannot be read: the list of the workers says how old it is.
func TestTheListOfAllWorkersHasAnAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.add("w")
		stopBeats := w.beating("w")
		defer stopBeats()
		s := w.service(t, "c", &logBook{}, Observer{})
		defer start(s)()
		time.Sleep(22 * time.Second)
		workers, read := s.AllWorkers()
		if err := s.Stale(read); len(workers) != 1 || time.Since(read) > 5*time.Second || err != nil {
			t.Errorf("%d workers, read %s ago, %v; want one, and within a round", len(workers), time.Since(read), err)
		}
		w.set(func() { w.listErr = errors.New("NOPERM") })
		time.Sleep(20 * time.Second)
		workers, again := s.AllWorkers()
		if err := s.Stale(again); len(workers) != 1 || !again.Equal(read) || err == nil || !strings.Contains(err.Error(), " ago") || !s.leading() {
			t.Errorf("%d workers, read %s ago, %v; want one, and that it is old", len(workers), time.Since(again), err)
		}
		w.set(func() { w.listErr = nil })
		time.Sleep(5 * time.Second)
		if _, read := s.AllWorkers(); s.Stale(read) != nil {
			t.Errorf("it can be read again: %v", s.Stale(read))
		}
	})
}

// A leader that Redis does not answer stops before its lease ends for the others.
func TestALeaderWithoutRedisStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, book := newWorld(), &logBook{}
		s := w.service(t, "c", book, Observer{})
		defer start(s)()
		time.Sleep(time.Second)
		w.setRedis(errors.New("down"))
		time.Sleep(10 * time.Second)
		if s.leading() {
			t.Error("ten seconds after Redis went away it still leads")
		}
		w.setRedis(nil)
		time.Sleep(5 * time.Second)
		if !s.leading() {
			t.Error("five seconds after Redis came back it does not lead again")
		}
		if n := book.count("lease renewal failed"); n != 1 {
			t.Errorf("the lost lease is logged %d times, want once", n)
		}
	})
}

// Two that act at once, as can happen for a moment: both do everything, and Redis' guards make the second of each step
// empty.
func TestTwoLeadersDoNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.add("dead")
		w.add("well")
		stopBeats := w.beating("well")
		defer stopBeats()
		w.die("dead")
		// The same name and nonce: each believes that the lease is its own.
		one, two := w.service(t, "c", &logBook{}, Observer{}), w.service(t, "c", &logBook{}, Observer{})
		defer start(one)()
		defer start(two)()
		time.Sleep(30 * time.Second)
		if !one.leading() || !two.leading() {
			t.Fatal("one of the two does not lead, want both to")
		}
		for _, event := range w.happened() {
			if event != "recover q of dead n-dead" && event != "forget dead" && event != "lapsed q of dead" {
				t.Errorf("event %q concerns more than the dead worker", event)
			}
		}
		if one.States()["FREE"] != 1 || two.States()["FREE"] != 1 {
			t.Errorf("states %v and %v, want one FREE in both", one.States(), two.States())
		}
	})
}

// Reaping that fails is tried again, and one worker that cannot be reaped delays no other.
func TestFailedReapingIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, book := newWorld(), &logBook{}
		for i := range 20 {
			id := fmt.Sprintf("w%d", i)
			w.add(id)
			w.die(id)
			w.change(id, func(b *heartbeat.Beat) { b.Queues = []string{"q" + id} })
		}
		w.recoverFn = func(q string) error {
			if q == "qw3" {
				return errors.New("broken")
			}
			return nil
		}
		s := w.service(t, "c", book, Observer{})
		defer start(s)()
		time.Sleep(16 * time.Second)
		w.mu.Lock()
		left := len(w.workers)
		w.recoverFn = nil
		w.mu.Unlock()
		if left != 1 {
			t.Errorf("%d workers are left, want only the one that cannot be reaped", left)
		}
		time.Sleep(6 * time.Second)
		if events := w.happened(); !slices.Contains(events, "forget w3") {
			t.Errorf("events %q, want the removal of w3", events)
		}
		if n := book.count("reaping failed"); n == 0 {
			t.Error("the failure was not logged")
		}
	})
}

func TestDirectTasksOfDegradedWorkersGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for _, id := range []string{"well", "degraded", "draining", "gone"} {
			w.add(id)
		}
		w.change("degraded", func(b *heartbeat.Beat) { b.Status = status.Degraded })
		w.change("draining", func(b *heartbeat.Beat) { b.Status = status.Draining })
		w.remove("gone")
		stopBeats := w.beating("well", "degraded", "draining")
		defer stopBeats()
		defer start(w.service(t, "c", &logBook{}, Observer{}))()
		time.Sleep(11 * time.Second)
		for id, want := range map[string]queue.DirectFate{
			"well": queue.DirectKept, "degraded": queue.DirectReturned, "draining": queue.DirectReturned, "gone": queue.DirectReturned,
		} {
			if got := w.fate(id); got != want {
				t.Errorf("%s: fate %d, want %d", id, got, want)
			}
		}
		w.change("well", func(b *heartbeat.Beat) { b.Queues = []string{"another"} })
		time.Sleep(11 * time.Second)
		if got := w.fate("well"); got != queue.DirectReturned {
			t.Errorf("a worker that serves the queue no more: fate %d, want it returned", got)
		}
	})
}

// What waits for a worker has not begun: it does not wait for a proof, nor for the leader's first sweep.
func TestDirectTasksGoBackAsSoonAsTheirWorkerIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.add("well")
		w.add("silent")
		w.answer("silent", answer{err: failed(rpc.KindRefused)})
		stopBeats := w.beating("well", "silent")
		defer stopBeats()
		defer start(w.service(t, "c", &logBook{}, Observer{}))()
		time.Sleep(4 * time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		if want := []string{"return what waits for silent"}; !slices.Equal(w.returned, want) {
			t.Errorf("after the first round: %q, want %q", w.returned, want)
		}
	})
}

// A dead worker's connection may claim a task after its death, so its list is looked at for a minute.
func TestTheListOfADeadWorkerIsClosedAMinuteLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.add("dead")
		w.add("well")
		stopBeats := w.beating("well")
		defer stopBeats()
		defer start(w.service(t, "c", &logBook{}, Observer{}))()
		w.die("dead")
		time.Sleep(50 * time.Second)
		if events := w.happened(); !slices.Contains(events, "forget dead") {
			t.Fatalf("events %q, want the removal of the dead worker", events)
		}
		if got := w.fate("dead"); got != queue.DirectReturned {
			t.Errorf("while it may claim: fate %d, want it returned", got)
		}
		time.Sleep(40 * time.Second)
		if got := w.fate("dead"); got != queue.DirectClosed {
			t.Errorf("at last: fate %d, want it closed", got)
		}
	})
}

// Nothing is taken from a process that beats, even if the registry did not say so.
func TestAHeartbeatOutsideTheRegistryCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.add("w")
		w.remove("w")
		stopBeats := w.beating("w")
		defer stopBeats()
		defer start(w.service(t, "c", &logBook{}, Observer{}))()
		time.Sleep(2 * time.Minute)
		if events := w.happened(); len(events) != 0 {
			t.Errorf("events %q, want none", events)
		}
	})
}

// Of what cannot be read nothing is known, so nothing is taken.
func TestAnUnreadHeartbeatCountsAsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.add("w")
		w.remove("w")
		w.beatsErr = errors.New("no answer")
		defer start(w.service(t, "c", &logBook{}, Observer{}))()
		time.Sleep(2 * time.Minute)
		if events := w.happened(); len(events) != 0 {
			t.Errorf("events %q, want none", events)
		}
	})
}

func TestNewRefusesWhatIsIncomplete(t *testing.T) {
	w, book := newWorld(), &logBook{}
	whole := w.service(t, "c", book, Observer{}).opts
	for name, edit := range map[string]func(*Options){
		"no id":        func(o *Options) { o.ID = "" },
		"no nonce":     func(o *Options) { o.Self.Nonce = "" },
		"no interval":  func(o *Options) { o.Interval = 0 },
		"no registry":  func(o *Options) { o.Registry = nil },
		"no recoverer": func(o *Options) { o.Recoverer = nil },
	} {
		broken := whole
		edit(&broken)
		if _, err := New(broken); err == nil {
			t.Errorf("New with %s returned no error", name)
		}
	}
}
