package redistest

import (
	"context"
	"fmt"
	"testing"
	"time"
)

func TestStartShards(t *testing.T) {
	t.Parallel()
	c := StartShards(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range 50 {
		if err := c.Client.Set(ctx, fmt.Sprint("{tag}:", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	from, to := c.MasterOf("{tag}"), c.OtherMaster("{tag}")
	steps := 0
	if moved := c.MoveSlot(ctx, "{tag}", to, func(int) { steps++ }); moved != 50 || steps != 5 {
		t.Errorf("%d keys were moved in %d steps", moved, steps)
	}
	if now := c.MasterOf("{tag}"); now != to || now == from {
		t.Errorf("the slot is at %s, want %s", now.Addr, to.Addr)
	}
	if got := c.Client.Get(ctx, "{tag}:7").Val(); got != "7" {
		t.Errorf("a moved key holds %q", got)
	}
	to.Kill()
	poll(t, ctx, "no replica takes over", func() (bool, error) {
		c.Client.ReloadState(ctx)
		got, err := c.Client.Get(ctx, "{tag}:7").Result()
		return got == "7", err
	})
	if now := c.MasterOf("{tag}"); now == to {
		t.Error("a dead node is master")
	}
}

func TestStartSentinels(t *testing.T) {
	t.Parallel()
	s := StartSentinels(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Client.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n := s.Servers[0].Client.Wait(ctx, 1, time.Second).Val(); n != 1 {
		t.Fatalf("%d replicas have it", n)
	}
	first := s.Master()
	first.Kill()
	poll(t, ctx, "no replica takes over", func() (bool, error) {
		err := s.Client.Set(ctx, "k2", "v", 0).Err()
		return err == nil, err
	})
	// The new master takes writes a moment before the last sentinel has heard of it.
	poll(t, ctx, "the sentinels still name the dead server", func() (bool, error) { return s.Master() != first, nil })
	if got := s.Client.Get(ctx, "k").Val(); got != "v" {
		t.Errorf("the replica holds %q", got)
	}
}
