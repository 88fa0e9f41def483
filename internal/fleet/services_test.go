package fleet

import (
	"maps"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/status"
)

func TestServices(t *testing.T) {
	worker := func(state status.State, does status.Status, healthy bool, queues ...string) Worker {
		w := Worker{State: state}
		if state == status.Dead {
			w.Cause = CauseProcessGone
		}
		w.Worker = heartbeat.Worker{Alive: true, Beat: heartbeat.Beat{Status: does, Healthy: healthy, Queues: queues}}
		return w
	}
	expired := worker(status.Dead, status.Running, true, "b")
	expired.Alive = false
	behindFirewall, silent := worker(status.Dead, status.Running, true, "d"), worker(status.Dead, status.Running, true, "d")
	behindFirewall.Cause, silent.Cause = CauseTimeout, CauseTimeout
	silent.Beat.Interval, silent.Age = 5*time.Second, 11*time.Second
	refused, gone := worker(status.Dead, status.Running, true, "d"), worker(status.Dead, status.Running, true, "d")
	refused.Cause, gone.Cause = CauseRefused, CauseProcessGone
	got := Services([]Worker{
		worker(status.Free, status.Running, true, "a", "b"), worker(status.Busy, status.Restarting, true, "a"), // a planned restart
		worker(status.Busy, status.Running, false, "a"), worker(status.Busy, status.Degraded, false, "a"), worker(status.Busy, status.Draining, true, "a"),
		worker(status.Busy, status.Restarting, false, "b"), worker(status.Busy, status.Starting, false, "b"),
		worker(status.Dead, status.Running, true, "b"), worker(status.Dead, status.Starting, false, "b"), expired,
		behindFirewall, silent, refused, gone,
	}, map[string]int{"c": 2})
	want := map[string]status.Service{
		"a": {Workers: 2, Others: 3}, "b": {Workers: 1, Starting: 1, Others: 4}, "c": {Asynq: 2},
		"d": {Workers: 2, Others: 2},
	}
	if !maps.Equal(got, want) {
		t.Errorf("services %+v, want %+v", got, want)
	}
}
