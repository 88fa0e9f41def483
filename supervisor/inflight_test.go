package supervisor

import (
	"errors"
	"testing"
)

func TestInFlightTableIdle(t *testing.T) {
	table := newInFlightTable(0, nil)
	write := func() int64 { return 0 }
	a, _, errA := table.add(Request{TaskID: "a"}, write)
	_, _, errB := table.add(Request{TaskID: "b"}, write)
	if err := errors.Join(errA, errB); err != nil {
		t.Fatalf("add two requests: %v", err)
	}
	called := 0
	if in, over := table.close(func() { called++ }); in != 2 || over != 0 {
		t.Errorf("%d in flight, %d overdue; want 2 and 0", in, over)
	}
	if _, _, err := table.add(Request{TaskID: "c"}, write); !errors.Is(err, errClosed) {
		t.Errorf("add to a closed table: %v, want %v", err, errClosed)
	}
	if in, oldest := table.markOverdue(a); !in || !oldest {
		t.Errorf("a: in flight %v, oldest %v; want both", in, oldest)
	}
	if table.answer("b", outcome{}); called != 1 {
		t.Errorf("only an overdue request is left: idle was called %d times, want once", called)
	}
	if table.answer("b", outcome{}) {
		t.Error("b was answered twice")
	}
	table.answer("a", outcome{})
	if in, _ := table.markOverdue(a); in || called != 1 || table.overdue != 0 {
		t.Errorf("after the end: in flight %v, idle called %d times, %d overdue; want false, 1 and 0", in, called, table.overdue)
	}
}

func TestInFlightTableTakesItsNumber(t *testing.T) {
	table := newInFlightTable(2, nil)
	write := func() int64 { return 0 }
	_, full1, _ := table.add(Request{TaskID: "a"}, write)
	_, full2, _ := table.add(Request{TaskID: "b"}, write)
	_, _, err := table.add(Request{TaskID: "c"}, write)
	if full1 || !full2 || !errors.Is(err, errFull) {
		t.Errorf("full %v, then %v, then %v; want false, true and %v", full1, full2, err, errFull)
	}
}
