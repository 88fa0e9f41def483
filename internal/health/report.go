package health

import "errors"

// The values of Worker, Broker and Database in a [Report].
const (
	Healthy       = "healthy"
	Unhealthy     = "unhealthy"
	NotConfigured = "not configured" // Database only
)

// statusRunning is the worker status in which tasks are taken.
const statusRunning = "running"

// Report is the worker's health at one moment.
type Report struct {
	Healthy     bool     // the process, Redis and the database, all of them
	Reasons     []string // why not, as sentences; empty when healthy
	Status      string   // starting, running, degraded, restarting, draining, …
	State       string   // FREE or BUSY
	Environment string

	Worker   string // the Python process: Healthy or Unhealthy
	Broker   string // Redis: Healthy or Unhealthy
	Database string // Healthy, Unhealthy or NotConfigured

	QueueDepth int64 // pending tasks over all queues
	Processing int64 // tasks in the Python process
	Failed     int64 // failed attempts since the worker started

	Error string // something that prevents the report itself; usually empty
}

// Ready reports whether new tasks are being taken.
func (r Report) Ready() bool { return r.Healthy && r.Status == statusRunning }

// Result is what the healthcheck command prints.
type Result struct {
	Worker     string `json:"worker"`
	Broker     string `json:"broker"`
	Database   string `json:"database"`
	QueueDepth int64  `json:"queue_depth"`
	Processing int64  `json:"processing"`
	Failed     int64  `json:"failed"`
	Error      string `json:"error,omitempty"`

	// OK is the answer to the probe that was asked.
	OK bool `json:"-"`
}

// FailedResult is the Result when the worker could not be asked at all,
// because of err. What is not known to be well counts as unhealthy.
func FailedResult(err error) Result {
	if err == nil {
		err = errors.New("unknown failure")
	}
	return Result{Worker: Unhealthy, Broker: Unhealthy, Database: Unhealthy, Error: err.Error()}
}
