package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
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
	Deadline   time.Time // zero: none
	Headers    map[string]string
}

type taskLine struct {
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

// EncodeTask makes the task's line, newline included. It fails for a task without id.
func EncodeTask(t Task) ([]byte, error) {
	if t.ID == "" {
		return nil, errors.New("a request needs a task id")
	}
	w := taskLine{
		TaskID: t.ID, Type: t.Type, Queue: t.Queue,
		RetryCount: t.RetryCount, MaxRetry: t.MaxRetry,
		Payload: t.Payload, Headers: t.Headers,
	}
	if w.Headers == nil {
		w.Headers = map[string]string{}
	}
	if !t.Deadline.IsZero() {
		d := t.Deadline.UTC()
		layout := time.RFC3339
		if d.Nanosecond() != 0 {
			layout = "2006-01-02T15:04:05.000000Z07:00" // Python before 3.11 reads 3 or 6 digits only
		}
		text := d.Format(layout)
		w.Deadline = &text
	}
	if len(t.Payload) == 0 {
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
	w.Payload, w.Base64 = nil, base64.StdEncoding.EncodeToString(t.Payload)
	if err := enc.Encode(&w); err != nil {
		return nil, fmt.Errorf("encode task %q: %w", t.ID, err)
	}
	return buf.Bytes(), nil
}

// EncodePing makes the line of ping number n, newline included.
func EncodePing(n int64) []byte {
	return append(strconv.AppendInt([]byte(`{"ping":`), n, 10), "}\n"...)
}

// EncodeCancel makes the line that cancels a task, newline included.
func EncodeCancel(taskID string) []byte {
	quoted, err := json.Marshal(taskID)
	if err != nil {
		return nil // a string always marshals
	}
	return append(append([]byte(`{"cancel":`), quoted...), "}\n"...)
}
