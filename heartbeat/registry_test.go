package heartbeat

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
)

func TestGetAndForget(t *testing.T) {
	t.Run("redis", func(t *testing.T) { testGetAndForget(t, open(t, redistest.Start(t).Addr)) })
	t.Run("cluster", func(t *testing.T) {
		s := redistest.StartCluster(t)
		c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.Addr}, ContextTimeoutEnabled: true})
		t.Cleanup(func() { _ = c.Close() })
		testGetAndForget(t, c)
	})
}

func testGetAndForget(t *testing.T, c redis.UniversalClient) {
	ctx := t.Context()
	get := func(want bool) Worker {
		t.Helper()
		w, there, err := Get(ctx, c, "w")
		if err != nil || there != want {
			t.Fatalf("Get found it: %t, %v; want %t", there, err, want)
		}
		return w
	}
	forget := func(w Worker) {
		t.Helper()
		if err := Forget(ctx, c, w); err != nil {
			t.Fatalf("forget: %v", err)
		}
	}
	register := func(nonce string) {
		t.Helper()
		if err := newRedisWriter(c, "w", Identity{Host: "h", Nonce: nonce}, nil).Register(ctx); err != nil {
			t.Fatalf("register as %s: %v", nonce, err)
		}
	}
	get(false)
	register("old")
	old := get(true)
	if !old.Alive || old.Beat.Nonce != "old" || old.Err != nil || old.TTL <= 0 {
		t.Fatalf("Get = %+v, want a live worker", old)
	}

	// A successor has the id by now: nothing of it is touched.
	c.Del(ctx, Key("w"))
	register("new")
	forget(old)
	if w := get(true); !w.Alive || w.Beat.Nonce != "new" {
		t.Errorf("the successor is %+v, want it alive with its own nonce", w)
	}

	// It has beaten since it was read without a heartbeat: its entry stays.
	expired := get(true)
	expired.Alive, expired.Beat, expired.Expiry = false, Beat{}, expired.Expiry.Add(-time.Minute)
	forget(expired)
	if w := get(true); !w.Alive {
		t.Errorf("after it has beaten: %+v, want it alive", w)
	}

	forget(get(true))
	forget(old)
	get(false)
	if n := c.Exists(ctx, Key("w")).Val(); n != 0 {
		t.Error("the heartbeat is left")
	}
}

func TestGoneNeedsProof(t *testing.T) {
	self := mustIdentity(t)
	if Gone(self, self) {
		t.Error("this process is gone")
	}
	if Gone(self, Identity{}) || Gone(Identity{}, self) {
		t.Error("nobody is gone")
	}
	if self.BootID == "" {
		return // this system proves nothing
	}
	other := self
	other.PIDStart++ // the pid belongs to another process now
	if !Gone(self, other) {
		t.Error("a process that ended is not gone")
	}
	other.BootID = "another host"
	if Gone(self, other) {
		t.Error("a process of another host is gone")
	}
}
