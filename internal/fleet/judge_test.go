package fleet

import (
	"errors"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/rpc"
)

func TestWhatAWorkerSaysNowIsYoungerThanItsHeartbeat(t *testing.T) {
	w := heartbeat.Worker{ID: "w", Alive: true, Beat: heartbeat.Beat{Healthy: true, Status: heartbeat.StatusRunning, ActiveTasks: []string{"old"}}}
	pong := rpc.Pong{WorkerID: "w", State: rpc.Busy, Status: heartbeat.StatusDraining, ActiveTasks: []string{"t1", "t2"}}
	got := judge(sighting{worker: w, asked: true, pong: pong}).Beat
	if got.Status != heartbeat.StatusDraining || got.Healthy || len(got.ActiveTasks) != 2 {
		t.Errorf("%+v", got)
	}
	pong.WorkerID = "other"
	if got := judge(sighting{worker: w, asked: true, pong: pong}).Beat; got.Status != heartbeat.StatusRunning || !got.Healthy {
		t.Errorf("what another worker says is taken for its own: %+v", got)
	}
}

func TestJudge(t *testing.T) {
	alive := heartbeat.Worker{ID: "w", Alive: true, Age: time.Second, Beat: heartbeat.Beat{
		State: heartbeat.StateFree, Status: heartbeat.StatusRunning, Identity: heartbeat.Identity{Nonce: "n"},
	}}
	busy, draining, expired, broken := alive, alive, alive, alive
	busy.Beat.State, busy.Beat.Reason = heartbeat.StateBusy, "full"
	draining.Beat.Status = heartbeat.StatusDraining
	expired.Alive = false
	broken.Alive, broken.Err = false, errors.New("wrong type")
	own := rpc.Pong{WorkerID: "w", Nonce: "n", State: rpc.Free}
	ownBusy := rpc.Pong{WorkerID: "w", Nonce: "n", State: rpc.Busy, Reason: "full"}
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
		state  State
		cause  string
		proven bool
	}{
		"answers free":                  {asked(alive, false, own, ""), Free, "", false},
		"answers busy":                  {asked(alive, false, ownBusy, ""), Busy, "", false},
		"answers but does not beat":     {asked(alive, true, own, ""), Busy, "", false},
		"answers, heartbeat is gone":    {asked(expired, true, own, ""), Dead, CauseHeartbeatExpired, false},
		"refuses but beats":             {asked(alive, false, none, rpc.KindRefused), Dead, CauseRefused, false},
		"refuses and is silent":         {asked(alive, true, none, rpc.KindRefused), Dead, CauseRefused, true},
		"refuses, heartbeat is gone":    {asked(expired, true, none, rpc.KindRefused), Dead, CauseRefused, true},
		"refuses, Redis was away":       {asked(expired, false, none, rpc.KindRefused), Dead, CauseRefused, false},
		"no answer":                     {asked(alive, true, none, rpc.KindTimeout), Dead, CauseTimeout, false},
		"no answer, no heartbeat":       {asked(expired, true, none, rpc.KindTimeout), Dead, CauseHeartbeatExpired, false},
		"wants a password":              {asked(alive, true, none, rpc.KindUnauthorised), Dead, CauseUnauthorised, false},
		"does not speak our TLS":        {asked(alive, true, none, rpc.KindTLS), Dead, CauseTLS, false},
		"answers nonsense":              {asked(alive, true, none, rpc.KindOther), Dead, CauseError, false},
		"another worker answers":        {asked(alive, false, other, ""), Dead, CauseWrongIdentity, false},
		"another worker, and silent":    {asked(alive, true, other, ""), Dead, CauseWrongIdentity, true},
		"a successor, and silent":       {asked(alive, true, successor, ""), Dead, CauseWrongIdentity, true},
		"process gone but beats":        {sighting{worker: alive, gone: true}, Dead, CauseProcessGone, false},
		"process gone and silent":       {sighting{worker: alive, gone: true, silent: true}, Dead, CauseProcessGone, true},
		"stopping, port closed already": {asked(draining, false, none, rpc.KindRefused), Busy, "", false},
		"stopping for ever":             {asked(draining, true, none, rpc.KindRefused), Dead, CauseRefused, true},
		"no address, free":              {sighting{worker: alive}, Free, "", false},
		"no address, busy":              {sighting{worker: busy}, Busy, "", false},
		"no address, silent":            {sighting{worker: alive, silent: true}, Dead, CauseHeartbeatExpired, false},
		"no address, no heartbeat":      {sighting{worker: expired}, Dead, CauseHeartbeatExpired, false},
		"not a heartbeat":               {sighting{worker: broken}, Dead, CauseError, false},
	} {
		got := judge(test.sighting)
		if got.State != test.state || got.Cause != test.cause || got.Proven != test.proven {
			t.Errorf("%s: %s %q proven %t, want %s %q proven %t", name, got.State, got.Cause, got.Proven, test.state, test.cause, test.proven)
		}
		if (got.Reason == "") != (got.State == Free) {
			t.Errorf("%s: %s for the reason %q", name, got.State, got.Reason)
		}
	}
}
