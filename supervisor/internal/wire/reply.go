package wire

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"
)

// maxDuration bounds what a process says of times.
const maxDuration = 365 * 24 * time.Hour

// Reply is the process' answer to a task.
type Reply struct {
	Result        json.RawMessage // valid JSON; nil when the process gave none
	Error         string          // not empty: the handler failed
	Retry         bool            // with Error: whether another attempt makes sense
	RetryDelay    time.Duration   // with HasRetryDelay: when; 0 is at once
	HasRetryDelay bool            // only with Retry
	Broken        bool            // only with Error: the process cannot work any more
	Took          time.Duration   // with HasTook: how long the handler ran
	HasTook       bool
}

// decodeSuccess reads the line of a success in the form in which the SDK writes it, and only in that:
//
//	{"task_id":"…","result":…,"error":null,"retry":false,"seconds":0.000012}
//
// The last key may be missing. It says exactly what [decodeObject] would, without parsing a result that only passes
// through. false: the line is another, or not valid.
func decodeSuccess(text []byte) (Message, bool) {
	rest, ok := bytes.CutPrefix(text, []byte(`{"task_id":"`))
	if !ok {
		return Message{}, false
	}
	end := skipPlain(rest, 0)
	if end == len(rest) || rest[end] != '"' {
		return Message{}, false
	}
	id := rest[:end]
	if rest, ok = bytes.CutPrefix(rest[end:], []byte(`","result":`)); !ok {
		return Message{}, false
	}
	if rest, ok = bytes.CutSuffix(rest, []byte("}")); !ok {
		return Message{}, false
	}
	m := Message{Kind: KindReply}
	if i := numberAtEnd(rest); i < len(rest) {
		s, err := strconv.ParseFloat(string(rest[i:]), 64)
		if rest, ok = bytes.CutSuffix(rest[:i], []byte(`,"seconds":`)); !ok || err != nil {
			return Message{}, false
		}
		m.Reply.Took, m.Reply.HasTook = seconds(s), true
	}
	if rest, ok = bytes.CutSuffix(rest, []byte(`,"error":null,"retry":false`)); !ok {
		return Message{}, false
	}
	// What stands before the keys of the end is one whole value, so these are keys of the reply and not of the result.
	if end, _ := skipValue(rest, 0); end != len(rest) || skipSpace(rest, 0) > 0 || !utf8.Valid(text) {
		return Message{}, false
	}
	m.TaskID = string(id)
	m.Reply.Result = append(make([]byte, 0, len(rest)), rest...)
	return m, true
}

// numberAtEnd returns where the JSON number begins with which text ends; len(text): it does not end with one.
func numberAtEnd(text []byte) int {
	i := len(text)
	for i > 0 && (isDigit(text[i-1]) || bytes.IndexByte([]byte("+-.eE"), text[i-1]) >= 0) {
		i--
	}
	if i < len(text) && skipNumber(text, i) != len(text) {
		return len(text)
	}
	return i
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
