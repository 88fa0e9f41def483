package supervisor

import "github.com/runqy/runqy-worker/supervisor/internal/wire"

// AnyType stands in an announcement for all types that it does not name.
const AnyType = "*"

// kinds says which requests run one at a time, by what the process has announced. The zero value is that of a process
// of protocol 1, which announces nothing.
type kinds struct {
	told     bool              // protocol 2: it says how its handlers run
	types    map[string]string // the kind of each type; nil: all are alike
	oneByOne bool              // types that are not announced, or all, run one at a time
}

func kindsOf(r wire.Ready) kinds {
	k := kinds{told: r.Protocol >= 2, types: r.Types, oneByOne: r.Handlers != wire.Async}
	if len(r.Types) > 0 {
		k.oneByOne = false
		for _, kind := range r.Types {
			k.oneByOne = k.oneByOne || kind != string(wire.Async)
		}
	}
	return k
}

// inOrder reports whether requests of this type run in the order in which they were written, as far as the process says
// so. One that says nothing is taken to do that.
func (k kinds) inOrder(taskType string) bool {
	if !k.told {
		return true
	}
	kind, ok := k.types[taskType]
	if !ok {
		kind, ok = k.types[AnyType]
	}
	if !ok {
		return k.oneByOne
	}
	return kind != string(wire.Async)
}

// sideBySide reports whether some requests run beside others, as far as the process says so.
func (k kinds) sideBySide() bool {
	if !k.oneByOne {
		return true
	}
	for _, kind := range k.types {
		if kind == string(wire.Async) {
			return true
		}
	}
	return false
}
