package dashboard

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

func TestUnservedQueues(t *testing.T) {
	serves := func(self bool, queues ...string) Worker {
		return Worker{Tone: Good, Serving: true, Self: self, Queues: queues}
	}
	failing := func(queues ...string) Worker { return Worker{Tone: Bad, Queues: queues} }
	health := func(tone Tone, s status.Status, broker status.Check) Health {
		return Health{Tone: tone, Health: status.Health{Status: s, Broker: broker}}
	}
	healthy, degraded := health(Good, status.Running, status.Healthy), health(Bad, status.Degraded, status.Healthy)
	starting := Worker{Tone: Quiet, Starting: true, Queues: []string{"q"}}
	waiting := status.Depth{Pending: 3}
	for name, c := range map[string]struct {
		health  Health
		depth   status.Depth
		fleet   []Worker
		asynq   map[string]int
		err     string
		checker bool
		tone    Tone
	}{
		"this worker is healthy":       {health: healthy, depth: waiting, tone: Good},
		"it starts":                    {health: health(Quiet, status.Starting, ""), depth: waiting, tone: Warn},
		"it restarts as planned":       {health: health(Quiet, status.Restarting, ""), depth: waiting, tone: Good},
		"it drains":                    {health: health(Quiet, status.Draining, ""), depth: waiting, tone: Bad},
		"alone and degraded":           {health: degraded, depth: waiting, fleet: []Worker{failing("q")}, tone: Bad},
		"last seen before it degraded": {health: degraded, depth: waiting, fleet: []Worker{serves(true, "q")}, tone: Bad},
		"another serves it":            {health: degraded, depth: waiting, fleet: []Worker{serves(false, "r", "q")}, tone: Good},
		"another starts":               {health: degraded, depth: waiting, fleet: []Worker{starting}, tone: Warn},
		"another serves others":        {health: degraded, depth: waiting, fleet: []Worker{serves(false, "r")}, tone: Bad},
		"another is dead":              {health: degraded, depth: waiting, fleet: []Worker{failing("q")}, tone: Bad},
		"an asynq server serves it":    {health: degraded, depth: waiting, asynq: map[string]int{"q": 1}, tone: Good},
		"nothing waits":                {health: degraded, tone: Quiet},
		"it is paused":                 {health: degraded, depth: status.Depth{Paused: true, Pending: 3}, tone: Warn},
		"groups":                       {health: healthy, depth: status.Depth{Aggregating: 3}, tone: Bad},
		"the fleet cannot be read":     {health: degraded, depth: waiting, err: "no", tone: Quiet},
		"nor can it, but this is well": {health: healthy, depth: waiting, err: "no", tone: Good},
		"Redis refuses":                {health: health(Bad, status.Running, status.Unhealthy), depth: waiting, tone: Bad},
		"it refuses this one only":     {health: health(Bad, status.Running, status.Unhealthy), depth: waiting, fleet: []Worker{serves(false, "q")}, tone: Good},
		"a checker, nobody":            {health: healthy, depth: waiting, checker: true, tone: Bad},
		"a checker, idle and nobody":   {health: healthy, checker: true, tone: Quiet},
		"a checker, one":               {health: healthy, depth: waiting, checker: true, fleet: []Worker{serves(false, "q")}, tone: Good},
		"a checker, not known":         {health: healthy, depth: waiting, checker: true, fleet: []Worker{serves(false, "q")}, err: "no", tone: Quiet},
	} {
		s := newSite(t, func(s *Sources) {
			s.Health = func() Health { return c.health }
			if c.checker {
				s.Process, s.Active, s.Totals = nil, nil, nil
			}
		})
		now := time.Now()
		q := Queue{Name: "q", Tone: Good, Depth: c.depth}
		if c.depth.Paused {
			q.Tone = Warn
		}
		r := reading{queues: []Queue{q}, queuesAt: now, fleet: c.fleet, fleetAt: now, fleetErr: c.err, systemAt: now, system: System{Asynq: c.asynq}}
		v := s.d.view(r, s.d.visitor(true))
		q = v.Queues.List[0]
		faulty := q.Fault != ""
		if q.Tone != c.tone || faulty != (q.Stranded > 0) || faulty != (v.System.Unserved == 1) || faulty != (c.tone == Bad || c.tone == Warn && !c.depth.Paused) {
			t.Errorf("%s: the tone is %s and the fault %q of %d tasks, want the tone %s", name, q.Tone, q.Fault, q.Stranded, c.tone)
		}
		if r.queues[0].Fault != "" {
			t.Errorf("%s: the reading itself was changed", name)
		}
	}
}

// A queue that is not this worker's is on its page while nobody serves it.
func TestUnservedQueuesElsewhere(t *testing.T) {
	s := newSite(t, nil)
	now := time.Now()
	elsewhere := []Queue{
		{Name: "idle", Tone: Good}, {Name: "served", Tone: Good, Depth: status.Depth{Pending: 9}}, {Name: "typo", Tone: Good, Depth: status.Depth{Pending: 1}},
		{Name: "later", Tone: Good, Depth: status.Depth{Scheduled: 5}}, {Name: "due", Tone: Good, Depth: status.Depth{Scheduled: 5, Due: 2}},
		{Name: "paused", Tone: Warn, Depth: status.Depth{Pending: 4, Paused: true}}, {Name: "broken", Tone: Bad, Depth: status.Depth{Err: errors.New("WRONGTYPE")}},
	}
	r := reading{
		queuesAt: now, fleetAt: now, fleet: []Worker{{Queues: []string{"served"}, Serving: true}},
		systemAt: now, system: System{Elsewhere: elsewhere, Unread: 4},
	}
	v := s.d.view(r, s.d.visitor(true))
	var names []string
	for _, q := range v.Queues.Elsewhere {
		names = append(names, q.Name)
	}
	if got := strings.Join(names, " "); got != "due typo broken" || v.System.Unserved != 2 || v.System.Stranded != 3 || v.System.Unread != 4 {
		t.Errorf("elsewhere %s, system %+v, want due, typo and broken, with three tasks in two queues", got, v.System)
	}
	// What it was a minute ago is no news.
	r.systemAt = now.Add(-time.Minute)
	if v := s.d.view(r, s.d.visitor(true)); len(v.Queues.Elsewhere) > 0 || v.System.Unserved > 0 {
		t.Errorf("of an old reading: %+v", v.System)
	}
}

// The last states of the workers may be kept for a while when Redis has gone.
func TestTheFleetIsUnknownWithoutRedis(t *testing.T) {
	s := newSite(t, func(s *Sources) {
		s.Health = func() Health {
			return Health{Tone: Bad, Label: "Unhealthy", Health: status.Health{Broker: status.Unhealthy}}
		}
	})
	now := time.Now()
	r := reading{
		queuesErr: noAnswer, queuesAt: now.Add(-time.Minute), systemErr: noAnswer, systemAt: now.Add(-time.Minute),
		fleet: []Worker{{Tone: Good}}, fleetAt: now, fleetRead: now,
	}
	v := s.d.view(r, s.d.visitor(true))
	if v.Fleet.Err == "" || !v.Fleet.At.Equal(now.Add(-time.Minute)) || len(v.Fleet.Workers) != 1 {
		t.Errorf("without Redis the fleet is %+v, want its last state with an error", v.Fleet)
	}
	// It answers, and refuses what this worker needs: the fleet is as it was read.
	r.queuesErr, r.systemErr, r.queuesAt, r.systemAt = "", "", now, now
	if v := s.d.view(r, s.d.visitor(true)); v.Fleet.Err != "" || (page{View: v}).FleetStale() || (page{View: v}).SystemState().Label == "Unknown" {
		t.Errorf("under a Redis that refuses the fleet is %+v, the system %+v", v.Fleet, (page{View: v}).SystemState())
	}
	// The registry cannot be read any more: how old the list is.
	r.fleetErr, r.fleetRead = "the workers were read 20s ago", now.Add(-20*time.Second)
	if v := s.d.view(r, s.d.visitor(true)); !v.Fleet.At.Equal(r.fleetRead) || !(page{View: v}).FleetStale() {
		t.Errorf("the fleet is %+v, want it as of 20 s ago and stale", v.Fleet)
	}
}
