package queue

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestWithoutViewsNothingIsKeptOfThem(t *testing.T) {
	s := newStage(t, 1, map[string]int{"a": 1}, false)
	q := s.loop.byName("a")
	s.wantTake("a", 1)
	for i := range 10 {
		s.answer("a", Task{ID: fmt.Sprint("t", i)})
		a := s.submitted[0]
		a.Progress(0.5, "half")
		s.begin(a)
		s.end(nil)
		s.wantTake("a", 1)
	}
	if len(q.unseen) > 0 || len(q.moved) > 0 {
		t.Errorf("%d attempts wait to be seen, %d have moved", len(q.unseen), len(q.moved))
	}
}

func TestQueueThatFailsToGiveIsNotAskedAtOnce(t *testing.T) {
	s := newStage(t, 1, map[string]int{"a": 1}, false)
	q := s.loop.byName("a")
	s.wantTake("a", 1)
	failed := event{kind: eventCycled, queue: q, cycle: cycleResult{reply: cycleReply{failure: "WRONGTYPE", more: true}}}
	s.loop.handle(&failed, s.now)
	if s.cycle("a") != nil || q.watcher.armed.Load() {
		t.Error("it is asked or waited for at once")
	}
	s.now = s.now.Add(time.Second)
	s.wantTake("a", 1)
}

func TestHigherQueueThatHasTasksAgainIsAsked(t *testing.T) {
	for _, lowIsLate := range []bool{false, true} {
		s := newStage(t, 3, map[string]int{"high": 9, "low": 1}, true)
		s.wantTake("high", 3)
		s.answer("high", Task{ID: "h1"})
		s.wantTake("low", 2)
		s.end(nil) // h1, while the lower queue has not answered
		s.now = s.now.Add(s.loop.nextAnswer())
		s.wantTake("high", 0)
		high := s.loop.byName("high")
		reply := cycleReply{statuses: make([]itemStatus, 1), more: true}
		s.loop.handle(&event{kind: eventCycled, queue: high, cycle: cycleResult{reply: reply}}, s.now)
		if !lowIsLate {
			s.answer("low")
			s.wantTake("high", 3)
			continue
		}
		s.wantTake("high", 1)
		s.answer("low")
		s.answer("high", Task{ID: "h2"})
		s.wantTake("high", 2)
	}
}

func TestCancelledTaskThatDidNotRunFails(t *testing.T) {
	s := newStage(t, 1, map[string]int{"a": 1}, false)
	s.wantTake("a", 1)
	s.answer("a", Task{ID: "t1"})
	s.loop.handle(&event{kind: eventCancel, taskID: "t1"}, s.now)
	s.end(ErrUntouched)
	if r := s.wantTake("a", 1); !slices.Equal(ended(r), []string{"t1 retry"}) {
		t.Errorf("ended: %v", ended(r))
	}
}

func waitingSuspect(t *testing.T) *stage {
	t.Helper()
	s := newStage(t, 2, map[string]int{"a": 1}, false)
	s.wantTake("a", 2)
	s.answer("a", Task{ID: "long"}, Task{ID: "suspect", Suspicions: 3})
	if s.loop.suspect == nil || s.cycle("a") != nil {
		t.Fatal("no task waits to run alone")
	}
	s.loop.suspect.until = time.Time{}
	return s
}

func TestWaitingSuspectGoesBackWhenTheGateShuts(t *testing.T) {
	s := waitingSuspect(t)
	s.shut = true
	r := s.cycle("a")
	if r == nil || !slices.Equal(ended(r), []string{"suspect pending"}) || s.loop.suspect != nil {
		t.Errorf("cycle: %+v", r)
	}
}

// The process has nothing to do and no room, as during a check.
func TestWaitingSuspectWaitsForACheck(t *testing.T) {
	s := waitingSuspect(t)
	free := s.room.Free
	s.room.Free = 0
	s.end(nil) // the long one
	s.loop.advance(s.now)
	if len(s.submitted) > 0 || s.loop.suspect == nil {
		t.Fatalf("%d tasks run during the check", len(s.submitted))
	}
	s.room.Free = free
	s.loop.handle(&event{kind: eventWake}, s.now)
	s.loop.advance(s.now)
	if len(s.submitted) != 1 || s.submitted[0].task.ID != "suspect" || !s.submitted[0].alone {
		t.Errorf("after the check %d tasks run, want the suspect alone", len(s.submitted))
	}
}

func TestWaitingSuspectIsCancelled(t *testing.T) {
	s := waitingSuspect(t)
	s.loop.handle(&event{kind: eventCancel, taskID: "suspect"}, s.now)
	r := s.cycle("a")
	if r == nil || !slices.Equal(ended(r), []string{"suspect retry"}) || s.loop.suspect != nil {
		t.Errorf("cycle: %+v", r)
	}
}

func TestWhatWasTakenAwayIsNotRun(t *testing.T) {
	s := waitingSuspect(t)
	s.loop.handle(&event{kind: eventLost, attempt: s.loop.suspect.attempt}, s.now)
	s.end(nil) // the long one
	s.loop.advance(s.now)
	if len(s.submitted) > 0 || s.loop.suspect != nil {
		t.Errorf("submitted: %d", len(s.submitted))
	}
}

func TestWhatGoesBackKeepsItsOrder(t *testing.T) {
	s := newStage(t, 3, map[string]int{"a": 1}, false)
	s.wantTake("a", 3)
	s.answer("a", Task{ID: "t1"}, Task{ID: "t2"}, Task{ID: "t3"})
	s.shut = true
	s.end(ErrUntouched)
	s.end(ErrUntouched)
	s.end(ErrUntouched)
	if r := s.wantTake("a", 0); !slices.Equal(ended(r), []string{"t3 pending", "t2 pending", "t1 pending"}) {
		t.Errorf("ended: %v; each goes in front of those before it", ended(r))
	}
}

func TestQueueThatRefusesOutcomesIsNotAskedForMore(t *testing.T) {
	s := newStage(t, 2, map[string]int{"a": 1}, false)
	q := s.loop.byName("a")
	refuse := func(tasks ...Task) {
		reply := cycleReply{statuses: make([]itemStatus, len(q.sent)), refusals: map[int]string{}}
		for i := range reply.statuses {
			reply.statuses[i], reply.refusals[i] = refused, "NOPERM this user has no permissions to access one of the keys"
		}
		s.loop.handle(&event{kind: eventCycled, queue: q, cycle: cycleResult{reply: reply}}, s.now)
	}
	s.wantTake("a", 2)
	s.answer("a", Task{ID: "t1"}, Task{ID: "t2"})
	s.end(nil)
	s.end(nil)
	s.wantTake("a", 2)
	refuse()
	for range 20 {
		s.now = s.now.Add(refusedFor)
		r := s.cycle("a")
		if r != nil && r.take > 0 {
			t.Fatalf("%d more are taken while %d outcomes are refused", r.take, 2)
		}
		if r != nil {
			refuse()
		}
	}
	s.now = s.now.Add(refusedFor)
	s.wantTake("a", 0)
	s.answer("a")
	s.loop.handle(&event{kind: eventClaim, queue: q}, s.now)
	s.wantTake("a", 2)
}

func TestQueueThatDoesNotAnswerLeavesRoomToTheOthers(t *testing.T) {
	s := newStage(t, 1, map[string]int{"a": 2, "b": 1}, false)
	s.loop.opts.Cluster = true
	s.wantTake("a", 1)
	if s.cycle("b") != nil {
		t.Fatal("there is room for one task only")
	}
	s.now = s.now.Add(lookEvery)
	s.wantTake("b", 1)
	s.answer("b", Task{ID: "b1"})
	s.end(nil)
	s.wantTake("b", 1)
}
