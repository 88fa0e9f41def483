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
	Crashes    int           // how often the process died while this task ran alone
	Suspicions int           // how often it died while this task ran with others
	Timeout    time.Duration // from when the handler begins; 0: none. The process is told; [Supervisor.Cancel] enforces it
	Deadline   time.Time     // absolute, and told in the same way; zero: none
	Headers    map[string]string

	Caller Caller // required
}

// Caller is told what becomes of a request. Its methods are called by goroutines of the supervisor, or by that of
// Submit, with no lock held; they must return at once. Ended is the last call.
type Caller interface {
	// Began is called at most once, when the handler begins: of synchronous handlers, when all requests before it are
	// answered; of asynchronous ones, and with protocol 1, when the request is written. A request that began by this
	// rule may still end with ErrNotRun: the process had given it back, or had not read it.
	Began(at time.Time)
	// Progress is called with what the handler reports while it runs: the fraction that is done, from 0 to 1 (negative:
	// not given), and a line of at most 200 characters. The first report may come just before Began has returned.
	Progress(fraction float64, message string)
	// Ended is called exactly once. err is nil when the process has answered, else *CrashError, *SuspicionError,
	// *ReplacedError, ErrStopped, ErrNotRun or ErrDuplicate (possibly wrapped), or says that the request has no id. A
	// failure of the task itself is no error: it is in reply.
	Ended(reply Reply, err error)
}

// Reply is the process' answer to a Request.
type Reply struct {
	Result        json.RawMessage // valid JSON; nil when the process gave none
	Error         string          // not empty: the handler failed
	Retry         bool            // with Error: whether another attempt makes sense
	RetryDelay    time.Duration   // with HasRetryDelay: when, at most a year; 0 is at once
	HasRetryDelay bool            // only with Retry; else the queue decides
	Broken        bool            // only with Error: the process has said that it cannot work any more
	Took          time.Duration   // how long the handler ran: as the process says, else since it began
}

// encode makes the request's line.
func (r *Request) encode() ([]byte, error) {
	return wire.EncodeTask(wire.Task{
		ID: r.TaskID, Queue: r.Queue, Type: r.Type, Payload: r.Payload, RetryCount: r.RetryCount, MaxRetry: r.MaxRetry,
		Crashes: r.Crashes, Suspicions: r.Suspicions, Timeout: r.Timeout, Deadline: r.Deadline, Headers: r.Headers,
	})
}
