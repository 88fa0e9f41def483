package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Origin is where a value came from.
type Origin struct {
	Name string // the file, the variable or the flag; empty: the default
	Line int    // in the file, from 1; 0 elsewhere
}

// String is file:line, the variable, the flag, or "default".
func (o Origin) String() string {
	switch {
	case o.Name == "":
		return "default"
	case o.Line > 0:
		return o.Name + ":" + strconv.Itoa(o.Line)
	default:
		return o.Name
	}
}

// Fault is one thing that is wrong with the configuration.
type Fault struct {
	Origin Origin
	Key    string // a.b.c; empty when the fault lies outside any key
	Value  string // what was given, secrets masked; empty when it does not help
	Text   string // what is wrong and what to write instead
}

// String is one line: where, key, value, problem and remedy.
func (f Fault) String() string {
	var b strings.Builder
	if f.Origin.Name != "" {
		b.WriteString(f.Origin.String() + ": ")
	}
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	if f.Value != "" {
		b.WriteString(quote(f.Value) + " ")
	}
	b.WriteString(f.Text)
	return b.String()
}

// Error is what Load returns for a configuration that cannot be used: all its faults, those of the file first and by
// line.
type Error struct {
	Faults []Fault
}

// Error lists every fault on a line of its own.
func (e *Error) Error() string {
	if len(e.Faults) == 1 {
		return "configuration: " + e.Faults[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "configuration has %d faults:", len(e.Faults))
	for _, f := range e.Faults {
		b.WriteString("\n  " + f.String())
	}
	return b.String()
}

// quote shows a value on one line and cuts a long one.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strconv.Quote(s)
}
