package health

import (
	"errors"

	"github.com/runqy/runqy-worker/internal/status"
)

// Counts are the numbers that the healthcheck command prints beside the health.
type Counts struct {
	QueueDepth int64 // pending tasks over all queues of this worker; 0 while Redis does not say
	Processing int64 // tasks in the Python process
	Failed     int64 // failed attempts since the worker started
}

// Result is what the healthcheck command prints.
type Result struct {
	Worker     status.Check `json:"worker"`
	Broker     status.Check `json:"broker"`
	Database   status.Check `json:"database"`
	QueueDepth int64        `json:"queue_depth"`
	Processing int64        `json:"processing"`
	Failed     int64        `json:"failed"`
	Error      string       `json:"error,omitempty"`

	// OK is the answer to the probe that was asked.
	OK bool `json:"-"`
}

// FailedResult is the Result when the worker could not be asked at all, because of err. What is not known to be healthy
// counts as unhealthy.
func FailedResult(err error) Result {
	if err == nil {
		err = errors.New("unknown failure")
	}
	return Result{Worker: status.Unhealthy, Broker: status.Unhealthy, Database: status.Unhealthy, Error: err.Error()}
}
