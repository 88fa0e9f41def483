package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What a process of protocol 2 says between its answers: how far a task has
// come, and lines for the log that know their task. Neither is an answer, so
// nothing that is wrong with one may fail a task.

const (
	progressMessageMax = 200 // characters
	logFieldsMax       = 32
	logNameMax         = 64 // characters of a field's or a logger's name
	logValueMax        = 1 << 10
)

// unknownShare is the fraction of a report that holds only a message.
const unknownShare = -1

// note is the content of a kindProgress or kindLog message.
type note struct {
	task string // empty: none named

	fraction float64 // of progress: 0 to 1, or unknownShare
	text     string  // the message of either

	level  slog.Level // of a log line, as all below
	logger string
	fields []slog.Attr
}

// isNote tells whether a line, whole or cut short, was meant as one.
func isNote(text []byte) bool {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(text), []byte("{"))
	rest = bytes.TrimLeft(rest, " \t")
	return ok && (bytes.HasPrefix(rest, []byte(`"progress"`)) || bytes.HasPrefix(rest, []byte(`"log"`)))
}

// decodeProgress reads {"task_id","fraction","message"}, all optional but the
// first and one of the others.
func decodeProgress(raw json.RawMessage) (note, bool) {
	var w struct {
		TaskID   json.RawMessage `json:"task_id"`
		Fraction json.RawMessage `json:"fraction"`
		Message  json.RawMessage `json:"message"`
	}
	if json.Unmarshal(raw, &w) != nil {
		return note{}, false
	}
	n := note{task: text(w.TaskID), fraction: unknownShare, text: oneLine(text(w.Message), progressMessageMax)}
	var f *float64 // null leaves it nil
	if json.Unmarshal(w.Fraction, &f) == nil && f != nil {
		n.fraction = min(max(*f, 0), 1)
	}
	return n, n.task != "" && (n.fraction >= 0 || n.text != "")
}

// decodeLog reads {"task_id","level","message","logger","fields"}, all
// optional but the message.
func decodeLog(raw json.RawMessage) (note, bool) {
	var w struct {
		TaskID  json.RawMessage `json:"task_id"`
		Level   json.RawMessage `json:"level"`
		Message json.RawMessage `json:"message"`
		Logger  json.RawMessage `json:"logger"`
		Fields  json.RawMessage `json:"fields"`
	}
	if json.Unmarshal(raw, &w) != nil {
		return note{}, false
	}
	n := note{
		task: text(w.TaskID), text: cut(text(w.Message), logLineMax),
		logger: oneLine(text(w.Logger), logNameMax), fields: logFields(w.Fields),
	}
	switch strings.ToLower(text(w.Level)) {
	case "debug":
		n.level = slog.LevelDebug
	case "warn", "warning":
		n.level = slog.LevelWarn
	case "error", "critical", "fatal":
		n.level = slog.LevelError
	default:
		n.level = slog.LevelInfo
	}
	return n, n.text != ""
}

// logFields keeps what is a string, a number or a bool of an object, the first
// names first.
func logFields(raw json.RawMessage) []slog.Attr {
	var values map[string]json.RawMessage
	if json.Unmarshal(raw, &values) != nil {
		return nil
	}
	var out []slog.Attr
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value, ok := scalar(values[name])
		key := oneLine(name, logNameMax)
		if !ok || key == "" {
			continue
		}
		if out = append(out, slog.Any(key, value)); len(out) == logFieldsMax {
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
		return cut(string(raw), logValueMax), true // a number too large for a float
	}
	switch v := value.(type) {
	case string:
		return cut(v, logValueMax), true
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

// cut shortens s to at most n bytes, between two characters. What it returns
// does not keep the rest of a long line in memory.
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

// progressed tells whoever gave the task how far it has come.
func (c *child) progressed(n note) {
	if k := c.ledger.find(n.task); k != nil && k.progress != nil {
		k.progress(n.fraction, n.text)
	}
}

// logged puts a line into the log under our own names; the process' names
// stand in a group, where they cannot be taken for ours.
//
// The line is also among the last of stderr: what the process said before it
// died is evidence, whichever way it said it.
func (c *child) logged(n note) {
	if !c.log.Enabled(context.Background(), n.level) {
		return
	}
	head := n.level.String()
	if n.logger != "" {
		head += " " + n.logger
	}
	for line := range strings.SplitSeq(head+": "+n.text, "\n") {
		c.tail.add([]byte(line))
	}
	l := logLine{level: n.level, msg: n.text, origin: "log"}
	if n.task != "" {
		id := clip(n.task)
		if k := c.ledger.find(n.task); k != nil {
			l.attrs = append(l.attrs, slog.String("queue", k.queue), slog.String("type", k.kind))
		}
		l.attrs = append(l.attrs, slog.String("task_id", id))
	}
	if n.logger != "" {
		l.attrs = append(l.attrs, slog.String("logger", n.logger))
	}
	if len(n.fields) > 0 {
		l.attrs = append(l.attrs, slog.GroupAttrs("fields", n.fields...))
		for _, f := range n.fields {
			l.extra += len(f.Key) + len(f.Value.String())
		}
	}
	c.logs.put(l)
}
