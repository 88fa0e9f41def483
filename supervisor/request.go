package supervisor

import (
	"encoding/json"
	"time"

	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

// Request is one task for the Python process.
type Request struct {
	TaskID     string // unique among the requests in flight; not empty
	Queue      string
	Type       string
	Payload    []byte // JSON is sent as it is, anything else as base64, nothing as null
	RetryCount int
	MaxRetry   int
	Deadline   time.Time // zero: none. The process is told; Do's context is what enforces it
	Headers    map[string]string

	// Progress is called with what the handler reports while it runs: the fraction that is done, from 0 to 1 (negative:
	// not given), and a line of at most 200 characters. It may be nil. It is called by the goroutine that reads what
	// the process writes, one call at a time, and must return at once.
	Progress func(fraction float64, message string)
}

// Reply is the process' answer to a Request.
type Reply struct {
	Result        json.RawMessage // valid JSON; nil when the process gave none
	Error         string          // not empty: the handler failed
	Retry         bool            // with Error: whether another attempt makes sense
	RetryDelay    time.Duration   // with HasRetryDelay: when, at most a year; 0 is at once
	HasRetryDelay bool            // only with Retry; else the queue decides
	Took          time.Duration   // how long the handler ran: as the process says, else since it began
}

// encode makes the request's line.
func (r Request) encode() ([]byte, error) {
	return wire.EncodeTask(wire.Task{
		ID: r.TaskID, Queue: r.Queue, Type: r.Type, Payload: r.Payload, RetryCount: r.RetryCount, MaxRetry: r.MaxRetry,
		Deadline: r.Deadline, Headers: r.Headers,
	})
}
