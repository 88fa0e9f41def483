package status

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
)

// These separate the summary from the lines of stderr, and these from the stacks, in the text form of a Reason.
const (
	stderrHeading = "; its last lines on stderr:"
	stackHeading  = "its stacks:"
)

// Reason says why a worker is not healthy. Formatting, encoding or logging a Reason gives the first line of its summary
// only; the lines of stderr and the stacks, which may hold what tasks carry, are given by [Reason.Text] and their fields
// alone.
type Reason struct {
	Summary string   // what has happened; its first line is fit for everybody
	Stderr  []string // what the Python process wrote last, oldest first; only for those who may see what tasks carry
	Stack   string   // where the Python process hung, in lines; for the same; empty: it did not, or it is not known
}

// NewReason makes a Reason of a text and the lines that the process wrote last. Lines of the text below its first come
// from the process too: they stand before the others.
func NewReason(text string, stderr []string) Reason {
	summary, rest, more := strings.Cut(text, "\n")
	r := Reason{Summary: summary, Stderr: stderr}
	if more {
		r.Stderr = append(strings.Split(rest, "\n"), stderr...)
	}
	return r
}

// ParseReason reads the text form, which [Reason.Text] writes.
func ParseReason(text string) Reason {
	r := NewReason(text, nil)
	r.Summary = strings.TrimSuffix(r.Summary, stderrHeading)
	if i := slices.Index(r.Stderr, stackHeading); i >= 0 {
		r.Stack = strings.Join(r.Stderr[i+1:], "\n")
		r.Stderr = r.Stderr[:i:i]
	}
	return r
}

// Text is the whole reason: the summary, and below it the lines of stderr and the stacks. It is the field reason of the
// heartbeat.
func (r Reason) Text() string {
	text := r.Summary
	if len(r.Stderr) > 0 {
		text += stderrHeading + "\n" + strings.Join(r.Stderr, "\n")
	}
	if r.Stack != "" {
		text += "\n" + stackHeading + "\n" + r.Stack
	}
	return text
}

// IsZero reports whether there is no reason.
func (r Reason) IsZero() bool { return r.Summary == "" && len(r.Stderr) == 0 && r.Stack == "" }

// HasStderr reports whether there are lines of stderr, without giving them away.
func (r Reason) HasStderr() bool { return len(r.Stderr) > 0 }

// Equal reports whether two reasons say the same.
func (r Reason) Equal(other Reason) bool {
	return r.Summary == other.Summary && slices.Equal(r.Stderr, other.Stderr) && r.Stack == other.Stack
}

// Public returns what everybody may see: the first line of the summary. An error in it may have more, as that of a
// client which has tried several Sentinels, with the address of each.
func (r Reason) Public() Reason {
	line, _, _ := strings.Cut(r.Summary, "\n")
	return Reason{Summary: line}
}

// WithSummary returns the reason with another summary, made of the present one by change.
func (r Reason) WithSummary(change func(string) string) Reason {
	r.Summary = change(r.Summary)
	return r
}

// String returns the first line of the summary.
func (r Reason) String() string { return r.Public().Summary }

// GoString returns the first line of the summary.
func (r Reason) GoString() string { return r.String() }

// MarshalJSON encodes the first line of the summary.
func (r Reason) MarshalJSON() ([]byte, error) { return json.Marshal(r.String()) }

// LogValue implements slog.LogValuer: the first line of the summary is logged.
func (r Reason) LogValue() slog.Value { return slog.StringValue(r.String()) }
