package client

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/redistest"
)

// While the slot of a queue moves, Redis Cluster takes no task for it. One task and many wait for the end of it.
func TestEnqueueWhileTheSlotMoves(t *testing.T) {
	cluster := redistest.StartShards(t, 3)
	target, err := redisclient.Parse(cluster.URL)
	if err != nil {
		t.Fatalf("parse %s: %v", cluster.URL, err)
	}
	client := target.Open()
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := newTestClient(t, client)
	task := Task{Queue: "q", Type: "t", Payload: json.RawMessage("1")}
	const before = 30
	for range before {
		if _, err := c.Enqueue(ctx, task); err != nil {
			t.Fatalf("enqueue before the slot moves: %v", err)
		}
	}
	const pending = "asynq:{q}:pending"
	one, many := make(chan error, 1), make(chan error, 1)
	from := cluster.MasterOf(pending)
	divided := false
	cluster.MoveSlot(ctx, pending, cluster.OtherMaster(pending), func(int) {
		if divided {
			return
		}
		divided = true
		go func() { // ends with ctx at the latest; the test waits for its error
			_, err := c.Enqueue(ctx, task)
			one <- err
		}()
		go func() {
			outcomes, err := c.EnqueueMany(ctx, slices.Repeat([]Task{task}, 3))
			for i, outcome := range outcomes {
				if outcome.Err != nil {
					t.Errorf("task %d of many: %v", i, outcome.Err)
				}
			}
			many <- err
		}()
		for !strings.Contains(from.Client.Info(ctx, "errorstats").Val(), "errorstat_TRYAGAIN") {
			if ctx.Err() != nil {
				t.Error("Redis refused nothing while the slot moved")
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	for name, done := range map[string]chan error{"one": one, "many": many} {
		if err := <-done; err != nil {
			t.Errorf("enqueue %s: %v", name, err)
		}
	}
	if n := client.LLen(ctx, pending).Val(); n != before+4 {
		t.Errorf("%d tasks are pending, want %d", n, before+4)
	}
}

// Redis Cluster answers so while a slot moves or a master is elected, to the client of one of its nodes too; but that
// client gets MOVED and ASK for good.
func TestTransientErrors(t *testing.T) {
	many := &Client{redis: redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})}
	defer many.redis.Close()
	one := &Client{redis: redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})}
	defer one.redis.Close()
	for text, want := range map[string]struct{ cluster, node bool }{
		"UNKNOWN: redis eval error: MOVED 11958 127.0.0.1:39659":                       {true, false},
		"UNKNOWN: redis eval error: ASK 11958 127.0.0.1:39659":                         {true, false},
		"UNKNOWN: redis eval error: TRYAGAIN Multiple keys request during rehashing":   {true, true},
		"UNKNOWN: redis eval error: CLUSTERDOWN Hash slot not served":                  {true, true},
		"UNKNOWN: redis eval error: OOM command not allowed when used memory > limit'": {false, false},
		"task ID conflicts with another task":                                          {false, false},
	} {
		if got := many.isTransient(errors.New(text)); got != want.cluster {
			t.Errorf("with a cluster client, isTransient(%q) = %v, want %v", text, got, want.cluster)
		}
		if got := one.isTransient(errors.New(text)); got != want.node {
			t.Errorf("with the client of one node, isTransient(%q) = %v, want %v", text, got, want.node)
		}
	}
	if many.isTransient(nil) || one.isTransient(nil) {
		t.Error("isTransient(nil) = true, want false")
	}
}
