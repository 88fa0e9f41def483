package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Task is what the process is told of a task.
type Task struct {
	ID         string // not empty
	Queue      string
	Type       string
	Payload    []byte // JSON is sent as it is, anything else as base64, nothing as null
	RetryCount int
	MaxRetry   int
	Crashes    int
	Suspicions int
	Timeout    time.Duration // from the handler's begin; 0: none
	Deadline   time.Time     // zero: none
	Headers    map[string]string
}

// EncodeTask makes the task's line, newline included. It fails for a task without id.
func EncodeTask(t Task) ([]byte, error) {
	if t.ID == "" {
		return nil, errors.New("a request needs a task id")
	}
	const fixed = 256 // the names, and numbers of usual length
	line := make([]byte, 0, fixed+len(t.ID)+len(t.Type)+len(t.Queue)+len(t.Payload))
	line = append(line, `{"task_id":`...) // first: a line that the process cannot read can still be answered
	line = appendString(line, t.ID)
	line = append(line, `,"type":`...)
	line = appendString(line, t.Type)
	line = appendPayload(line, t.Payload)
	line = append(line, `,"retry_count":`...)
	line = strconv.AppendInt(line, int64(t.RetryCount), 10)
	line = append(line, `,"max_retry":`...)
	line = strconv.AppendInt(line, int64(t.MaxRetry), 10)
	line = append(line, `,"crashes":`...)
	line = strconv.AppendInt(line, int64(t.Crashes), 10)
	line = append(line, `,"suspicions":`...)
	line = strconv.AppendInt(line, int64(t.Suspicions), 10)
	line = append(line, `,"queue":`...)
	line = appendString(line, t.Queue)
	line = appendDeadline(line, t.Deadline)
	line = append(line, `,"timeout":`...)
	if t.Timeout != 0 {
		line = strconv.AppendFloat(line, t.Timeout.Seconds(), 'f', -1, 64)
	} else {
		line = append(line, "null"...)
	}
	line = appendHeaders(line, t.Headers)
	return append(line, "}\n"...), nil
}

// appendPayload appends the payload with its key. JSON is copied as it is, unless it holds what ends a line.
func appendPayload(line, payload []byte) []byte {
	switch {
	case len(payload) == 0:
		return append(line, `,"payload":null`...)
	case !utf8.Valid(payload) || !validJSON(payload):
		line = append(line, `,"payload_base64":"`...)
		line = base64.StdEncoding.AppendEncode(line, payload)
		return append(line, '"')
	}
	line = append(line, `,"payload":`...)
	if bytes.IndexByte(payload, '\n') < 0 && bytes.IndexByte(payload, '\r') < 0 {
		return append(line, payload...)
	}
	buf := bytes.NewBuffer(line)
	json.Compact(buf, payload) //nolint:errcheck // it is valid
	return buf.Bytes()
}

func appendDeadline(line []byte, deadline time.Time) []byte {
	line = append(line, `,"deadline":`...)
	if deadline.IsZero() {
		return append(line, "null"...)
	}
	d := deadline.UTC()
	layout := time.RFC3339
	if d.Nanosecond() != 0 {
		layout = "2006-01-02T15:04:05.000000Z07:00" // Python before 3.11 reads 3 or 6 digits only
	}
	line = append(line, '"')
	line = d.AppendFormat(line, layout)
	return append(line, '"')
}

func appendHeaders(line []byte, headers map[string]string) []byte {
	line = append(line, `,"headers":{`...)
	if len(headers) > 0 {
		for i, key := range slices.Sorted(maps.Keys(headers)) {
			if i > 0 {
				line = append(line, ',')
			}
			line = appendString(line, key)
			line = append(line, ':')
			line = appendString(line, headers[key])
		}
	}
	return append(line, '}')
}

// EncodePing makes the line of ping number n, newline included.
func EncodePing(n int64) []byte {
	return append(strconv.AppendInt([]byte(`{"ping":`), n, 10), "}\n"...)
}

// EncodeStack makes the line of question number n for the stacks, newline included.
func EncodeStack(n int64) []byte {
	return append(strconv.AppendInt([]byte(`{"stack":`), n, 10), "}\n"...)
}

// EncodeCheck makes the line of check number n, newline included.
func EncodeCheck(n int64) []byte {
	return append(strconv.AppendInt([]byte(`{"check":`), n, 10), "}\n"...)
}

// EncodeCancel makes the line that cancels a task, newline included.
func EncodeCancel(taskID string) []byte { return encodeID(`{"cancel":`, taskID) }

// EncodeWithdraw makes the line that asks a task back, newline included.
func EncodeWithdraw(taskID string) []byte { return encodeID(`{"withdraw":`, taskID) }

func encodeID(head, taskID string) []byte {
	return append(appendString([]byte(head), taskID), "}\n"...)
}
