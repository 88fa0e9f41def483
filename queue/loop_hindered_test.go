package queue

import (
	"fmt"
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
