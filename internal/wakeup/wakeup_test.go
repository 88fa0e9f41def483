package wakeup

import "testing"

func TestWakesBeforeAReceiveAreOne(t *testing.T) {
	s := New()
	s.Wake()
	s.Wake()
	<-s.C()
	select {
	case <-s.C():
		t.Error("two wakes were received, want one")
	default:
	}
	s.Wake()
	s.Clear()
	s.Clear() // of nothing: no effect
	select {
	case <-s.C():
		t.Error("a cleared wake was received")
	default:
	}
}
