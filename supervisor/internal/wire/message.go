package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"time"
	"unicode/utf8"
)

// Python is what the process tells about its interpreter.
type Python struct {
	Implementation      string
	Version             string
	Major, Minor, Patch int
}

// GC is the interpreter's figures for one garbage collector generation.
type GC struct {
	Generation                            int
	Collections, Collected, Uncollectable uint64
}

// Handlers says how the process runs the tasks that it has.
type Handlers string

// The kinds of handlers.
const (
	Sync  Handlers = "sync"  // one at a time, in the order in which they were written
	Async Handlers = "async" // all at once
)

// Kind is what a line of the process' stdout is.
type Kind int

// The kinds of lines. The comments name the fields of Message that are set.
const (
	KindOutput    Kind = iota // output that is not protocol
	KindReady                 // the process is ready: Ready
	KindFailed                // it cannot start: Error
	KindReply                 // an answer: TaskID, Reply
	KindInvalid               // names a task but is no valid answer: TaskID, Error
	KindPong                  // the answer to a ping: Pong, Lag, MainGone, GC
	KindProgress              // a task reports how far it is: Report
	KindLog                   // a line for the log: Report
	KindStack                 // the answer to a question for the stacks: Stack, Text
	KindWithdrawn             // a task that has not begun is given back, as asked: TaskID
	KindChecked               // the answer to a check: Check, Error
)

// Message is one decoded line of the process' stdout.
type Message struct {
	Kind   Kind
	TaskID string
	Reply  Reply
	Error  string
	Output []byte // output that is not protocol and stood before a reply on its line

	Ready Ready

	Pong     int64         // the number of the ping
	Lag      time.Duration // of the event loop
	MainGone bool          // the main thread no longer runs tasks; false: it does, or that is not told
	GC       []GC          // at most 8 generations

	Check int64 // the number of the check; Error is empty when it has passed

	Stack int64  // the number of the question
	Text  string // the stacks

	Report Report
}

// The bounds of what a ready message announces.
const (
	maxTypes    = 1000
	maxFeatures = 100
	maxTypeName = 1 << 10   // bytes
	maxStacks   = 256 << 10 // bytes
)

// What a process announces that it can do.
const (
	FeatureWithdraw = "withdraw" // gives back, when it is asked, what has not begun
	FeatureCheck    = "check"    // says, when it is asked, whether it can do its work
	FeatureStack    = "stack"    // says, when it is asked, where it is
)

// Ready is the content of the ready message.
type Ready struct {
	Protocol int // 1 or 2
	Handlers Handlers
	Types    map[string]string // the kind of handler of each task type; nil: not told
	Features []string          // of protocol 2
	Python   Python
	PID      int // 0: not told
}

// Has reports whether the process announced a feature.
func (r Ready) Has(feature string) bool { return slices.Contains(r.Features, feature) }

type messageLine struct {
	TaskID     *string         `json:"task_id"`
	Result     json.RawMessage `json:"result"`
	Error      json.RawMessage `json:"error"`
	Retry      *bool           `json:"retry"`
	RetryDelay *float64        `json:"retry_delay"`
	Seconds    *float64        `json:"seconds"`

	// Raw: in the reply of a process that knows nothing of them, these may be anything.
	Broken json.RawMessage `json:"broken"`
	Check  json.RawMessage `json:"check"`
	OK     json.RawMessage `json:"ok"`
	Main   json.RawMessage `json:"main"`

	Withdrawn *string `json:"withdrawn"`

	Stack *int64          `json:"stack"`
	Text  json.RawMessage `json:"text"`

	Pong  *int64  `json:"pong"`
	Lag   float64 `json:"lag"`
	Stats struct {
		GC []struct {
			Generation    int    `json:"generation"`
			Collections   uint64 `json:"collections"`
			Collected     uint64 `json:"collected"`
			Uncollectable uint64 `json:"uncollectable"`
		} `json:"gc"`
	} `json:"stats"`

	Progress json.RawMessage `json:"progress"`
	Log      json.RawMessage `json:"log"`

	Status   *string         `json:"status"`
	Protocol int             `json:"protocol"`
	Handlers string          `json:"handlers"`
	Types    json.RawMessage `json:"types"`
	Features json.RawMessage `json:"features"`
	PID      int             `json:"pid"`
	Python   struct {
		Implementation string `json:"implementation"`
		Version        string `json:"version"`
		Major          int    `json:"major"`
		Minor          int    `json:"minor"`
		Patch          int    `json:"patchlevel"`
	} `json:"python"`
}

// Decode reads one line. It never fails: what it does not understand is output that is not protocol, or an invalid
// reply when it names a task. Message.Output shares the memory of line.
func Decode(line []byte) Message {
	text := bytes.TrimSpace(line)
	if len(text) == 0 || text[len(text)-1] != '}' && text[0] != '{' {
		return Message{Kind: KindOutput}
	}
	if text[0] == '{' {
		if m, ok := decodeSuccess(text); ok {
			return m
		}
		if m, valid := decodeObject(text); valid || m.Kind != KindOutput {
			return m
		}
	}
	if IsReport(text) {
		return Message{Kind: KindOutput} // broken: the task it names has not been answered
	}
	// A print without a newline may stand before the reply on the same line.
	i := bytes.Index(text, []byte(`{"task_id"`))
	if i <= 0 {
		return Message{Kind: KindOutput}
	}
	m, _ := decodeObject(text[i:])
	m.Output = text[:i]
	return m
}

// decodeObject reads one JSON object; valid reports whether it is one.
func decodeObject(text []byte) (m Message, valid bool) {
	var w messageLine
	err := json.Unmarshal(text, &w)
	if err == nil && !utf8.Valid(text) {
		err = errors.New("invalid UTF-8")
	}
	if err != nil {
		if id, ok := FindTaskID(text); ok {
			return Message{Kind: KindInvalid, TaskID: id, Error: err.Error()}, false
		}
		return Message{Kind: KindOutput}, false
	}
	switch {
	case w.TaskID != nil && *w.TaskID != "" && w.Result == nil && w.Error == nil:
		return Message{Kind: KindInvalid, TaskID: *w.TaskID, Error: "it has neither a result nor an error"}, true
	case w.TaskID != nil:
		return Message{Kind: KindReply, TaskID: *w.TaskID, Reply: w.reply()}, true
	case w.Withdrawn != nil:
		return Message{Kind: KindWithdrawn, TaskID: *w.Withdrawn}, true
	case len(w.Check) > 0:
		return w.checked(), true
	case w.Stack != nil:
		return w.stack(), true
	case w.Pong != nil:
		m = Message{Kind: KindPong, Pong: *w.Pong, Lag: seconds(w.Lag), MainGone: string(w.Main) == "false"}
		for _, g := range w.Stats.GC[:min(len(w.Stats.GC), 8)] {
			m.GC = append(m.GC, GC(g))
		}
		return m, true
	case w.Status != nil && *w.Status == "ready":
		return Message{Kind: KindReady, Ready: w.ready()}, true
	case w.Status != nil && *w.Status == "error":
		return Message{Kind: KindFailed, Error: cut(errorText(w.Error), MaxLogLine)}, true
	case len(w.Progress) > 0:
		if r, ok := decodeProgress(w.Progress); ok {
			return Message{Kind: KindProgress, Report: r}, true
		}
	case len(w.Log) > 0:
		if r, ok := decodeLog(w.Log); ok {
			return Message{Kind: KindLog, Report: r}, true
		}
	}
	return Message{Kind: KindOutput}, true
}

func (w *messageLine) stack() Message {
	return Message{Kind: KindStack, Stack: *w.Stack, Text: cut(text(w.Text), maxStacks)}
}

func (w *messageLine) checked() Message {
	m := Message{Kind: KindChecked}
	if json.Unmarshal(w.Check, &m.Check) != nil {
		return Message{Kind: KindOutput}
	}
	if !isTrue(w.OK) {
		m.Error = cut(errorText(w.Error), MaxLogLine)
	}
	return m
}

func isTrue(raw json.RawMessage) bool { return string(raw) == "true" }

func (w *messageLine) ready() Ready {
	r := Ready{Protocol: 1, Handlers: Sync, PID: w.PID, Python: Python(w.Python)}
	// They go into a label of a metric and onto the dashboard.
	r.Python.Implementation = oneLine(r.Python.Implementation, maxName)
	r.Python.Version = oneLine(r.Python.Version, maxName)
	if w.Protocol >= 2 {
		r.Protocol = 2
		r.Types, r.Features = announcedTypes(w.Types), announcedFeatures(w.Features)
		if w.Handlers == string(Async) || w.Handlers == "" && r.allAsync() {
			r.Handlers = Async
		}
	}
	return r
}

// announcedTypes keeps what is a kind by its name; nil: nothing is announced.
func announcedTypes(raw json.RawMessage) map[string]string {
	var values map[string]json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &values) != nil || values == nil {
		return nil
	}
	types := map[string]string{}
	for name, value := range values {
		if kind := oneLine(text(value), maxName); kind != "" && len(name) <= maxTypeName && len(types) < maxTypes {
			types[name] = kind
		}
	}
	return types
}

func (r Ready) allAsync() bool {
	for _, kind := range r.Types {
		if kind != string(Async) {
			return false
		}
	}
	return len(r.Types) > 0
}

func announcedFeatures(raw json.RawMessage) []string {
	var values []json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &values) != nil {
		return nil
	}
	var features []string
	for _, value := range values[:min(len(values), maxFeatures)] {
		if name := oneLine(text(value), maxName); name != "" {
			features = append(features, name)
		}
	}
	return features
}

// reply reads the answer's fields. Any string in "error" is a failure, an empty one too (Python's str(ValueError()) is
// empty), unless there is a result.
func (w *messageLine) reply() Reply {
	hasResult := len(w.Result) > 0 && !bytes.Equal(w.Result, []byte("null"))
	r := Reply{Result: w.Result}
	if w.Seconds != nil {
		r.Took, r.HasTook = seconds(*w.Seconds), true
	}
	if len(w.Error) == 0 || bytes.Equal(w.Error, []byte("null")) ||
		hasResult && bytes.Equal(w.Error, []byte(`""`)) {
		return r
	}
	r.Error = errorText(w.Error)
	r.Broken = isTrue(w.Broken)
	r.Retry = w.Retry == nil || *w.Retry
	if r.Retry && w.RetryDelay != nil {
		r.RetryDelay, r.HasRetryDelay = seconds(*w.RetryDelay), true
	}
	return r
}

// errorText is the text of an "error" value: the string itself, or the JSON of anything else.
func errorText(raw json.RawMessage) string {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		s = string(raw)
	}
	if s == "" {
		s = "the process gave no error message"
	}
	return s
}

// seconds is a duration that the process wrote; a negative one is 0.
func seconds(f float64) time.Duration {
	switch {
	case math.IsNaN(f) || f <= 0:
		return 0
	case f >= maxDuration.Seconds():
		return maxDuration
	}
	return time.Duration(f * float64(time.Second))
}

// FindTaskID looks for a "task_id" of the outermost object in text, which need not be valid or complete JSON (a NaN, a
// wrong type, a line cut short). It returns false when there is none, or an empty one.
func FindTaskID(text []byte) (string, bool) {
	depth := 0
	key := false // the last string at depth 1 was "task_id"
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{', '[':
			depth++
			key = false
		case '}', ']':
			depth--
			key = false
		case ',':
			key = false
		case '"':
			end := stringEnd(text, i)
			if end < 0 {
				return "", false
			}
			if depth == 1 {
				var s string
				if json.Unmarshal(text[i:end], &s) != nil {
					s = ""
				}
				if key {
					return s, s != ""
				}
				rest := bytes.TrimLeft(text[end:], " \t\r")
				key = s == "task_id" && len(rest) > 0 && rest[0] == ':'
			}
			i = end - 1
		}
	}
	return "", false
}

// stringEnd returns the index just past the JSON string that opens at i, or -1.
func stringEnd(text []byte, i int) int {
	for j := i + 1; j < len(text); j++ {
		switch text[j] {
		case '\\':
			j++
		case '"':
			return j + 1
		}
	}
	return -1
}
