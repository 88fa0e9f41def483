package broadcast

import (
	"sync"
	"testing"
)

func TestNotifyWakesEverybodyOnce(t *testing.T) {
	var n Notifier
	n.Notify() // nobody waits: nothing happens
	first := n.Next()
	if second := n.Next(); first != second {
		t.Fatal("two calls of Next without a change returned two channels, want one")
	}
	var waiting sync.WaitGroup
	for range 10 {
		waiting.Go(func() { <-first })
	}
	n.Notify()
	waiting.Wait()
	select {
	case <-n.Next():
		t.Error("the channel after a change is closed, want one that waits for the next change")
	default:
	}
}

func TestConcurrentUse(t *testing.T) {
	var n Notifier
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 1000 {
				n.Notify()
				_ = n.Next()
			}
		})
	}
	group.Wait()
}
