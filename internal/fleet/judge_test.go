package fleet

import (
	"errors"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
)

func TestWhatAWorkerSaysNowIsYoungerThanItsHeartbeat(t *testing.T) {
	w := heartbeat.Worker{ID: "w", Alive: true, Beat: heartbeat.Beat{Healthy: true, Status: status.Running, ActiveTasks: []string{"old"}}}
	pong := rpc.Pong{WorkerID: "w", State: status.Busy, Status: status.Draining, ActiveTasks: []string{"t1", "t2"}}
	got := judge(sighting{worker: w, asked: true, pong: pong}).Beat
	if got.Status != status.Draining || got.Healthy || len(got.ActiveTasks) != 2 {
		t.Errorf("%+v", got)
	}
	pong.WorkerID = "other"
	if got := judge(sighting{worker: w, asked: true, pong: pong}).Beat; got.Status != status.Running || !got.Healthy {
		t.Errorf("what another worker says is taken for its own: %+v", got)
	}
}

func TestJudge(t *testing.T) {
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
	asked := func(w heartbeat.Worker, silent bool, p rpc.Pong, kind rpc.Kind) sighting {
		s := sighting{worker: w, silent: silent, asked: true, pong: p}
		if kind != "" {
			s.err = failed(kind)
		}
		return s
	}
	none := rpc.Pong{}
	for name, test := range map[string]struct {
		sighting
		state  status.State
		cause  string
		proven bool
	}{
		"answers free":                  {asked(alive, false, own, ""), status.Free, "", false},
		"answers busy":                  {asked(alive, false, ownBusy, ""), status.Busy, "", false},
		"answers but does not beat":     {asked(alive, true, own, ""), status.Busy, "", false},
		"answers, heartbeat is gone":    {asked(expired, true, own, ""), status.Dead, CauseHeartbeatExpired, false},
		"refuses but beats":             {asked(alive, false, none, rpc.KindRefused), status.Dead, CauseRefused, false},
		"refuses and is silent":         {asked(alive, true, none, rpc.KindRefused), status.Dead, CauseRefused, true},
		"refuses, heartbeat is gone":    {asked(expired, true, none, rpc.KindRefused), status.Dead, CauseRefused, true},
		"refuses, Redis was away":       {asked(expired, false, none, rpc.KindRefused), status.Dead, CauseRefused, false},
		"no answer":                     {asked(alive, true, none, rpc.KindTimeout), status.Dead, CauseTimeout, false},
		"no answer, no heartbeat":       {asked(expired, true, none, rpc.KindTimeout), status.Dead, CauseHeartbeatExpired, false},
		"wants a password":              {asked(alive, true, none, rpc.KindUnauthorised), status.Dead, CauseUnauthorised, false},
		"does not speak our TLS":        {asked(alive, true, none, rpc.KindTLS), status.Dead, CauseTLS, false},
		"answers nonsense":              {asked(alive, true, none, rpc.KindOther), status.Dead, CauseError, false},
		"another worker answers":        {asked(alive, false, other, ""), status.Dead, CauseWrongIdentity, false},
		"another worker, and silent":    {asked(alive, true, other, ""), status.Dead, CauseWrongIdentity, true},
		"a successor, and silent":       {asked(alive, true, successor, ""), status.Dead, CauseWrongIdentity, true},
		"process gone but beats":        {sighting{worker: alive, gone: true}, status.Dead, CauseProcessGone, false},
		"process gone and silent":       {sighting{worker: alive, gone: true, silent: true}, status.Dead, CauseProcessGone, true},
		"stopping, port closed already": {asked(draining, false, none, rpc.KindRefused), status.Busy, "", false},
		"stopping for ever":             {asked(draining, true, none, rpc.KindRefused), status.Dead, CauseRefused, true},
		"no address, free":              {sighting{worker: alive}, status.Free, "", false},
		"no address, busy":              {sighting{worker: busy}, status.Busy, "", false},
		"no address, silent":            {sighting{worker: alive, silent: true}, status.Dead, CauseHeartbeatExpired, false},
		"no address, no heartbeat":      {sighting{worker: expired}, status.Dead, CauseHeartbeatExpired, false},
		"not a heartbeat":               {sighting{worker: broken}, status.Dead, CauseError, false},
	} {
		got := judge(test.sighting)
		if got.State != test.state || got.Cause != test.cause || got.Proven != test.proven {
			t.Errorf("%s: %s %q proven %t, want %s %q proven %t", name, got.State, got.Cause, got.Proven, test.state, test.cause, test.proven)
		}
		if (got.Reason == "") != (got.State == status.Free) {
			t.Errorf("%s: %s for the reason %q", name, got.State, got.Reason)
		}
	}
}
