package queue

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/pause"
)

func (s *stage) wantHindered(when string, want ...HindranceKind) {
	s.t.Helper()
	var kinds []HindranceKind
	for _, h := range s.loop.receipts.judge(s.now).Hindrances {
		kinds = append(kinds, h.Kind)
	}
	if !slices.Equal(kinds, want) {
		s.t.Fatalf("%s: hindrances %v, want %v", when, kinds, want)
	}
}

// pass lets time pass in which the loop turns every second, and every cycle is answered as reply says; nil: none is.
func (s *stage) pass(d time.Duration, reply func(queue string, take int) cycleReply) {
	for end := s.now.Add(d); s.now.Before(end); {
		s.now = s.now.Add(min(time.Second, end.Sub(s.now)))
		s.settleAll(reply)
	}
}

func (s *stage) settleAll(reply func(queue string, take int) cycleReply) {
	for again := true; again; {
		again = false
		for _, q := range s.loop.queues {
			if r := s.cycle(q.name); r != nil && reply != nil {
				c := reply(q.name, r.take)
				if c.statuses == nil {
					c.statuses = make([]itemStatus, len(r.items))
				}
				s.loop.handle(&event{kind: eventCycled, queue: q, cycle: cycleResult{reply: c}}, s.now)
				again = true
			}
		}
	}
}

func nothing(string, int) cycleReply       { return cycleReply{} }
func tasksWait(string, int) cycleReply     { return cycleReply{more: true} }
func takesFail(_ string, n int) cycleReply { return takeFailure(n) }

func takeFailure(take int) cycleReply {
	if take == 0 {
		return cycleReply{more: true}
	}
	return cycleReply{more: true, failure: "NOPERM this user has no permissions to run the 'lrange' command"}
}

// begunStage is a stage whose consumer runs.
func begunStage(t *testing.T, concurrency int, queues map[string]int, strict bool) *stage {
	t.Helper()
	s := newStage(t, concurrency, queues, strict)
	s.loop.receipts.consumeTimeout = 10 * time.Second
	s.loop.receipts.begin(s.now)
	return s
}

// Whatever the loop does, each queue is asked every two seconds: else nobody would know whether Redis still works, or works
// again.
func TestEveryQueueIsProbed(t *testing.T) {
	two := map[string]int{"a": 2, "b": 1}
	for name, prepare := range map[string]func(*stage){
		"idle":      func(s *stage) { s.settleAll(nothing) },
		"gate shut": func(s *stage) { s.shut = true },
		"full": func(s *stage) {
			s.room.Free = 1
			s.wantTake("a", 1)
			s.answer("a", Task{ID: "a1"})
		},
		"full, and a drain": func(s *stage) {
			s.room.Free = 1
			s.wantTake("a", 1)
			s.answer("a", Task{ID: "a1"})
			s.loop.handle(&event{kind: eventDrain}, s.now)
		},
		"a task runs alone": func(s *stage) {
			s.room.Free = 1
			s.wantTake("a", 1)
			s.answer("a", Task{ID: "a1", Suspicions: 3})
		},
		"paused": func(s *stage) {
			s.settleAll(func(string, int) cycleReply { return cycleReply{paused: true, more: true} })
		},
	} {
		for _, strict := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", strict), func(t *testing.T) {
				s := begunStage(t, 2, two, strict)
				prepare(s)
				s.settleAll(nothing)
				asked := map[string]int{}
				s.pass(time.Hour/60, func(queue string, take int) cycleReply {
					if asked[queue]++; take > 0 && name != "idle" && name != "paused" {
						t.Errorf("queue %s is asked for %d tasks", queue, take)
					}
					return cycleReply{paused: name == "paused", more: name == "paused"}
				})
				for queue := range two {
					if n := asked[queue]; n < 30 || n > 61 {
						t.Errorf("queue %s was asked %d times in a minute, want 30 at least and not much more", queue, n)
					}
				}
				s.wantHindered("after a minute")
			})
		}
	}
}

func TestNothingIsKnownBeforeTheFirstAnswers(t *testing.T) {
	s := newStage(t, 1, map[string]int{"a": 1, "b": 1}, false)
	s.wantHindered("before it runs", NotAsked)
	s.now = s.now.Add(time.Hour)
	s.wantHindered("before it runs", NotAsked)
	s.loop.receipts.begin(s.now)
	s.shut = true
	changed := s.loop.receipts.changed.Next()
	s.wantTake("a", 0)
	s.answer("a")
	if !isDone(changed) {
		t.Error("the first answer is not announced")
	}
	s.wantHindered("one of two has answered", NotAsked)
	s.settleAll(nothing)
	s.wantTake("b", -1)
	s.answer("b")
	s.wantHindered("both have answered")
}

func TestUnansweredCycleHinders(t *testing.T) {
	s := begunStage(t, 1, map[string]int{"a": 1, "b": 1}, false)
	s.settleAll(nothing)
	s.pass(answeredWithin-time.Second, nil)
	s.wantHindered("a slow Redis")
	s.pass(time.Second, nil)
	s.wantHindered("a silent Redis", CyclesUnanswered)
	if h := s.loop.receipts.judge(s.now).Hindrances[0]; h.Queue != "a" || h.Queues != 2 || h.Err != nil || h.Probed() {
		t.Errorf("hindrance %+v, want queue a and one more", h)
	}
	changed := s.loop.receipts.changed.Next()
	s.loop.receipts.refuse("a", s.now, fmt.Errorf("cycle 3: %w", errors.New("i/o timeout")))
	s.wantHindered("one of them says why", CyclesRefused, CyclesUnanswered)
	s.answer("a")
	s.wantHindered("one answers", CyclesUnanswered)
	s.answer("b")
	s.wantHindered("both answer")
	if !isDone(changed) {
		t.Error("that it answers again is not announced")
	}
}

func TestHangingLoopHinders(t *testing.T) {
	s := begunStage(t, 1, map[string]int{"a": 1}, false)
	s.settleAll(nothing)
	s.pass(time.Minute, nothing)
	s.now = s.now.Add(answeredWithin - time.Second)
	s.wantHindered("it is late")
	s.now = s.now.Add(2 * time.Second)
	s.wantHindered("it does not turn", CyclesNotTried)
	s.settleAll(nothing)
	s.wantHindered("it turns again")
}

func TestOneRefusedCycleIsNoHindrance(t *testing.T) {
	s := begunStage(t, 1, map[string]int{"a": 1}, false)
	s.settleAll(nothing)
	readOnly := errors.New("READONLY You can't write against a read only replica.")
	for range 20 {
		s.now = s.now.Add(lookEvery)
		s.wantTake("a", 0)
		s.loop.receipts.refuse("a", s.now, readOnly)
		s.now = s.now.Add(refusedAfter)
		s.wantHindered("one of two is refused")
		s.answer("a")
	}
	s.now = s.now.Add(lookEvery)
	s.wantTake("a", 0)
	begun := s.now
	for range 5 {
		s.loop.receipts.refuse("a", s.now, readOnly)
		s.now = s.now.Add(refusedAfter / 5)
	}
	s.wantHindered("all are refused", CyclesRefused)
	if h := s.loop.receipts.judge(s.now).Hindrances[0]; !errors.Is(h.Err, readOnly) || !h.Since.Equal(begun) {
		t.Errorf("hindrance %+v, want Redis' words and %v", h, begun)
	}
	s.answer("a")
	s.wantHindered("one is not")
}

func TestTasksThatWaitBesideAFreeSlotHinder(t *testing.T) {
	s := begunStage(t, 4, map[string]int{"a": 2, "b": 1}, false)
	s.settleAll(tasksWait)
	s.pass(9*time.Second, tasksWait)
	s.wantHindered("for a while")
	s.pass(2*time.Second, tasksWait)
	s.wantHindered("for too long", NothingTaken)
	if h := s.loop.receipts.judge(s.now).Hindrances[0]; h.Queue != "a" || !h.Probed() {
		t.Errorf("hindrance %+v, want that of queue a, which a take ends", h)
	}
	// One is tried, over all queues.
	s.pass(lookEvery, func(_ string, take int) cycleReply {
		total := 0
		for _, q := range s.loop.queues {
			total += q.asked
		}
		if take > 1 || total > 1 {
			t.Errorf("%d tasks are asked for at once, want one", max(take, total))
		}
		return cycleReply{more: true}
	})
	given := 0
	s.pass(2*lookEvery, func(_ string, take int) cycleReply {
		if take == 0 || given > 0 {
			return cycleReply{more: true}
		}
		given++
		return cycleReply{more: true, taken: make([]takenTask, 1)}
	})
	s.wantHindered("one was taken")
	s.settleAll(nothing)
	s.loop.look(s.now)
	s.wantTake("a", 2) // it was its turn
	s.wantTake("b", 2)
}

func TestTasksThatCannotBeTakenDoNotHinder(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*stage)
		reply   func(string, int) cycleReply
	}{
		"empty":  {func(*stage) {}, nothing},
		"paused": {func(*stage) {}, func(string, int) cycleReply { return cycleReply{more: true, paused: true} }},
		"shut":   {func(s *stage) { s.shut = true }, tasksWait},
		"full":   {func(s *stage) { s.room.Free = 0 }, tasksWait},
		"drain":  {func(s *stage) { s.loop.handle(&event{kind: eventDrain}, s.now) }, tasksWait},
		"a task waits to run alone": {func(s *stage) {
			s.wantTake("a", 2)
			s.answer("a", Task{ID: "long"}, Task{ID: "alone", Suspicions: 3})
		}, tasksWait},
		"others have taken them": {func(*stage) {}, func() func(string, int) cycleReply {
			n := 0
			return func(string, int) cycleReply {
				n++
				return cycleReply{more: n%2 == 0}
			}
		}()},
	} {
		t.Run(name, func(t *testing.T) {
			s := begunStage(t, 2, map[string]int{"a": 1}, false)
			c.prepare(s)
			s.pass(55*time.Second, c.reply)
			s.wantHindered("after a while")
		})
	}
}

func TestRefusedTakesHinder(t *testing.T) {
	s := begunStage(t, 4, map[string]int{"a": 1, "b": 1}, false)
	reply := func(queue string, take int) cycleReply {
		if queue == "b" {
			return cycleReply{}
		}
		return takesFail(queue, take)
	}
	s.pass(time.Second, reply)
	s.wantHindered("once")
	s.pass(5*time.Second, reply)
	s.wantHindered("for some seconds", TakesRefused)
	if h := s.loop.receipts.judge(s.now).Hindrances[0]; h.Queue != "a" || h.Queues != 1 || !h.Probed() {
		t.Errorf("hindrance %+v, want that of queue a, which a take ends", h)
	}
	s.pass(time.Minute, func(queue string, take int) cycleReply {
		if queue == "a" && take > 1 {
			t.Errorf("%d tasks are asked for, want one", take)
		}
		return reply(queue, take)
	})
	s.wantHindered("after a minute", TakesRefused)
	s.shut = true
	s.pass(time.Hour, reply)
	s.wantHindered("nothing was tried for an hour", TakesRefused)
	s.shut = false
	s.loop.look(s.now)
	s.pass(5*time.Second, nothing)
	s.wantHindered("takes are possible")
	if s.loop.byName("a").failing {
		t.Error("it still takes one at a time")
	}
}

// While the only slot is busy, only a take shows whether takes are possible again. What it brings goes back.
func TestRefusedTakesAreTriedWithoutRoom(t *testing.T) {
	s := begunStage(t, 1, map[string]int{"a": 1}, false)
	s.pass(5*time.Second, takesFail)
	s.wantHindered("for some seconds", TakesRefused)
	s.room.Free = 0
	tried := 0
	s.pass(time.Minute, func(queue string, take int) cycleReply {
		tried += take
		return takeFailure(take)
	})
	s.wantHindered("nothing but refusals in a minute", TakesRefused)
	if tried < 20 || tried > 61 {
		t.Errorf("%d takes were tried in a minute without room, want 20 at least and not many more", tried)
	}
	s.now = s.now.Add(2 * time.Second)
	s.wantTake("a", 1)
	s.answer("a", Task{ID: "t1"})
	s.wantHindered("a task was taken")
	if len(s.submitted) > 0 {
		t.Error("it was given to the handler, which has no room")
	}
	s.now = s.now.Add(heldFor)
	if r := s.wantTake("a", 0); !slices.Equal(ended(r), []string{"t1 pending"}) {
		t.Errorf("ended: %v, want that it goes back", ended(r))
	}
}

// A worker that is not healthy takes only what shows whether it is again.
func TestRefusedTakesOfOneQueueHoldBackTheOthers(t *testing.T) {
	for _, strict := range []bool{false, true} {
		s := begunStage(t, 4, map[string]int{"a": 1, "b": 2}, strict)
		refused := func(queue string, take int) cycleReply {
			if queue == "a" {
				return takeFailure(take)
			}
			return cycleReply{more: true, taken: make([]takenTask, take)}
		}
		s.pass(5*time.Second, func(queue string, take int) cycleReply {
			if queue == "a" {
				return takeFailure(take)
			}
			return cycleReply{}
		})
		s.wantHindered("for some seconds", TakesRefused)
		s.pass(time.Minute, func(queue string, take int) cycleReply {
			if queue == "b" && take > 0 || take > 1 {
				t.Fatalf("strict %t: %d tasks of %s are asked for, want one of a at a time", strict, take, queue)
			}
			return refused(queue, take)
		})
		s.wantHindered("after a minute in which tasks of b waited", TakesRefused)
		s.pass(2*time.Second, nothing)
		s.wantHindered("takes are possible")
		s.loop.look(s.now)
		if r := s.cycle("b"); r == nil || r.take < 2 {
			t.Errorf("strict %t: queue b is asked with %+v, want for more than one task again", strict, r)
		}
	}
}

// A queue that is paused has no takes, and so none that are refused; after that they are as before.
func TestRefusedTakesOfAPausedQueue(t *testing.T) {
	s := begunStage(t, 1, map[string]int{"a": 1}, false)
	s.pass(5*time.Second, takesFail)
	s.wantHindered("for some seconds", TakesRefused)
	s.pass(5*time.Second, func(string, int) cycleReply { return cycleReply{paused: true, more: true} })
	s.wantHindered("paused")
	s.pass(2*time.Second, func(_ string, take int) cycleReply {
		if take > 1 {
			t.Errorf("%d tasks are asked for", take)
		}
		return takeFailure(take)
	})
	s.wantHindered("not paused", TakesRefused)
}

func TestRefusedOutcomesHinder(t *testing.T) {
	s := begunStage(t, 1, map[string]int{"a": 1}, false)
	s.wantTake("a", 1)
	s.answer("a", Task{ID: "t1"})
	s.end(nil)
	refuse := func(string, int) cycleReply {
		q := s.loop.byName("a")
		reply := cycleReply{statuses: make([]itemStatus, len(q.sent)), refusals: map[int]string{}}
		for i := range reply.statuses {
			reply.statuses[i], reply.refusals[i] = refused, "OOM command not allowed when used memory > 'maxmemory'."
		}
		return reply
	}
	s.pass(2*time.Second, refuse)
	s.wantHindered("for a moment")
	s.pass(2*time.Second, refuse)
	s.wantHindered("for longer", OutcomesRefused)
	changed := s.loop.receipts.changed.Next()
	s.pass(time.Second, nothing)
	s.wantHindered("it was taken")
	if !isDone(changed) {
		t.Error("that it was taken is not announced")
	}
}

// A pause of the whole process is no fault of anything that was due in it.
func TestPauseOfTheProcessHindersNothing(t *testing.T) {
	for name, reply := range map[string]func(string, int) cycleReply{"idle": nothing, "unanswered": nil, "tasks wait": tasksWait} {
		t.Run(name, func(t *testing.T) {
			var pauses pause.Watch
			s := begunStage(t, 1, map[string]int{"a": 1}, false)
			s.loop.receipts.running = pauses.Running
			s.settleAll(nothing)
			for range 4 {
				s.pass(time.Second, reply)
				s.wantHindered("before the pause")
			}
			s.now = s.now.Add(time.Minute)
			s.wantHindered("right after the pause")
			if reply != nil {
				return
			}
			for range 8 {
				s.pass(time.Second, reply)
				s.loop.receipts.judge(s.now)
			}
			s.wantHindered("no answer after the pause", CyclesUnanswered)
		})
	}
}

// On Redis Cluster a cycle is four requests: a Redis that takes 2 s for each answers all the same.
func TestEachRequestOfACycleIsAnAnswer(t *testing.T) {
	s := begunStage(t, 1, map[string]int{"a": 1}, false)
	s.settleAll(nothing)
	s.pass(lookEvery, nil)
	for range 4 {
		s.pass(2*time.Second, nil)
		s.wantHindered("a slow Redis")
		s.loop.receipts.hear("a", s.now)
	}
	s.pass(answeredWithin-time.Second, nil)
	s.wantHindered("it is slower still")
	s.pass(time.Second, nil)
	s.wantHindered("it is silent", CyclesUnanswered)
	// A cycle that fails is not excused by the requests before the one that does.
	s.loop.receipts.refuse("a", s.now, errors.New("i/o timeout"))
	s.loop.receipts.hear("a", s.now)
	s.wantHindered("it is sent again", CyclesRefused)
}
