package supervisor

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// Request is one task for the Python process.
type Request struct {
	TaskID     string // unique among the requests in flight; not empty
	Queue      string
	Type       string
	Payload    []byte // JSON is sent as it is, anything else as base64, nothing as null
	RetryCount int
	MaxRetry   int
	Deadline   time.Time // zero: none. Told to the process; Do's context is what enforces it
	Headers    map[string]string

	// Progress is told what the handler reports while it runs: the share that
	// is done, from 0 to 1 (negative: not given), and a line of at most 200
	// characters. It may be nil. It is called by the goroutine that reads what
	// the process writes, one call at a time, and must return at once.
	Progress func(fraction float64, message string)
}

// Reply is the process' answer to a Request.
type Reply struct {
	Result     json.RawMessage // valid JSON; nil when the process gave none
	Error      string          // not empty: the handler failed
	Retry      bool            // with Error: whether another attempt makes sense
	RetryDelay time.Duration   // with Retry: when; 0: the queue decides
}

// PythonInfo is what the process said about its interpreter; empty if nothing.
type PythonInfo struct {
	Implementation      string
	Version             string
	Major, Minor, Patch int
}

// GCStats are the interpreter's figures for one garbage collector generation.
type GCStats struct {
	Generation                            int
	Collections, Collected, Uncollectable uint64
}

const (
	handlersSync  = "sync"
	handlersAsync = "async"

	maxRetryDelay = 365 * 24 * time.Hour
)

type wireRequest struct {
	TaskID     string            `json:"task_id"`
	Type       string            `json:"type"`
	Payload    json.RawMessage   `json:"payload,omitempty"`
	Base64     string            `json:"payload_base64,omitempty"`
	RetryCount int               `json:"retry_count"`
	MaxRetry   int               `json:"max_retry"`
	Queue      string            `json:"queue"`
	Deadline   *string           `json:"deadline"`
	Headers    map[string]string `json:"headers"`
}

// encodeRequest makes the request's line, newline included.
func encodeRequest(r Request) ([]byte, error) {
	if r.TaskID == "" {
		return nil, errors.New("a request needs a task id")
	}
	w := wireRequest{
		TaskID: r.TaskID, Type: r.Type, Queue: r.Queue,
		RetryCount: r.RetryCount, MaxRetry: r.MaxRetry,
		Payload: r.Payload, Headers: r.Headers,
	}
	if w.Headers == nil {
		w.Headers = map[string]string{}
	}
	if !r.Deadline.IsZero() {
		d := r.Deadline.UTC()
		layout := time.RFC3339
		if d.Nanosecond() != 0 {
			layout = "2006-01-02T15:04:05.000000Z07:00" // Python before 3.11 reads 3 or 6 digits only
		}
		text := d.Format(layout)
		w.Deadline = &text
	}
	if len(r.Payload) == 0 {
		w.Payload = json.RawMessage("null")
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if utf8.Valid(w.Payload) {
		// Encoding checks and compacts the payload, so it cannot hold a newline.
		if err := enc.Encode(&w); err == nil {
			return buf.Bytes(), nil
		}
		buf.Reset()
	}
	w.Payload, w.Base64 = nil, base64.StdEncoding.EncodeToString(r.Payload)
	if err := enc.Encode(&w); err != nil {
		return nil, fmt.Errorf("encode task %q: %w", r.TaskID, err)
	}
	return buf.Bytes(), nil
}

func encodePing(n int64) []byte {
	return append(strconv.AppendInt([]byte(`{"ping":`), n, 10), "}\n"...)
}

func encodeCancel(id string) []byte {
	quoted, err := json.Marshal(id)
	if err != nil {
		return nil // a string always marshals
	}
	return append(append([]byte(`{"cancel":`), quoted...), "}\n"...)
}

type messageKind int

const (
	kindStray   messageKind = iota // not protocol
	kindReady                      // the process is ready
	kindFailed                     // it says that it cannot start
	kindReply                      // an answer
	kindInvalid                    // names a task but is no valid answer
	kindPong
	kindProgress // a task says how far it is
	kindLog      // a line for the log
)

// message is one decoded line of the process' stdout.
type message struct {
	kind  messageKind
	task  string // kindReply, kindInvalid
	reply Reply
	err   string // kindFailed, kindInvalid
	stray []byte // what stood before a reply on its line

	protocol int // kindReady
	handlers string
	python   PythonInfo
	pid      int

	pong int64 // kindPong
	lag  time.Duration
	gc   []GCStats

	note note // kindProgress, kindLog
}

type wireMessage struct {
	TaskID     *string         `json:"task_id"`
	Result     json.RawMessage `json:"result"`
	Error      json.RawMessage `json:"error"`
	Retry      *bool           `json:"retry"`
	RetryDelay *float64        `json:"retry_delay"`

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

	Status   *string `json:"status"`
	Protocol int     `json:"protocol"`
	Handlers string  `json:"handlers"`
	PID      int     `json:"pid"`
	Python   struct {
		Implementation string `json:"implementation"`
		Version        string `json:"version"`
		Major          int    `json:"major"`
		Minor          int    `json:"minor"`
		Patch          int    `json:"patchlevel"`
	} `json:"python"`
}

// decode reads one line. It never fails: what it does not understand is stray
// output, or an invalid reply when it names a task.
func decode(line []byte) message {
	text := bytes.TrimSpace(line)
	if len(text) == 0 || text[len(text)-1] != '}' && text[0] != '{' {
		return message{kind: kindStray}
	}
	if text[0] == '{' {
		if m, valid := decodeObject(text); valid || m.kind != kindStray {
			return m
		}
	}
	if isNote(text) {
		return message{kind: kindStray} // broken: the task it names has not been answered
	}
	// A print without a newline may stand before the reply on the same line.
	i := bytes.Index(text, []byte(`{"task_id"`))
	if i <= 0 {
		return message{kind: kindStray}
	}
	m, _ := decodeObject(text[i:])
	m.stray = text[:i]
	return m
}

// decodeObject reads one JSON object; valid tells whether it is one.
func decodeObject(text []byte) (m message, valid bool) {
	var w wireMessage
	err := json.Unmarshal(text, &w)
	if err == nil && !utf8.Valid(text) {
		err = errors.New("invalid UTF-8")
	}
	if err != nil {
		if id, ok := findTaskID(text); ok {
			return message{kind: kindInvalid, task: id, err: err.Error()}, false
		}
		return message{kind: kindStray}, false
	}
	switch {
	case w.TaskID != nil:
		return message{kind: kindReply, task: *w.TaskID, reply: w.reply()}, true
	case w.Pong != nil:
		m = message{kind: kindPong, pong: *w.Pong, lag: seconds(w.Lag)}
		for _, g := range w.Stats.GC[:min(len(w.Stats.GC), 8)] {
			m.gc = append(m.gc, GCStats(g))
		}
		return m, true
	case w.Status != nil && *w.Status == "ready":
		return w.ready(), true
	case w.Status != nil && *w.Status == "error":
		return message{kind: kindFailed, err: cut(errorText(w.Error), logLineMax)}, true
	case len(w.Progress) > 0:
		if n, ok := decodeProgress(w.Progress); ok {
			return message{kind: kindProgress, note: n}, true
		}
	case len(w.Log) > 0:
		if n, ok := decodeLog(w.Log); ok {
			return message{kind: kindLog, note: n}, true
		}
	}
	return message{kind: kindStray}, true
}

func (w *wireMessage) ready() message {
	m := message{kind: kindReady, protocol: 1, handlers: handlersSync, pid: w.PID, python: PythonInfo(w.Python)}
	// They go into a label of a metric and onto the dashboard.
	m.python.Implementation = oneLine(m.python.Implementation, logNameMax)
	m.python.Version = oneLine(m.python.Version, logNameMax)
	if w.Protocol >= 2 {
		m.protocol = 2
		if w.Handlers == handlersAsync {
			m.handlers = handlersAsync
		}
	}
	return m
}

// reply reads the answer's fields. Any string in "error" is a failure, an
// empty one too (Python's str(ValueError()) is empty), unless a result says
// otherwise.
func (w *wireMessage) reply() Reply {
	hasResult := len(w.Result) > 0 && !bytes.Equal(w.Result, []byte("null"))
	r := Reply{Result: w.Result}
	if len(w.Error) == 0 || bytes.Equal(w.Error, []byte("null")) ||
		hasResult && bytes.Equal(w.Error, []byte(`""`)) {
		return r
	}
	r.Error = errorText(w.Error)
	r.Retry = w.Retry == nil || *w.Retry
	if r.Retry && w.RetryDelay != nil {
		r.RetryDelay = seconds(*w.RetryDelay)
	}
	return r
}

// errorText is the text of an "error" value: the string itself, or the JSON
// of anything else.
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

func seconds(f float64) time.Duration {
	switch {
	case math.IsNaN(f) || f <= 0:
		return 0
	case f >= maxRetryDelay.Seconds():
		return maxRetryDelay
	}
	return time.Duration(f * float64(time.Second))
}

// findTaskID looks for a "task_id" of the outermost object in text that need
// not be valid or complete JSON (a NaN, a wrong type, a line cut short).
func findTaskID(text []byte) (string, bool) {
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
