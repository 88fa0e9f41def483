package queue

import "testing"

// Each queue counts its cycles, so attempts of two of them may have the same stamp.
func TestAttemptsOfTwoQueuesWithTheSameStamp(t *testing.T) {
	table := newAttemptTable("w", "n")
	of := func(queue string) *attempt {
		return &attempt{task: &Task{ID: queue + "1", Queue: queue}, owner: "w|n|1.1"}
	}
	a, b := of("a"), of("b")
	table.add("a", []*attempt{a}, 0)
	table.add("b", []*attempt{b}, 0)
	if held := table.held(); len(held["a"]) != 1 || len(held["b"]) != 1 {
		t.Errorf("leases are renewed of %v", held)
	}
	table.submit(a)
	if active := table.active(); len(active) != 1 {
		t.Errorf("active: %v", active)
	}
	table.end(b)
	table.remove([]*attempt{b})
	if !table.holds("a", a.owner) || table.holds("b", b.owner) {
		t.Error("with the one gone, the other is not held")
	}
}
