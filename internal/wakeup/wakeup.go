// Package wakeup wakes one goroutine that has something to do.
package wakeup

// Signal wakes the goroutine that receives from C. Wakes that come before it has received the last one are one.
type Signal chan struct{}

// New returns a Signal that nobody has been woken by.
func New() Signal { return make(Signal, 1) }

// Wake wakes the receiver, now or as soon as it waits. It never blocks and may be called from any goroutine.
func (s Signal) Wake() {
	select {
	case s <- struct{}{}:
	default: // it has been woken and has not looked yet: it will find this change too
	}
}

// C is the channel to receive from.
func (s Signal) C() <-chan struct{} { return s }

// Clear takes back a wake that has not been received.
func (s Signal) Clear() {
	select {
	case <-s:
	default:
	}
}
