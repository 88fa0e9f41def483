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

func TestClaimOfAFreeID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		w := newFakeWriter(&k, remote("n1"), nil)
		begin := time.Now()
		if err := w.Claim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if time.Since(begin) != 0 || k.get("nonce") != "n1" || k.entries != 1 || w.LastBeat().IsZero() {
			t.Errorf("took %s, hash %v", time.Since(begin), k.hash)
		}
		if err := w.Claim(t.Context()); err != nil { // once more is harmless
			t.Error(err)
		}
	})
}

func TestClaimRefusesAProcessOfThisHostAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		first, second := mustIdentity(t), mustIdentity(t) // one process, two nonces
		if err := newFakeWriter(&k, first, nil).Claim(t.Context()); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		err := newFakeWriter(&k, second, nil).Claim(t.Context())
		var live *LiveError
		if !errors.As(err, &live) || live.Host != first.Host || live.PID != first.PID || live.ID != "w1" {
			t.Fatalf("got %v", err)
		}
		if time.Since(begin) != 0 {
			t.Errorf("took %s", time.Since(begin))
		}
		if !strings.Contains(err.Error(), "worker.id") || !strings.Contains(err.Error(), "stop that worker") {
			t.Errorf("no remedy: %v", err)
		}
	})
}

func TestClaimReplacesAProvenDeadProcessAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		dead, heir := mustIdentity(t), mustIdentity(t)
		dead.PIDStart-- // this pid, but an earlier process
		if err := newFakeWriter(&k, dead, func() Beat { return Beat{Reason: status.Reason{Summary: "old"}} }).Claim(t.Context()); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := newFakeWriter(&k, heir, nil).Claim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if time.Since(begin) != 0 || k.get("nonce") != heir.Nonce || k.get("reason") != "" {
			t.Errorf("took %s, hash %v", time.Since(begin), k.hash)
		}
	})
}

func TestClaimWaitsForASilentStrangerToExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		k.set(Beat{Identity: remote("n1")}, 12*time.Second)
		begin := time.Now()
		if err := newFakeWriter(&k, mustIdentity(t), nil).Claim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < 12*time.Second || took > 13*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestClaimRefusesAStrangerThatBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		stop := startWriter(t, newFakeWriter(&k, remote("n1"), nil))
		defer func() { _ = stop() }()
		time.Sleep(time.Second)
		begin := time.Now()
		err := newFakeWriter(&k, mustIdentity(t), nil).Claim(t.Context())
		var live *LiveError
		if !errors.As(err, &live) || live.Host != "elsewhere" || live.PID != 4321 {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(begin); took > 6*time.Second {
			t.Errorf("took %s", took)
		}
		if k.get("nonce") != "n1" {
			t.Error("the live worker lost its key")
		}
	})
}

func TestClaimRefusesTheLoserOfTwoSuccessors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		k.set(Beat{Identity: remote("n0")}, 3*time.Second)
		results := make(chan error, 2)
		for _, host := range []string{"host1", "host2"} {
			id := Identity{Host: host, PID: 1, Nonce: host, BootID: host, PIDNamespace: "pid:[1]", PIDStart: 1}
			go func() { results <- newFakeWriter(&k, id, nil).Claim(t.Context()) }()
		}
		a, b := <-results, <-results
		var live *LiveError
		if (a == nil) == (b == nil) || !errors.As(errors.Join(a, b), &live) {
			t.Errorf("got %v and %v", a, b)
		}
	})
}

func TestClaimNeverWaitsForAKeyWithoutTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := fakeKey{hash: map[string]string{"colour": "blue"}}
		err := newFakeWriter(&k, mustIdentity(t), nil).Claim(t.Context())
		if err == nil || !strings.Contains(err.Error(), "redis-cli DEL asynq:workers:w1") {
			t.Errorf("got %v", err)
		}
	})
}

func TestClaimWaitsForAKeyWithoutOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := fakeKey{hash: map[string]string{"colour": "blue"}, expires: time.Now().Add(4 * time.Second)}
		if err := newFakeWriter(&k, remote("n1"), nil).Claim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if k.get("colour") != "" || k.get("nonce") != "n1" {
			t.Errorf("hash %v", k.hash)
		}
	})
}

// stuckStore has a holder that neither beats nor expires.
type stuckStore struct{ fakeStore }

func (s stuckStore) read(ctx context.Context) (map[string]string, time.Duration, error) {
	hash, _, err := s.fakeStore.read(ctx)
	return hash, 5 * time.Second, err
}

func TestClaimGivesUpInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := fakeKey{hash: hashOf(Beat{Identity: remote("n0")})}
		w := newFakeWriter(&k, mustIdentity(t), nil)
		w.store = stuckStore{fakeStore{&k, w.opts.Identity.Nonce}}
		begin := time.Now()
		err := w.Claim(t.Context())
		var live *LiveError
		if !errors.As(err, &live) {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestClaimEndsWithItsContextAndWithRedisErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k fakeKey
		k.set(Beat{Identity: remote("n0")}, time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := newFakeWriter(&k, mustIdentity(t), nil).Claim(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		k.setDown(true)
		if err := newFakeWriter(&k, mustIdentity(t), nil).Claim(t.Context()); !errors.Is(err, errDown) {
			t.Errorf("got %v", err)
		}
	})
}

// cutOff ends the caller's context in the middle of a write, as a signal does. A write that is given up then may still
// be on its way to Redis.
type cutOff struct {
	fakeStore
	end context.CancelFunc
}

func (s cutOff) write(ctx context.Context, r writeRequest) (owner, error) {
	s.end()
	if err := ctx.Err(); err != nil {
		return owner{}, err
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
		if err := w.Claim(ctx); err != nil || len(k.written()) != 1 {
			t.Fatalf("the write was given up: %v", err)
		}
		if err := w.Run(ctx); err != nil || k.get("nonce") != "" {
			t.Errorf("%v, and the key is %q's", err, k.get("nonce"))
		}
	})
}
