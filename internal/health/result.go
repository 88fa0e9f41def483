package health

import (
	"errors"

	"github.com/runqy/runqy-worker/internal/status"
)

// Counts are the numbers that the healthcheck command prints beside the health. Nil: not known, or there is no such
// thing in this process.
type Counts struct {
	QueueDepth *int64 `json:"queue_depth"` // pending tasks over all queues of this worker
	Processing *int64 `json:"processing"`  // tasks in the Python process
	Failed     *int64 `json:"failed"`      // failed attempts since the worker started
}

// Result is what the healthcheck command prints.
type Result struct {
	Worker   status.Check `json:"worker"`
	Broker   status.Check `json:"broker"`
	Database status.Check `json:"database"`
	Counts
	Report string `json:"report,omitempty"` // the mark of the report that this was made from; empty: there was none
	Error  string `json:"error,omitempty"`

	// OK is the answer to the probe that was asked.
	OK bool `json:"-"`
}

// FailedResult is the Result when the worker could not be asked at all, because of err. A worker that does not answer is
// not healthy; nothing is known of the rest.
func FailedResult(err error) Result {
	if err == nil {
		err = errors.New("unknown failure")
	}
	return Result{Worker: status.Unhealthy, Broker: status.Unknown, Database: status.Unknown, Error: err.Error()}
}
