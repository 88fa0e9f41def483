package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/internal/status"
)

// open returns a client as the worker opens it: bounded by contexts.
func open(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func newRedisWriter(c redis.UniversalClient, id string, identity Identity, source func() Beat) *Writer {
	if source == nil {
		source = func() Beat {
			return Beat{Status: status.Running, State: status.Free, Healthy: true, Queues: []string{"default"}}
		}
	}
	return NewWriter(c, Options{ID: id, Identity: identity, Interval: time.Second, TTL: 3 * time.Second, Logger: quiet(), Source: source})
}

// eventually polls until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func TestBeatInRedis(t *testing.T) {
	t.Run("miniredis", func(t *testing.T) { testBeatInRedis(t, open(t, miniredis.RunT(t).Addr())) })
	t.Run("redis", func(t *testing.T) { testBeatInRedis(t, open(t, redistest.Start(t).Addr)) })
	t.Run("cluster", func(t *testing.T) {
		s := redistest.StartCluster(t)
		c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.Addr}, ContextTimeoutEnabled: true})
		t.Cleanup(func() { _ = c.Close() })
		testBeatInRedis(t, c)
	})
}

func testBeatInRedis(t *testing.T, c redis.UniversalClient) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	want := sampleBeat()
	want.Identity = mustIdentity(t)
	w := newRedisWriter(c, "worker-abc123", want.Identity, func() Beat { return want })
	if err := w.Register(ctx); err != nil {
		t.Fatal(err)
	}
	hash, err := c.HGetAll(ctx, "asynq:workers:worker-abc123").Result()
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]string{
		"started": "2025-03-04T04:06:07Z", "healthy": "true", "queue": "critical,default", "active_task": "t1",
		"nonce": want.Nonce, "ttl_seconds": "3.000",
	} {
		if hash[name] != v {
			t.Errorf("%s = %q, want %q", name, hash[name], v)
		}
	}
	ttl, err := c.PTTL(ctx, Key("worker-abc123")).Result()
	if err != nil || ttl <= 0 || ttl > 3*time.Second {
		t.Errorf("TTL %s, %v; want up to 3 s", ttl, err)
	}
	score, err := c.ZScore(ctx, RegistryKey, "worker-abc123").Result()
	if now := float64(time.Now().Unix()); err != nil || score < now-60 || score > now+60 {
		t.Errorf("score %v, %v; want about now", score, err)
	}

	if live, err := List(ctx, c); err != nil || len(live) != 1 || !live[0].Alive || live[0].Err != nil ||
		live[0].ID != "worker-abc123" || live[0].Beat.PID != want.PID || live[0].Beat.EventLoopLag != want.EventLoopLag ||
		live[0].TTL <= 0 || live[0].Age != 3*time.Second-live[0].TTL {
		t.Errorf("list: %+v, %v", live, err)
	}

	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	first := w.LastBeat()
	eventually(t, "a regular beat", func() bool { return w.LastBeat().After(first) })
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if n, err := c.Exists(t.Context(), Key("worker-abc123")).Result(); n != 0 || err != nil {
		t.Errorf("the key is still there: %v", err)
	}
	if n, err := c.ZCard(t.Context(), RegistryKey).Result(); n != 0 || err != nil {
		t.Errorf("%d entries in the registry, %v", n, err)
	}
}

func TestWriteNowReachesRedis(t *testing.T) {
	c := open(t, redistest.Start(t).Addr)
	ctx, cancel := context.WithCancel(t.Context())
	healthy := make(chan bool, 1)
	healthy <- true
	w := NewWriter(c, Options{ID: "w", Identity: mustIdentity(t), Interval: time.Hour, Logger: quiet(), Source: func() Beat {
		h := <-healthy
		healthy <- h
		return Beat{Healthy: h}
	}})
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	eventually(t, "healthy true", func() bool { return c.HGet(ctx, Key("w"), "healthy").Val() == "true" })
	<-healthy
	healthy <- false
	w.WriteNow()
	eventually(t, "healthy false", func() bool { return c.HGet(ctx, Key("w"), "healthy").Val() == "false" })
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestGuardInRedis(t *testing.T) {
	c := open(t, redistest.Start(t).Addr)
	ctx := t.Context()
	mine := newRedisStore(c, "w", "mine")
	put := func(nonce string, r writeRequest) *holder {
		t.Helper()
		r.fields, r.ttl = Beat{Identity: remote(nonce)}.fields(), time.Minute
		other, err := newRedisStore(c, "w", nonce).write(ctx, r)
		if err != nil {
			t.Fatalf("write as %s: %v", nonce, err)
		}
		return other
	}
	if other := put("theirs", writeRequest{strict: true}); other != nil {
		t.Fatalf("a free key is taken for %+v's", other)
	}
	if other := put("mine", writeRequest{}); other == nil || *other != (holder{nonce: "theirs", host: "elsewhere", pid: "4321"}) {
		t.Errorf("another process's key is taken for %+v's", other)
	}
	if put("mine", writeRequest{replace: "somebody"}) == nil {
		t.Error("replaced a key of another than the named predecessor")
	}
	if err := mine.remove(ctx); err != nil || c.Exists(ctx, Key("w")).Val() != 1 {
		t.Errorf("removed another process's key, %v", err)
	}
	c.HSet(ctx, Key("w"), "stale", "field")
	if put("mine", writeRequest{replace: "theirs", register: true}) != nil || c.HExists(ctx, Key("w"), "stale").Val() {
		t.Error("the predecessor was not replaced as a whole")
	}
	if err := mine.remove(ctx); err != nil || c.Exists(ctx, Key("w")).Val() != 0 {
		t.Errorf("own key not removed, %v", err)
	}

	// A hash without a nonce: not taken at the start, but no obstacle to the running one.
	c.HSet(ctx, Key("w"), "colour", "blue")
	if other := put("mine", writeRequest{strict: true}); other == nil || other.nonce != "" {
		t.Errorf("at the start a hash without a nonce is taken for %+v's, want a holder without a nonce", other)
	}
	if other := put("mine", writeRequest{}); other != nil {
		t.Errorf("later a hash without a nonce is taken for %+v's, want it replaced", other)
	}

	c.Del(ctx, Key("w"))
	c.Set(ctx, Key("w"), "a string", 0)
	_, err := mine.write(ctx, writeRequest{fields: Beat{}.fields(), ttl: time.Minute})
	if err == nil || !strings.Contains(err.Error(), "asynq:workers:w") || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("key of another type: %v", err)
	}
}

func TestListShowsTheDeadAndTheDamaged(t *testing.T) {
	for name, c := range map[string]*redis.Client{
		"miniredis": open(t, miniredis.RunT(t).Addr()),
		"redis":     open(t, redistest.Start(t).Addr),
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if got, err := List(ctx, c); err != nil || len(got) != 0 {
				t.Errorf("empty registry: %v, %v", got, err)
			}
			past := time.Now().Add(-time.Minute).Unix()
			c.ZAdd(ctx, RegistryKey, redis.Z{Score: float64(past), Member: "dead"},
				redis.Z{Score: float64(past + 1), Member: "string"}, redis.Z{Score: float64(past + 2), Member: "eternal"},
				redis.Z{Score: float64(past + 3), Member: "garbled"})
			c.Set(ctx, Key("string"), "x", 0)
			c.HSet(ctx, Key("eternal"), "healthy", "true")
			c.HSet(ctx, Key("garbled"), "healthy", "1", "host", "h")
			c.Expire(ctx, Key("garbled"), time.Minute)
			got, err := List(ctx, c)
			if err != nil || len(got) != 4 {
				t.Fatalf("List = %v, %v; want 4 workers", got, err)
			}
			if w := got[0]; w.ID != "dead" || w.Alive || w.Err != nil || w.Expiry.Unix() != past {
				t.Errorf("dead: %+v", w)
			}
			if w := got[1]; w.Alive || w.Err == nil {
				t.Errorf("string: %+v", w)
			}
			if w := got[2]; w.Alive || w.Err == nil {
				t.Errorf("eternal: %+v", w)
			}
			if w := got[3]; !w.Alive || w.Err == nil || w.Beat.Host != "h" || w.Beat.Healthy || w.Age != 0 {
				t.Errorf("garbled: %+v", w)
			}
		})
	}
}

func TestListReadsMoreThanAChunk(t *testing.T) {
	c := open(t, redistest.Start(t).Addr)
	const n = listChunk + 7
	p := c.Pipeline()
	for i := range n {
		id := fmt.Sprintf("w%04d", i)
		p.ZAdd(t.Context(), RegistryKey, redis.Z{Score: 1e10, Member: id})
		p.HSet(t.Context(), Key(id), "host", id)
		p.Expire(t.Context(), Key(id), time.Minute)
	}
	if _, err := p.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := List(t.Context(), c)
	if err != nil || len(got) != n {
		t.Fatalf("List returned %d workers, %v; want %d", len(got), err, n)
	}
	for _, w := range got {
		if !w.Alive || w.Beat.Host != w.ID {
			t.Fatalf("mixed up: %+v", w)
		}
	}
}

func TestRegistryForgetsTheLongLapsed(t *testing.T) {
	c := open(t, redistest.Start(t).Addr)
	ctx := t.Context()
	now := time.Now()
	c.ZAdd(ctx, RegistryKey, redis.Z{Score: float64(now.Add(-keepLapsed - time.Minute).Unix()), Member: "ancient"},
		redis.Z{Score: float64(now.Add(-keepLapsed + 5*time.Minute).Unix()), Member: "recent"})
	if err := newRedisWriter(c, "w", mustIdentity(t), nil).Register(ctx); err != nil {
		t.Fatal(err)
	}
	if got := c.ZRange(ctx, RegistryKey, 0, -1).Val(); strings.Join(got, " ") != "recent w" {
		t.Errorf("the registry has %v, want recent and w", got)
	}
}

// Where no worker beats, nobody drops what lapsed long ago.
func TestListLeavesOutTheLongLapsed(t *testing.T) {
	for name, c := range map[string]*redis.Client{
		"miniredis": open(t, miniredis.RunT(t).Addr()), "redis": open(t, redistest.Start(t).Addr),
	} {
		ctx, now := t.Context(), time.Now()
		c.ZAdd(ctx, RegistryKey, redis.Z{Score: float64(now.Add(-keepLapsed - time.Minute).Unix()), Member: "ancient"},
			redis.Z{Score: float64(now.Add(-keepLapsed - time.Minute).Unix()), Member: "beats"},
			redis.Z{Score: float64(now.Add(-keepLapsed + 5*time.Minute).Unix()), Member: "recent"})
		c.HSet(ctx, Key("beats"), "host", "h")
		c.Expire(ctx, Key("beats"), time.Minute)
		got, err := List(ctx, c)
		if err != nil || len(got) != 2 || got[0].ID != "beats" || got[1].ID != "recent" {
			t.Errorf("%s: List = %+v, %v; want the one that beats, and recent", name, got, err)
		}
	}
}

func TestSuccessorOfAKilledProcessOnThisHost(t *testing.T) {
	c := open(t, redistest.Start(t).Addr)
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dead := mustIdentity(t)
	dead.PID, dead.PIDStart = cmd.Process.Pid, 1 // a start time that no process of today has
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	// A TTL that the test could not wait for.
	old := NewWriter(c, Options{ID: "w", Identity: dead, TTL: time.Hour, Interval: time.Minute, Logger: quiet(), Source: func() Beat { return Beat{} }})
	if err := old.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	successor := mustIdentity(t)
	if successor.BootID == "" {
		t.Skip("this system offers no proof of a process's death")
	}
	if err := newRedisWriter(c, "w", successor, nil).Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.HGet(t.Context(), Key("w"), "nonce").Val(); got != successor.Nonce {
		t.Errorf("nonce %s, want the successor's %s", got, successor.Nonce)
	}
	if err := old.Run(t.Context()); !errors.Is(err, ErrTakenOver) {
		t.Errorf("the old one goes on: %v", err)
	}
}

func TestSuccessorWaitsForExpiryInRedis(t *testing.T) {
	c := open(t, redistest.Start(t).Addr)
	if err := newRedisWriter(c, "w", remote("gone"), nil).Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := newRedisWriter(c, "w", mustIdentity(t), nil).Register(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRunEndsWhileRedisIsFrozen(t *testing.T) {
	s := redistest.Start(t)
	w := newRedisWriter(open(t, s.Addr), "w", mustIdentity(t), nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	eventually(t, "the first beat", func() bool { return !w.LastBeat().IsZero() })
	s.Freeze()
	defer s.Thaw()
	cancel()
	select {
	case err := <-done:
		if err == nil {
			t.Error("left a frozen server without an error")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Run does not return while Redis is frozen")
	}
}

func TestRunComesBackAfterARestartOfRedis(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, s.Addr)
	w := newRedisWriter(c, "w", mustIdentity(t), nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	eventually(t, "the first beat", func() bool { return !w.LastBeat().IsZero() })
	s.Kill()
	s.Restart() // empty, and without the scripts
	eventually(t, "the key and its entry", func() bool {
		return c.Exists(ctx, Key("w")).Val() == 1 && c.ZCard(ctx, RegistryKey).Val() == 1
	})
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}
