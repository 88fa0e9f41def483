package rpc

import (
	"fmt"
	"strings"

	"github.com/runqy/runqy-worker/internal/status"
	runqyv1 "github.com/runqy/runqy-worker/proto/runqy/v1"
)

// Pong is a worker's answer to a ping. An address can be inherited, by a successor or by another worker: the caller
// compares WorkerID and Nonce with those that it expects.
type Pong struct {
	WorkerID string
	Nonce    string       // drawn anew by each process
	State    status.State // FREE or BUSY
	Reason   string       // why Busy; empty when Free

	Queues      []string // by priority
	ActiveTasks []string // ids, the longest-running first
	Concurrency int      // how many tasks may be in flight
	Load        float64  // tasks in flight as a share of Concurrency; 1 is full

	Status  status.Status // as in the heartbeat: starting, running, degraded, …
	Healthy bool
	Version string // of the program

	// Report is the report that this is made from. The answer has it in a header, which pings do not read.
	Report status.Mark
}

// message is p in protobuf, which refuses a message with bytes that are not UTF-8; a reason may quote what the Python
// process wrote, and a task id is whatever its client chose.
func (p Pong) message() *runqyv1.PingResponse {
	m := &runqyv1.PingResponse{
		State: runqyv1.PingResponse_BUSY, Reason: utf8(p.Reason), WorkerId: utf8(p.WorkerID), Nonce: utf8(p.Nonce),
		Concurrency: uint32(max(p.Concurrency, 0)), Load: p.Load,
		Status: utf8(string(p.Status)), Healthy: p.Healthy, Version: utf8(p.Version),
	}
	for _, name := range p.Queues {
		m.Queues = append(m.Queues, utf8(name))
	}
	for _, id := range p.ActiveTasks {
		m.ActiveTasks = append(m.ActiveTasks, utf8(id))
	}
	if p.State == status.Free {
		m.State = runqyv1.PingResponse_FREE
	}
	return m
}

// pongOf reads an answer. One without an identity does not come from a worker.
func pongOf(m *runqyv1.PingResponse) (Pong, error) {
	p := Pong{
		// A worker of an earlier version ends its reason with the heading of the stderr lines, without the lines.
		WorkerID: m.GetWorkerId(), Nonce: m.GetNonce(), Reason: status.ParseReason(m.GetReason()).Summary,
		Queues: m.GetQueues(), ActiveTasks: m.GetActiveTasks(), Concurrency: int(m.GetConcurrency()), Load: m.GetLoad(),
		Status: status.Status(m.GetStatus()), Healthy: m.GetHealthy(), Version: m.GetVersion(),
	}
	switch m.GetState() {
	case runqyv1.PingResponse_FREE:
		p.State = status.Free
	case runqyv1.PingResponse_BUSY:
		p.State = status.Busy
	default: // a state of a later version: not FREE, for all that is known
		p.State, p.Reason = status.Busy, fmt.Sprintf("unknown state %s", m.GetState())
	}
	if p.WorkerID == "" || p.Nonce == "" {
		return Pong{}, fmt.Errorf("the answer names no worker (worker_id %q, nonce %q)", p.WorkerID, p.Nonce)
	}
	return p, nil
}

func utf8(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
