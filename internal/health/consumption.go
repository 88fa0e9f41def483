package health

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Consumption is what a worker knows of its own work with Redis: whether tasks can be taken, settled, and its heartbeat
// written.
type Consumption struct {
	Reasons []string // why not, in whole sentences, the most important one first; empty when it works
	Worker  bool     // this process is at fault
	Broker  bool     // Redis is at fault, or nobody knows
	// Probed says that tasks have to be taken all the same, one at a time, since nothing else shows that it works again.
	Probed bool
	// Unknown says that there was no answer yet.
	Unknown bool
}

// errNotAsked says that there is nothing to record yet.
var errNotAsked = errors.New("not asked yet")

// hinderedError is a Consumption that does not work.
type hinderedError struct{ Consumption }

func (e *hinderedError) Error() string { return strings.Join(e.Reasons, " ") }

// hindranceChanged reports whether two outcomes of a check name other hindrances.
func hindranceChanged(before, after error) bool {
	a, ok := errors.AsType[*hinderedError](before)
	b, also := errors.AsType[*hinderedError](after)
	return ok && also && a.Error() != b.Error()
}

func newConsumptionWatch(consumption func() Consumption, changed func() <-chan struct{}) *watch {
	check := func(context.Context) error {
		switch c := consumption(); {
		case len(c.Reasons) > 0:
			return &hinderedError{c}
		case c.Unknown:
			return errNotAsked
		}
		return nil
	}
	return &watch{
		name: "redis", title: "Redis", interval: consumptionInterval, timeout: consumptionTimeout, check: check, changed: changed,
		close: func() {},
	}
}

// open reports whether a task may be taken as far as a dependency decides that by what is known of it now. The caller
// holds Dependencies.mu.
func (d *Dependencies) open(w *watch, now time.Time) bool { return w.open() && !d.stale(w, now) }

// open reports whether a task may be taken, as far as the dependency decides that. The caller holds Dependencies.mu.
func (w *watch) open() bool {
	hindered, ok := errors.AsType[*hinderedError](w.err)
	return w.asked && (w.err == nil || ok && hindered.Probed)
}
