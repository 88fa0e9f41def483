package worker

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/internal/status"
)

// What a worker says of its queues follows the one report of its health.
func TestQueueStatesFollowTheReport(t *testing.T) {
	_, w := builtWorker(t)
	depths := map[string]status.Depth{"own": {}}
	well := status.Health{Healthy: true, Status: status.Running, State: status.Free}
	with := func(change func(*status.Health)) status.Report {
		h := well
		change(&h)
		return status.Report{Health: h}
	}
	for name, c := range map[string]struct {
		report status.Report
		fault  string
	}{
		"healthy":   {with(func(*status.Health) {}), ""},
		"busy":      {with(func(h *status.Health) { h.State = status.Busy }), ""},
		"replacing": {with(func(h *status.Health) { h.Status = status.Restarting }), ""},
		"unhealthy": {with(func(h *status.Health) {
			h.Healthy, h.Reasons = false, []status.Reason{{Summary: "Redis refuses: READONLY."}}
		}), "READONLY"},
		"degraded": {with(func(h *status.Health) { h.Healthy, h.Status = false, status.Degraded }), "degraded"},
		"draining": {with(func(h *status.Health) { h.Status = status.Draining }), "draining"},
		"its own":  {w.report(), "not been started"},
	} {
		got := w.queueStates(t.Context(), c.report, depths)["own"]
		if (c.fault == "") != (got.Fault == "") || !strings.Contains(got.Fault, c.fault) || got.Unserved {
			t.Errorf("%s: the queue is %+v, want a fault with %q", name, got, c.fault)
		}
	}
}

func TestQueueStatesOfTheSystem(t *testing.T) {
	s := redistest.Start(t)
	queues := &systemQueues{client: s.Client, store: fleet.NewStore(s.Client)}
	worker := fleet.Worker{State: status.Free}
	worker.Worker = heartbeat.Worker{ID: "w", Alive: true, Beat: heartbeat.Beat{Healthy: true, Status: status.Running, Queues: []string{"served"}}}
	depths := map[string]status.Depth{
		"served": {}, "idle": {}, "plain": {}, "waiting": {Pending: 2}, "paused": {Paused: true}, "broken": {Err: errors.New("WRONGTYPE")},
	}
	plain := asynq.NewServerFromRedisClient(s.Client, asynq.Config{Queues: map[string]int{"plain": 1}, LogLevel: asynq.FatalLevel})
	if err := plain.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return nil })); err != nil {
		t.Fatal(err)
	}
	defer plain.Shutdown()
	until(t, "the asynq server shows itself", func() bool {
		queues.asked = queues.asked.Add(-serversMaxAge)
		servers, err := queues.asynqServers(t.Context())
		return err == nil && servers["plain"] == 1
	})
	got := queues.states(t.Context(), []fleet.Worker{worker}, nil, depths)
	for q, unserved := range map[string]bool{"served": false, "plain": false, "idle": true, "waiting": true} {
		if got[q].Unserved != unserved || (got[q].Fault != "") != (q == "waiting") {
			t.Errorf("%s is %+v, want it unserved: %t", q, got[q], unserved)
		}
	}
	unknown := queues.states(t.Context(), nil, errors.New("no answer"), depths)
	for q := range depths {
		if want := q != "paused" && q != "broken"; strings.Contains(unknown[q].Fault, "no answer") != want {
			t.Errorf("nobody knows who serves %s: %+v", q, unknown[q])
		}
	}
}
