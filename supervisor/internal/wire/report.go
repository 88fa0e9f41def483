package wire

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The bounds of a report.
const (
	maxProgressMessage = 200 // characters
	maxFields          = 32
	maxName            = 64      // characters of a field's or a logger's name
	maxValue           = 1 << 10 // bytes
)

// UnknownFraction is the fraction of a report that holds only a message.
const UnknownFraction = -1

// Report is what a process of protocol 2 writes between its answers: how far a task has come (KindProgress), or a line
// for the log (KindLog). Neither is an answer, so nothing that is wrong with one may fail a task.
type Report struct {
	TaskID string // empty: none named; only a log line may lack it

	Fraction float64 // of progress: 0 to 1, or UnknownFraction
	Message  string  // of either. Of progress: one line of at most 200 characters. Of a log line: at most MaxLogLine bytes

	Level  slog.Level // of a log line, as all below
	Logger string
	Fields []slog.Attr // at most 32, sorted by key: strings, numbers and bools
}

// IsReport reports whether a line, whole or cut short, was meant as one, or as an answer to the worker itself: it answers
// no task.
func IsReport(text []byte) bool {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(text), []byte("{"))
	rest = bytes.TrimLeft(rest, " \t")
	for _, key := range []string{`"progress"`, `"log"`, `"pong"`, `"check"`, `"stack"`} {
		if ok && bytes.HasPrefix(rest, []byte(key)) {
			return true
		}
	}
	return false
}

// decodeProgress reads {"task_id","fraction","message"}, all optional but the first and one of the others.
func decodeProgress(raw json.RawMessage) (Report, bool) {
	var w struct {
		TaskID   json.RawMessage `json:"task_id"`
		Fraction json.RawMessage `json:"fraction"`
		Message  json.RawMessage `json:"message"`
	}
	if json.Unmarshal(raw, &w) != nil {
		return Report{}, false
	}
	r := Report{TaskID: text(w.TaskID), Fraction: UnknownFraction, Message: oneLine(text(w.Message), maxProgressMessage)}
	var f *float64 // null leaves it nil
	if json.Unmarshal(w.Fraction, &f) == nil && f != nil {
		r.Fraction = min(max(*f, 0), 1)
	}
	return r, r.TaskID != "" && (r.Fraction >= 0 || r.Message != "")
}

// decodeLog reads {"task_id","level","message","logger","fields"}, all optional but the message.
func decodeLog(raw json.RawMessage) (Report, bool) {
	var w struct {
		TaskID  json.RawMessage `json:"task_id"`
		Level   json.RawMessage `json:"level"`
		Message json.RawMessage `json:"message"`
		Logger  json.RawMessage `json:"logger"`
		Fields  json.RawMessage `json:"fields"`
	}
	if json.Unmarshal(raw, &w) != nil {
		return Report{}, false
	}
	r := Report{
		TaskID: text(w.TaskID), Message: cut(text(w.Message), MaxLogLine),
		Logger: oneLine(text(w.Logger), maxName), Fields: logFields(w.Fields),
	}
	switch strings.ToLower(text(w.Level)) {
	case "debug":
		r.Level = slog.LevelDebug
	case "warn", "warning":
		r.Level = slog.LevelWarn
	case "error", "critical", "fatal":
		r.Level = slog.LevelError
	default:
		r.Level = slog.LevelInfo
	}
	return r, r.Message != ""
}

// logFields keeps what is a string, a number or a bool of an object, the first names first.
func logFields(raw json.RawMessage) []slog.Attr {
	var values map[string]json.RawMessage
	if json.Unmarshal(raw, &values) != nil {
		return nil
	}
	var out []slog.Attr
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value, ok := scalar(values[name])
		key := oneLine(name, maxName)
		if !ok || key == "" {
			continue
		}
		if out = append(out, slog.Any(key, value)); len(out) == maxFields {
			break
		}
	}
	return out
}

func scalar(raw json.RawMessage) (any, bool) {
	var i int64
	if raw[0] != 'n' && json.Unmarshal(raw, &i) == nil {
		return i, true
	}
	var value any
	if json.Unmarshal(raw, &value) != nil {
		return cut(string(raw), maxValue), true // a number too large for a float
	}
	switch v := value.(type) {
	case string:
		return cut(v, maxValue), true
	case float64, bool:
		return v, true
	}
	return nil, false
}

// text is the string that raw is, or empty.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// cut shortens s to at most n bytes, between two characters. What it returns does not keep the rest of a long line in
// memory.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.Clone(s[:n])
}

// oneLine is s without control characters, of at most n characters.
func oneLine(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, cut(s, utf8.UTFMax*n*2))
	for i := range s {
		if n--; n < 0 {
			return s[:i]
		}
	}
	return s
}
