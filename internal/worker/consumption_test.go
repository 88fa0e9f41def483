package worker

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/queue"
)

// refused is an error that Redis has answered.
type refused string

func (e refused) Error() string { return string(e) }
func (e refused) RedisError()   {}

func TestWhatHindersIsToldInWords(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	hindrance := func(kind queue.HindranceKind, queues int, err error) queue.Hindrance {
		return queue.Hindrance{Kind: kind, Queue: "q", Queues: queues, Since: at, Err: err}
	}
	readOnly := refused("READONLY You can't write against a read only replica. script: 0a1b, on @user_script:98.")
	noDial := errors.New("dial tcp 127.0.0.1:6379: connect: connection refused")
	broker, ours, probed := health.Consumption{Broker: true}, health.Consumption{Worker: true, Broker: true}, health.Consumption{Broker: true, Probed: true}
	for name, c := range map[string]struct {
		found []queue.Hindrance
		beat  *heartbeat.Failure
		want  health.Consumption
		words []string
	}{
		"nothing":   {nil, nil, health.Consumption{Probed: true}, nil},
		"not asked": {[]queue.Hindrance{hindrance(queue.NotAsked, 1, nil)}, nil, health.Consumption{Probed: true, Unknown: true}, nil},
		"refused": {[]queue.Hindrance{hindrance(queue.CyclesRefused, 1, readOnly)}, nil, broker,
			[]string{"Redis refuses to serve queue q since 03:04:05 UTC: READONLY You can't write against a read only replica."}},
		"unreachable": {[]queue.Hindrance{hindrance(queue.CyclesRefused, 3, noDial)}, nil, broker,
			[]string{"Redis does not answer for queue q and 2 more since 03:04:05 UTC: dial tcp 127.0.0.1:6379: connect: connection refused."}},
		"unanswered": {[]queue.Hindrance{hindrance(queue.CyclesUnanswered, 1, nil)}, nil, broker,
			[]string{"Redis does not answer for queue q since 03:04:05 UTC."}},
		"not tried": {[]queue.Hindrance{hindrance(queue.CyclesNotTried, 1, nil)}, nil, ours,
			[]string{"This process asks nothing of Redis for queue q since 03:04:05 UTC: a part of it hangs."}},
		"outcomes": {[]queue.Hindrance{hindrance(queue.OutcomesRefused, 1, refused("OOM"))}, nil, broker,
			[]string{"Redis refuses the outcomes of queue q since 03:04:05 UTC: OOM."}},
		"takes": {[]queue.Hindrance{hindrance(queue.TakesRefused, 1, refused("WRONGTYPE"))}, nil, probed,
			[]string{"Redis refuses to hand out the tasks of queue q since 03:04:05 UTC: WRONGTYPE."}},
		"nothing taken": {[]queue.Hindrance{hindrance(queue.NothingTaken, 1, nil)}, nil, health.Consumption{Worker: true, Probed: true},
			[]string{"Tasks wait in queue q and a slot is free, but for 10s none could be taken since 03:04:05 UTC."}},
		"heartbeat refused": {nil, &heartbeat.Failure{Since: at, Err: fmt.Errorf("write asynq:workers:w: %w", refused("NOPERM"))}, broker,
			[]string{"Redis refuses the heartbeat since 03:04:05 UTC: NOPERM."}},
		"heartbeat not tried": {nil, &heartbeat.Failure{Since: at, NotTried: true}, ours,
			[]string{"This process writes no heartbeat since 03:04:05 UTC: a part of it hangs."}},
		"takes, and the heartbeat": {[]queue.Hindrance{hindrance(queue.TakesRefused, 1, refused("WRONGTYPE"))},
			&heartbeat.Failure{Since: at, Err: noDial}, broker,
			[]string{"Redis refuses to hand out the tasks of queue q since 03:04:05 UTC: WRONGTYPE.",
				"Redis does not answer for the heartbeat since 03:04:05 UTC: dial tcp 127.0.0.1:6379: connect: connection refused."}},
	} {
		got := judge(queue.Consumption{Hindrances: c.found}, c.beat, 10*time.Second)
		if !slices.Equal(got.Reasons, c.words) {
			t.Errorf("%s: reasons %q, want %q", name, got.Reasons, c.words)
		}
		if got.Worker != c.want.Worker || got.Broker != c.want.Broker || got.Probed != c.want.Probed || got.Unknown != c.want.Unknown {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
