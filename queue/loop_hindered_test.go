package queue

import (
	"fmt"
	"testing"
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
