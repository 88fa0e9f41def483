package dashboard

import (
	"testing"
	"time"
)

func TestUnservedQueues(t *testing.T) {
	serves := func(tone Tone, self bool, queues ...string) Peer { return Peer{Tone: tone, Self: self, Queues: queues} }
	well, degraded := Health{Tone: Good, Word: "Healthy", Broker: "healthy"}, Health{Tone: Bad, Word: "Degraded", Broker: "healthy"}
	for name, c := range map[string]struct {
		health  Health
		queue   Queue
		fleet   []Peer
		err     string
		checker bool
		want    bool
	}{
		"this worker is well":              {health: well},
		"it starts":                        {health: Health{Tone: Quiet, Word: "Starting"}},
		"it drains":                        {health: Health{Tone: Quiet, Word: "Draining"}, want: true},
		"alone and degraded":               {health: degraded, fleet: []Peer{serves(Bad, true, "q")}, want: true},
		"judged before it degraded":        {health: degraded, fleet: []Peer{serves(Good, true, "q")}, want: true},
		"another serves it":                {health: degraded, fleet: []Peer{serves(Good, false, "r", "q")}},
		"another serves others":            {health: degraded, fleet: []Peer{serves(Good, false, "r")}, want: true},
		"another is dead":                  {health: degraded, fleet: []Peer{serves(Bad, false, "q")}, want: true},
		"nothing waits":                    {health: degraded, queue: Queue{Name: "q", Tone: Good}},
		"it is paused":                     {health: degraded, queue: Queue{Name: "q", Tone: Warn, Paused: true, Pending: 3}},
		"the fleet cannot be read":         {health: degraded, err: "no"},
		"Redis is away":                    {health: Health{Tone: Bad, Word: "Degraded", Broker: "unhealthy"}},
		"a checker, nobody":                {health: well, checker: true, want: true},
		"a checker, one with a lost entry": {health: well, checker: true, fleet: []Peer{serves(Warn, false, "q")}},
	} {
		s := newSite(t, func(s *Sources) {
			s.Health = func() Health { return c.health }
			if c.checker {
				s.Process, s.Active, s.Totals = nil, nil, nil
			}
		})
		if c.queue.Name == "" {
			c.queue = Queue{Name: "q", Tone: Good, Pending: 3}
		}
		now := time.Now()
		r := reading{queues: []Queue{c.queue}, queuesAt: now, fleet: c.fleet, fleetAt: now, fleetErr: c.err}
		q := s.d.view(r, true).Queues.Count[0]
		if q.Unserved != c.want || c.want != (q.Tone == Bad) {
			t.Errorf("%s: unserved %v, %s", name, q.Unserved, q.Tone)
		}
		if r.queues[0].Unserved {
			t.Errorf("%s: the reading itself was changed", name)
		}
	}
}

// The last judgements may stand for a while when Redis has gone.
func TestTheFleetIsUnknownWithoutRedis(t *testing.T) {
	s := newSite(t, func(s *Sources) {
		s.Health = func() Health { return Health{Tone: Bad, Word: "Unhealthy", Broker: "unhealthy"} }
	})
	now := time.Now()
	v := s.d.view(reading{queuesErr: noAnswer, queuesAt: now.Add(-time.Minute), fleet: []Peer{{Tone: Good}}, fleetAt: now}, true)
	if v.Fleet.Err == "" || !v.Fleet.At.Equal(now.Add(-time.Minute)) || len(v.Fleet.Workers) != 1 {
		t.Errorf("%+v", v.Fleet)
	}
}
