package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/queue"
)

// onCluster points the bench at a Redis Cluster.
func (b *bench) onCluster() *redistest.Server {
	b.t.Helper()
	server := redistest.StartCluster(b.t)
	b.redis = server.Client
	b.asynq = asynq.NewClientFromRedisClient(server.Client)
	b.inspect = asynq.NewInspectorFromRedisClient(server.Client)
	b.opts.Cluster = true
	b.url = server.URL
	return server
}

// Every key of ours, of any number of tasks, lies in some slot of its own or in its queue's.
func TestClusterRunsTasksAndShowsThem(t *testing.T) {
	b := newBench(t)
	b.onCluster()
	b.opts.Queues = map[string]int{testQueue: 1, "other": 2}
	b.opts.Concurrency = 4
	b.gate.set(false)
	b.start(func(_ context.Context, task *queue.Task) (json.RawMessage, error) {
		if task.ID == "fails" {
			return nil, errors.New("boom")
		}
		return json.RawMessage(`"` + task.ID + `"`), nil
	})
	const tasks = 50
	for i := range tasks {
		b.enqueue(fmt.Sprint("c", i))
		b.enqueue(fmt.Sprint("o", i), asynq.Queue("other"), asynq.Retention(time.Hour))
	}
	b.enqueue("fails", asynq.MaxRetry(3))
	b.gate.set(true)
	for range 2*tasks + 1 {
		select {
		case <-b.finished:
		case <-time.After(30 * time.Second):
			t.Fatal("tasks do not finish")
		}
	}
	b.eventuallyState("fails", "retry")
	ctx := t.Context()
	for i := range tasks {
		for _, id := range []string{fmt.Sprint("c", i), fmt.Sprint("o", i)} {
			b.eventually(func() string {
				if got := b.redis.Get(ctx, queue.ResultKey(id)).Val(); got != `"`+id+`"` {
					return fmt.Sprintf("the result of %s is %q", id, got)
				}
				if view := b.redis.HGetAll(ctx, queue.ViewKey(id)).Val(); view["state"] != "completed" {
					return fmt.Sprintf("the view of %s is %v", id, view)
				}
				return ""
			})
			if ttl := b.redis.TTL(ctx, queue.ViewKey(id)).Val(); ttl <= 0 {
				t.Errorf("the view of %s lives for %v", id, ttl)
			}
		}
	}
	if len(b.fenced) != 0 {
		t.Error("something was fenced")
	}
}

// A cluster client that sends a dequeue again after a broken connection takes a second task, and nobody learns of the
// first.
func TestClusterDequeueIsSentOnce(t *testing.T) {
	b := newBench(t)
	server := b.onCluster()
	b.opts.BeatInterval = time.Minute // so that nothing but suspicion finds the lost task
	b.opts.BeatTTL = 3 * time.Minute
	ctx := t.Context()
	proxy := redistest.StartProxy(t, server.Addr)
	_, port, err := net.SplitHostPort(proxy.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Client.ConfigSet(ctx, "cluster-announce-port", port).Err(); err != nil {
		t.Fatal(err)
	}
	b.start(echo)
	b.enqueue("warm") // Redis knows the scripts from here on
	b.waitFinished("warm")
	b.gate.set(false)
	b.enqueue("first")
	b.enqueue("second")
	var cut atomic.Bool
	proxy.CutEveryMatching(1, redistest.CutReply, func(name string) bool {
		return name == "EVALSHA" && !cut.Swap(true)
	})
	b.gate.set(true)
	for range 2 {
		select {
		case <-b.finished:
		case <-time.After(20 * time.Second):
			t.Fatalf("a task is lost in active: %v", b.redis.LRange(ctx, key("active"), 0, -1).Val())
		}
	}
}
