package health

import (
	"errors"

	"github.com/runqy/runqy-worker/internal/status"
)

// Report is the worker's health at one moment.
type Report struct {
	status.Health
	Environment string

	QueueDepth int64 // pending tasks over all queues
	Processing int64 // tasks in the Python process
	Failed     int64 // failed attempts since the worker started

	Error string // something that prevents the report itself; usually empty
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

// FailedResult is the Result when the worker could not be asked at all,
// because of err. What is not known to be well counts as unhealthy.
func FailedResult(err error) Result {
	if err == nil {
		err = errors.New("unknown failure")
	}
	return Result{Worker: status.Unhealthy, Broker: status.Unhealthy, Database: status.Unhealthy, Error: err.Error()}
}
