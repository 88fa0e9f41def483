package dashboard

import (
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

func TestUnservedQueues(t *testing.T) {
	serves := func(tone Tone, self bool, queues ...string) Worker {
		return Worker{Tone: tone, Self: self, Queues: queues}
	}
	health := func(tone Tone, s status.Status, broker status.Check) Health {
		return Health{Tone: tone, Health: status.Health{Status: s, Broker: broker}}
	}
	healthy, degraded := health(Good, status.Running, status.Healthy), health(Bad, status.Degraded, status.Healthy)
	for name, c := range map[string]struct {
		health  Health
		queue   Queue
		fleet   []Worker
		err     string
		checker bool
		want    bool
	}{
		"this worker is healthy":           {health: healthy},
		"it starts":                        {health: health(Quiet, status.Starting, "")},
		"it drains":                        {health: health(Quiet, status.Draining, ""), want: true},
		"alone and degraded":               {health: degraded, fleet: []Worker{serves(Bad, true, "q")}, want: true},
		"last seen before it degraded":     {health: degraded, fleet: []Worker{serves(Good, true, "q")}, want: true},
		"another serves it":                {health: degraded, fleet: []Worker{serves(Good, false, "r", "q")}},
		"another serves others":            {health: degraded, fleet: []Worker{serves(Good, false, "r")}, want: true},
		"another is dead":                  {health: degraded, fleet: []Worker{serves(Bad, false, "q")}, want: true},
		"nothing waits":                    {health: degraded, queue: Queue{Name: "q", Tone: Good}},
		"it is paused":                     {health: degraded, queue: Queue{Name: "q", Tone: Warn, Depth: status.Depth{Paused: true, Pending: 3}}},
		"the fleet cannot be read":         {health: degraded, err: "no"},
		"Redis is away":                    {health: health(Bad, status.Degraded, status.Unhealthy)},
		"a checker, nobody":                {health: healthy, checker: true, want: true},
		"a checker, one with a lost entry": {health: healthy, checker: true, fleet: []Worker{serves(Warn, false, "q")}},
	} {
		s := newSite(t, func(s *Sources) {
			s.Health = func() Health { return c.health }
			if c.checker {
				s.Process, s.Active, s.Totals = nil, nil, nil
			}
		})
		if c.queue.Name == "" {
			c.queue = Queue{Name: "q", Tone: Good, Depth: status.Depth{Pending: 3}}
		}
		now := time.Now()
		r := reading{queues: []Queue{c.queue}, queuesAt: now, fleet: c.fleet, fleetAt: now, fleetErr: c.err}
		q := s.d.view(r, s.d.visitor(true)).Queues.List[0]
		if q.Unserved != c.want || c.want != (q.Tone == Bad) {
			t.Errorf("%s: unserved is %v with the tone %s, want %v", name, q.Unserved, q.Tone, c.want)
		}
		if r.queues[0].Unserved {
			t.Errorf("%s: the reading itself was changed", name)
		}
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
	v := s.d.view(reading{queuesErr: noAnswer, queuesAt: now.Add(-time.Minute), fleet: []Worker{{Tone: Good}}, fleetAt: now}, s.d.visitor(true))
	if v.Fleet.Err == "" || !v.Fleet.At.Equal(now.Add(-time.Minute)) || len(v.Fleet.Workers) != 1 {
		t.Errorf("without Redis the fleet is %+v, want its last state with an error", v.Fleet)
	}
}
