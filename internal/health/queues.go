package health

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// queuesTimeout bounds an answer of /health/v2/queues.
const queuesTimeout = 3 * time.Second

// QueueSource reads the depths of the worker's queues, by name; an error means that Redis could not be asked. It should
// be cheap: anybody may poll the path behind it.
type QueueSource func(ctx context.Context) (map[string]status.Depth, error)

// Broker is what Redis says about itself.
type Broker struct {
	MemoryUsed       string // as people read it, "2.5M"; empty: unknown
	ConnectedClients int64  // negative: unknown
}

// QueueState is what is known of a queue that could be read, beside its depth.
type QueueState struct {
	Fault    string // what is wrong with it, as that tasks wait and no worker serves it; empty: nothing
	Unserved bool   // nobody would take a task of it, though none waits
}

// StateSource tells the states of the queues that could be read, by name, for a process with this report.
type StateSource func(ctx context.Context, report status.Report, queues map[string]status.Depth) map[string]QueueState

// BrokerSource reads the Broker's figures.
type BrokerSource func(ctx context.Context) (Broker, error)

type queuesBody struct {
	Broker           string               `json:"broker"` // connected, or error where the report has it so
	Error            string               `json:"error,omitempty"`
	Queues           map[string]queueBody `json:"queues"`
	MemoryUsed       string               `json:"redis_memory_used"`
	ConnectedClients *int64               `json:"redis_connected_clients"` // null: unknown
	Environment      string               `json:"environment"`
}

// queueBody is a queue that was read, with what is wrong with it, or one that failed: then the numbers are left out,
// since a zero would pass for an empty queue.
type queueBody struct {
	Name   string
	Status string // active, paused, unserved or error
	Error  string
	status.Depth
}

func (q queueBody) MarshalJSON() ([]byte, error) {
	if q.Err != nil {
		return json.Marshal(struct {
			Name   string `json:"name"`
			Status string `json:"status"`
			Error  string `json:"error"`
		}{q.Name, q.Status, q.Error})
	}
	var latency *float64
	if q.Latency >= 0 {
		seconds := q.Latency.Seconds()
		latency = &seconds
	}
	return json.Marshal(struct {
		Name        string   `json:"name"`
		Status      string   `json:"status"`
		Error       string   `json:"error,omitempty"`
		Pending     int64    `json:"pending"`
		Active      int64    `json:"active"`
		Scheduled   int64    `json:"scheduled"`
		Retry       int64    `json:"retry"`
		Archived    int64    `json:"archived"`
		Completed   int64    `json:"completed"`
		Aggregating int64    `json:"aggregating,omitempty"`
		Latency     *float64 `json:"latency_seconds"` // null: unknown
	}{
		q.Name, q.Status, q.Error, q.Pending, q.Active, q.Scheduled, q.Retry, q.Archived, q.Completed, q.Aggregating, latency,
	})
}

type brokerErrorBody struct {
	Broker string `json:"broker"`
	Error  string `json:"error"`
}

func (p probes) serveQueues(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), queuesTimeout)
	defer cancel()
	report := p.report(r)
	w.Header().Set(status.ReportHeader, report.Mark.String())
	queues, err := p.queues(ctx)
	if err != nil {
		writeJSON(w, http.StatusServiceUnavailable, brokerErrorBody{"error", err.Error()})
		return
	}
	body := queuesBody{
		Broker: "connected", Queues: make(map[string]queueBody, len(queues)),
		MemoryUsed: "unknown", Environment: p.environment,
	}
	code := http.StatusOK
	if report.Broker == status.Unhealthy { // it can be read, and does not take what the work needs
		code, body.Broker, body.Error = http.StatusServiceUnavailable, "error", report.Reason().Summary
	}
	states := p.queueStates(ctx, report, queues)
	for name, q := range queues {
		b := queueBody{Name: name, Status: "active", Depth: q}
		switch {
		case q.Err != nil:
			b.Status, b.Error = "error", cmp.Or(q.Err.Error(), "unknown error")
		case states[name].Fault != "":
			b.Status, b.Error = "error", states[name].Fault
		case q.Paused:
			b.Status = "paused"
		case states[name].Unserved:
			b.Status = "unserved"
		}
		body.Queues[name] = b
	}
	if p.broker != nil {
		// The queues are what was asked for: without an answer the other figures are unknown.
		if broker, err := p.broker(ctx); err == nil {
			body.MemoryUsed = cmp.Or(broker.MemoryUsed, "unknown")
			if broker.ConnectedClients >= 0 {
				body.ConnectedClients = &broker.ConnectedClients
			}
		}
	}
	writeJSON(w, code, body)
}

// queueStates asks for the states; while a loop that the report comes from stands still, nothing is known of any queue.
func (p probes) queueStates(ctx context.Context, report status.Report, queues map[string]status.Depth) map[string]QueueState {
	if !report.StoodSince.IsZero() {
		states := make(map[string]QueueState, len(queues))
		for name := range queues {
			states[name] = QueueState{Fault: NotReady(report.Health)}
		}
		return states
	}
	if p.states == nil {
		return nil
	}
	return p.states(ctx, report, queues)
}
