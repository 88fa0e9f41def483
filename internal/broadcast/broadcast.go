// Package broadcast wakes every goroutine that waits for a change.
package broadcast

import "sync"

// Notifier tells any number of goroutines that something has changed. The zero value is ready. It is safe for
// concurrent use and must not be copied.
type Notifier struct {
	mu   sync.Mutex // guards next
	next chan struct{}
}

// Next returns a channel that is closed at the next call of Notify. Take it before reading what may change: a change in
// between is then not missed.
func (n *Notifier) Next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next == nil {
		n.next = make(chan struct{})
	}
	return n.next
}

// Notify wakes every goroutine that waits. It never blocks.
func (n *Notifier) Notify() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next != nil { // else nobody waits
		close(n.next)
		n.next = nil
	}
}
