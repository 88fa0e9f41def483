package supervisor

import (
	"sync"

	"github.com/runqy/runqy-worker/internal/broadcast"
)

// gate is where Do finds the process, or learns why there is none.
type gate struct {
	changed broadcast.Notifier

	mu    sync.Mutex // guards all below
	child *child     // not nil: give it the request
	wait  bool       // without child: a planned replacement is under way, wait
	why   string     // without child and wait: the reason to refuse
}

func newGate(why string) *gate { return &gate{why: why} }

// set changes what Do finds and wakes those that wait.
func (g *gate) set(c *child, wait bool, why string) {
	g.mu.Lock()
	same := g.child == c && g.wait == wait && g.why == why
	g.child, g.wait, g.why = c, wait, why
	g.mu.Unlock()
	if !same {
		g.changed.Notify()
	}
}

// current returns the present answer and a channel that is closed at the next.
func (g *gate) current() (c *child, wait bool, why string, changed <-chan struct{}) {
	changed = g.changed.Next() // before the answer: a change in between is not missed
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.child, g.wait, g.why, changed
}
