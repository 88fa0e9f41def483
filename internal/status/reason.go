package status

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
)

// stderrHeading separates the summary from the lines of stderr in the text form of a Reason.
const stderrHeading = "; its last lines on stderr:"

// Reason says why a worker is not healthy. Formatting, encoding or logging a Reason gives the first line of its summary
// only; the lines of stderr, which may hold what tasks carry, are given by [Reason.Text] and the field alone.
type Reason struct {
	Summary string   // what has happened; its first line is fit for everybody
	Stderr  []string // what the Python process wrote last, oldest first; only for those who may see what tasks carry
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
	return r
}

// Text is the whole reason: the summary, and below it the lines of stderr. It is the field reason of the heartbeat.
func (r Reason) Text() string {
	if len(r.Stderr) == 0 {
		return r.Summary
	}
	return r.Summary + stderrHeading + "\n" + strings.Join(r.Stderr, "\n")
}

// IsZero reports whether there is no reason.
func (r Reason) IsZero() bool { return r.Summary == "" && len(r.Stderr) == 0 }

// HasStderr reports whether there are lines of stderr, without giving them away.
func (r Reason) HasStderr() bool { return len(r.Stderr) > 0 }

// Equal reports whether two reasons say the same.
func (r Reason) Equal(other Reason) bool {
	return r.Summary == other.Summary && slices.Equal(r.Stderr, other.Stderr)
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
