package supervisor

import "sync"

// gate is where Do finds the process, or learns why there is none.
type gate struct {
	mu    sync.Mutex // guards all below
	child *child     // not nil: give it the request
	wait  bool       // without child: a planned replacement is under way, wait
	why   string     // without child and wait: the reason to refuse
	next  chan struct{}
}

func newGate(why string) *gate { return &gate{why: why, next: make(chan struct{})} }

// set changes what Do finds and wakes those who wait.
func (g *gate) set(c *child, wait bool, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.child == c && g.wait == wait && g.why == why {
		return
	}
	g.child, g.wait, g.why = c, wait, why
	close(g.next)
	g.next = make(chan struct{})
}

// look returns the present answer and a channel that is closed at the next.
func (g *gate) look() (c *child, wait bool, why string, next <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.child, g.wait, g.why, g.next
}
