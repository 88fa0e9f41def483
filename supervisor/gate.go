package supervisor

import "sync/atomic"

// gate is where Submit finds the process, or learns why there is none that takes requests. Only the event loop changes
// it, and Stop before Run.
type gate struct {
	process atomic.Pointer[child] // the present one, whether or not it takes requests; nil: none
	state   atomic.Pointer[gateState]
}

type gateState struct {
	child *child // takes requests; nil: none does
	why   string // without child
}

func newGate(why string) *gate {
	g := &gate{}
	g.shut(why)
	return g
}

// open lets requests through to the process.
func (g *gate) open(c *child) { g.state.Store(&gateState{child: c}) }

// shut refuses requests.
func (g *gate) shut(why string) { g.state.Store(&gateState{why: why}) }

// current returns the process that takes requests, or why there is none.
func (g *gate) current() (c *child, why string) {
	s := g.state.Load()
	return s.child, s.why
}
