package fleet

import (
	"errors"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
)

func TestAPongIsYoungerThanTheHeartbeat(t *testing.T) {
	w := heartbeat.Worker{ID: "w", Alive: true, Beat: heartbeat.Beat{Healthy: true, Status: status.Running, ActiveTasks: []string{"old"}}}
	pong := rpc.Pong{WorkerID: "w", State: status.Busy, Status: status.Draining, ActiveTasks: []string{"t1", "t2"}}
	got := classify(observation{worker: w, pinged: true, pong: pong}).Beat
	if got.Status != status.Draining || got.Healthy || len(got.ActiveTasks) != 2 {
		t.Errorf("the beat after a pong is %+v, want the pong's status, health and tasks", got)
	}
	pong.WorkerID = "other"
	if got := classify(observation{worker: w, pinged: true, pong: pong}).Beat; got.Status != status.Running || !got.Healthy {
		t.Errorf("what another worker says is taken for its own: %+v", got)
	}
}

func TestClassify(t *testing.T) {
	alive := heartbeat.Worker{ID: "w", Alive: true, Age: time.Second, Beat: heartbeat.Beat{
		State: status.Free, Status: status.Running, Identity: heartbeat.Identity{Nonce: "n"},
	}}
	busy, draining, expired, broken := alive, alive, alive, alive
	busy.Beat.State, busy.Beat.Reason.Summary = status.Busy, "full"
	draining.Beat.Status = status.Draining
	expired.Alive = false
	broken.Alive, broken.Err = false, errors.New("wrong type")
	own := rpc.Pong{WorkerID: "w", Nonce: "n", State: status.Free}
	ownBusy := rpc.Pong{WorkerID: "w", Nonce: "n", State: status.Busy, Reason: "full"}
	other, successor := own, own
	other.WorkerID, successor.Nonce = "v", "m"
	pinged := func(w heartbeat.Worker, silent bool, p rpc.Pong, kind rpc.Kind) observation {
		o := observation{worker: w, silent: silent, pinged: true, pong: p}
		if kind != "" {
			o.err = failed(kind)
		}
		return o
	}
	none := rpc.Pong{}
	for name, test := range map[string]struct {
		observation
		state  status.State
		cause  string
		proven bool
	}{
		"answers free":                  {pinged(alive, false, own, ""), status.Free, "", false},
		"answers busy":                  {pinged(alive, false, ownBusy, ""), status.Busy, "", false},
		"answers but does not beat":     {pinged(alive, true, own, ""), status.Busy, "", false},
		"answers, heartbeat is gone":    {pinged(expired, true, own, ""), status.Dead, CauseHeartbeatExpired, false},
		"refuses but beats":             {pinged(alive, false, none, rpc.KindRefused), status.Dead, CauseRefused, false},
		"refuses and is silent":         {pinged(alive, true, none, rpc.KindRefused), status.Dead, CauseRefused, true},
		"refuses, heartbeat is gone":    {pinged(expired, true, none, rpc.KindRefused), status.Dead, CauseRefused, true},
		"refuses, Redis was away":       {pinged(expired, false, none, rpc.KindRefused), status.Dead, CauseRefused, false},
		"no answer":                     {pinged(alive, true, none, rpc.KindTimeout), status.Dead, CauseTimeout, false},
		"no answer, no heartbeat":       {pinged(expired, true, none, rpc.KindTimeout), status.Dead, CauseHeartbeatExpired, false},
		"wants a password":              {pinged(alive, true, none, rpc.KindUnauthorised), status.Dead, CauseUnauthorised, false},
		"does not speak our TLS":        {pinged(alive, true, none, rpc.KindTLS), status.Dead, CauseTLS, false},
		"answers nonsense":              {pinged(alive, true, none, rpc.KindOther), status.Dead, CauseError, false},
		"another worker answers":        {pinged(alive, false, other, ""), status.Dead, CauseWrongIdentity, false},
		"another worker, and silent":    {pinged(alive, true, other, ""), status.Dead, CauseWrongIdentity, true},
		"a successor, and silent":       {pinged(alive, true, successor, ""), status.Dead, CauseWrongIdentity, true},
		"process gone but beats":        {observation{worker: alive, gone: true}, status.Dead, CauseProcessGone, false},
		"process gone and silent":       {observation{worker: alive, gone: true, silent: true}, status.Dead, CauseProcessGone, true},
		"stopping, port closed already": {pinged(draining, false, none, rpc.KindRefused), status.Busy, "", false},
		"stopping for ever":             {pinged(draining, true, none, rpc.KindRefused), status.Dead, CauseRefused, true},
		"no address, free":              {observation{worker: alive}, status.Free, "", false},
		"no address, busy":              {observation{worker: busy}, status.Busy, "", false},
		"no address, silent":            {observation{worker: alive, silent: true}, status.Dead, CauseHeartbeatExpired, false},
		"no address, no heartbeat":      {observation{worker: expired}, status.Dead, CauseHeartbeatExpired, false},
		"not a heartbeat":               {observation{worker: broken}, status.Dead, CauseError, false},
	} {
		got := classify(test.observation)
		if got.State != test.state || got.Cause != test.cause || got.Proven != test.proven {
			t.Errorf("%s: %s %q proven %t, want %s %q proven %t", name, got.State, got.Cause, got.Proven, test.state, test.cause, test.proven)
		}
		if (got.Reason == "") != (got.State == status.Free) {
			t.Errorf("%s: %s for the reason %q", name, got.State, got.Reason)
		}
	}
}
