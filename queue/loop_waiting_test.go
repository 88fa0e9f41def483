package queue

import (
	"errors"
	"io"
	"testing"
)

// idle is a stage with one queue that has been found empty, and the request that waits for a task there.
func idle(t *testing.T, concurrency int) (*stage, *cycleRequest) {
	t.Helper()
	s := newStage(t, concurrency, map[string]int{"a": 1}, false)
	s.wantTake("a", concurrency)
	s.answer("a")
	r := s.waiting("a")
	if r == nil || r.take != concurrency || r.number != 2 {
		t.Fatalf("waits with %+v", r)
	}
	if s.cycle("a") != nil || s.waiting("a") != nil {
		t.Fatal("it asks while it waits")
	}
	return s, r
}

func TestTaskComesWithItsClaim(t *testing.T) {
	s, _ := idle(t, 2)
	s.answerAs(eventWaited, "a", Task{ID: "t1"})
	if len(s.submitted) != 1 {
		t.Fatal("the task is not with the handler")
	}
	if r := s.waiting("a"); r == nil || r.take != 1 || r.number != 3 {
		t.Errorf("waits on with %+v", r)
	}
}

// An answer that was lost and asked for again does not say that the queue is empty.
func TestRecalledCycleSaysNothingOfTheQueue(t *testing.T) {
	s, _ := idle(t, 2)
	q := s.loop.byName("a")
	s.loop.handle(&event{kind: eventWaited, queue: q, cycle: cycleResult{recalled: true, reply: cycleReply{more: true}}}, s.now)
	s.wantTake("a", 2)
}

// A cycle that was begun meanwhile goes first. What the other one may have taken is not for the audit before it has ended.
func TestCycleOvertakesTheOneThatWaits(t *testing.T) {
	s, _ := idle(t, 2)
	q := s.loop.byName("a")
	s.answerAs(eventWaited, "a", Task{ID: "t1"})
	if r := s.waiting("a"); r == nil || r.number != 3 {
		t.Fatalf("waits with %+v", r)
	}
	s.end(nil)
	if r := s.wantTake("a", 0); r.number != 4 || len(r.items) != 1 {
		t.Fatalf("asked with %+v", r)
	}
	if !s.loop.table.holds("a", "w|n|3.1") {
		t.Error("an audit would take what the cycle may bring")
	}
	s.answer("a")
	if !s.loop.table.holds("a", "w|n|3.1") {
		t.Error("an audit would take what the cycle may bring")
	}
	s.loop.handle(&event{kind: eventWaited, queue: q, cycle: cycleResult{err: errStale}}, s.now)
	if s.loop.table.holds("a", "w|n|3.1") {
		t.Error("held still, after it was refused")
	}
	s.wantTake("a", 2)
}

// The answer to a claim says nothing of the cycle that overtook it: the silence of that one still counts.
func TestSilenceBehindAnAnsweredClaim(t *testing.T) {
	s, _ := idle(t, 2)
	s.answerAs(eventWaited, "a", Task{ID: "t1"})
	s.end(nil)
	s.wantTake("a", 0)
	begun := s.now
	s.answerAs(eventWaited, "a")
	if got := s.loop.receipts.of("a").asked; !got.Equal(begun) {
		t.Errorf("the cycle under way was begun at %v, want %v", got, begun)
	}
}

// Redis refuses the one that was overtaken. What was claimed is in this worker's list.
func TestOvertakenCycleIsRefused(t *testing.T) {
	for _, err := range []error{errStale, noScriptError{}} {
		s, _ := idle(t, 1)
		s.loop.handle(&event{kind: eventWaited, queue: s.loop.byName("a"), cycle: cycleResult{err: errors.Join(err)}}, s.now)
		if r := s.wantTake("a", 1); r.number != 3 {
			t.Errorf("%v: asked with %+v", err, r)
		}
	}
}

type noScriptError struct{}

func (noScriptError) Error() string { return "NOSCRIPT No matching script." }
func (noScriptError) RedisError()   {}

func TestDrainWaitsForTheOneThatWaits(t *testing.T) {
	s, _ := idle(t, 1)
	s.loop.handle(&event{kind: eventDrain}, s.now)
	s.wantTake("a", 0)
	s.answer("a")
	if isDone(s.loop.flushed) {
		t.Fatal("drained while a cycle may still take a task")
	}
	s.loop.handle(&event{kind: eventWaited, queue: s.loop.byName("a"), cycle: cycleResult{err: io.EOF}}, s.now)
	s.wantTake("a", 0)
	s.answer("a")
	if !isDone(s.loop.flushed) {
		t.Error("not drained")
	}
}
