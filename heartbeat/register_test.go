package heartbeat

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

func TestRegisterAFreeID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		w := newFakeWriter(&k, remote("n1"), nil)
		begin := time.Now()
		if err := w.Register(t.Context()); err != nil {
			t.Fatalf("register: %v", err)
		}
		if time.Since(begin) != 0 || k.get("nonce") != "n1" || k.entries != 1 || w.LastBeat().IsZero() {
			t.Errorf("it took %s and left %v; want it at once, with nonce n1 and one entry", time.Since(begin), k.hash)
		}
		if err := w.Register(t.Context()); err != nil { // once more is harmless
			t.Errorf("register once more: %v", err)
		}
	})
}

func TestRegisterRefusesAProcessOfThisHostAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		first, second := mustIdentity(t), mustIdentity(t) // one process, two nonces
		if err := newFakeWriter(&k, first, nil).Register(t.Context()); err != nil {
			t.Fatalf("register: %v", err)
		}
		begin := time.Now()
		err := newFakeWriter(&k, second, nil).Register(t.Context())
		var live *LiveError
		if !errors.As(err, &live) || live.Host != first.Host || live.PID != first.PID || live.ID != "w1" {
			t.Fatalf("Register = %v, want a LiveError that names the other process", err)
		}
		if time.Since(begin) != 0 {
			t.Errorf("the refusal took %s, want it at once", time.Since(begin))
		}
		if !strings.Contains(err.Error(), "worker.id") || !strings.Contains(err.Error(), "stop that worker") {
			t.Errorf("the error %q names no remedy", err)
		}
	})
}

func TestRegisterReplacesAProvenDeadProcessAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		dead, successor := mustIdentity(t), mustIdentity(t)
		dead.PIDStart-- // this pid, but an earlier process
		if err := newFakeWriter(&k, dead, func() Beat { return Beat{Reason: status.Reason{Summary: "old"}} }).Register(t.Context()); err != nil {
			t.Fatalf("register: %v", err)
		}
		begin := time.Now()
		if err := newFakeWriter(&k, successor, nil).Register(t.Context()); err != nil {
			t.Fatalf("register: %v", err)
		}
		if time.Since(begin) != 0 || k.get("nonce") != successor.Nonce || k.get("reason") != "" {
			t.Errorf("it took %s and left %v; want it at once, with nonce %s and no reason", time.Since(begin), k.hash, successor.Nonce)
		}
	})
}

func TestRegisterWaitsForASilentStrangerToExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		k.set(Beat{Identity: remote("n1")}, 12*time.Second)
		begin := time.Now()
		if err := newFakeWriter(&k, mustIdentity(t), nil).Register(t.Context()); err != nil {
			t.Fatalf("register: %v", err)
		}
		if took := time.Since(begin); took < 12*time.Second || took > 13*time.Second {
			t.Errorf("it took %s, want the 12 s until the key expires", took)
		}
	})
}

func TestRegisterRefusesAStrangerThatBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		stop := startWriter(t, newFakeWriter(&k, remote("n1"), nil))
		defer func() { _ = stop() }()
		time.Sleep(time.Second)
		begin := time.Now()
		err := newFakeWriter(&k, mustIdentity(t), nil).Register(t.Context())
		var live *LiveError
		if !errors.As(err, &live) || live.Host != "elsewhere" || live.PID != 4321 {
			t.Fatalf("Register = %v, want a LiveError that names the other process", err)
		}
		if took := time.Since(begin); took > 6*time.Second {
			t.Errorf("the refusal took %s, want the other's interval at most", took)
		}
		if k.get("nonce") != "n1" {
			t.Error("the live worker lost its key")
		}
	})
}

func TestRegisterRefusesTheLoserOfTwoSuccessors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		k.set(Beat{Identity: remote("n0")}, 3*time.Second)
		results := make(chan error, 2)
		for _, host := range []string{"host1", "host2"} {
			id := Identity{Host: host, PID: 1, Nonce: host, BootID: host, PIDNamespace: "pid:[1]", PIDStart: 1}
			go func() { results <- newFakeWriter(&k, id, nil).Register(t.Context()) }()
		}
		a, b := <-results, <-results
		var live *LiveError
		if (a == nil) == (b == nil) || !errors.As(errors.Join(a, b), &live) {
			t.Errorf("two successors got %v and %v, want one nil and one LiveError", a, b)
		}
	})
}

func TestRegisterNeverWaitsForAKeyWithoutTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := fakeKey{hash: map[string]string{"colour": "blue"}}
		err := newFakeWriter(&k, mustIdentity(t), nil).Register(t.Context())
		if err == nil || !strings.Contains(err.Error(), "redis-cli DEL asynq:workers:w1") {
			t.Errorf("Register = %v, want an error with the command that deletes the key", err)
		}
	})
}

func TestRegisterWaitsForAKeyWithoutNonce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := fakeKey{hash: map[string]string{"colour": "blue"}, expires: time.Now().Add(4 * time.Second)}
		if err := newFakeWriter(&k, remote("n1"), nil).Register(t.Context()); err != nil {
			t.Fatalf("register: %v", err)
		}
		if k.get("colour") != "" || k.get("nonce") != "n1" {
			t.Errorf("hash %v, want the new one as a whole", k.hash)
		}
	})
}

// stuckStore is the key of another process, which is neither written nor expires.
type stuckStore struct{ fakeStore }

func (s stuckStore) read(ctx context.Context) (map[string]string, time.Duration, error) {
	hash, _, err := s.fakeStore.read(ctx)
	return hash, 5 * time.Second, err
}

func TestRegisterGivesUpInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := fakeKey{hash: hashOf(Beat{Identity: remote("n0")})}
		w := newFakeWriter(&k, mustIdentity(t), nil)
		w.store = stuckStore{fakeStore{&k, w.opts.Identity.Nonce}}
		begin := time.Now()
		err := w.Register(t.Context())
		var live *LiveError
		if !errors.As(err, &live) {
			t.Fatalf("Register = %v, want a LiveError that names the other process", err)
		}
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("it took %s to give up, want 15 s at most", took)
		}
	})
}

func TestRegisterEndsWithItsContextAndWithRedisErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		k.set(Beat{Identity: remote("n0")}, time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := newFakeWriter(&k, mustIdentity(t), nil).Register(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("at the end of its context Register = %v, want %v", err, context.DeadlineExceeded)
		}
		k.setDown(true)
		if err := newFakeWriter(&k, mustIdentity(t), nil).Register(t.Context()); !errors.Is(err, errDown) {
			t.Errorf("without Redis Register = %v, want %v", err, errDown)
		}
	})
}

// cutOff ends the caller's context in the middle of a write, as a signal does. A write that is given up then may still
// be on its way to Redis.
type cutOff struct {
	fakeStore
	end context.CancelFunc
}

func (s cutOff) write(ctx context.Context, r writeRequest) (*holder, error) {
	s.end()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.fakeStore.write(ctx, r)
}

func TestStopInTheMiddleOfAWriteLeavesNoHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		id := mustIdentity(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newFakeWriter(&k, id, nil)
		w.store = cutOff{fakeStore{&k, id.Nonce}, cancel}
		if err := w.Register(ctx); err != nil || len(k.written()) != 1 {
			t.Fatalf("the write was given up: %v", err)
		}
		if err := w.Run(ctx); err != nil || k.get("nonce") != "" {
			t.Errorf("%v, and the key is %q's", err, k.get("nonce"))
		}
	})
}
