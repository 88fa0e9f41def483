package test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/redistest"
)

// A Redis Cluster of six nodes under load: queues of several hash tags lie on different shards, the slot of one moves
// to another master while its tasks run, then its master dies. Every task is accounted for.
func TestClusterMovesAndFailsOver(t *testing.T) {
	t.Parallel()
	const tasks = 1200 // in each half
	cluster := redistest.StartShards(t, 3)
	queues := spread(t, cluster)
	set := settings{"worker.queues": queues, "worker.concurrency": 8}
	first := startWorker(t, cluster.URL, with(set, "worker.id", "first"))
	second := startWorker(t, cluster.URL, with(set, "worker.id", "second"))
	for _, w := range []*workerProcess{first, second} {
		w.answers("/health", 200, healthyBody)
		if w.Log.find("list views unavailable") == nil {
			t.Error("nothing is said about the missing views")
		}
	}
	ctx := t.Context()
	target, err := redisclient.Parse(cluster.URL)
	if err != nil {
		t.Fatal(err)
	}
	open := func() redis.UniversalClient {
		return target.Open(func(o *redis.UniversalOptions) { o.PoolSize = 1 })
	}
	client := target.Open()
	defer client.Close()
	a := newAccounts(t, client)
	moving := "asynq:{" + queues[0] + "}:pending"

	running := a.produce(tasks, queues, open, func(context.Context, redis.UniversalClient, string) error { return nil })
	a.waitForResults(tasks / 4)
	began := time.Now()
	to := cluster.OtherMaster(moving)
	// The slot stays divided for a while: that is what a large one is like.
	moved := cluster.MoveSlot(ctx, moving, to, func(int) { time.Sleep(50 * time.Millisecond) })
	took := time.Since(began)
	running.Wait()
	a.settle(queues)
	t.Logf("a slot of %d keys moved in %v, all done %v after it began", moved, took, time.Since(began))
	if cluster.MasterOf(moving) != to {
		t.Error("the slot has not moved")
	}

	done := len(a.ids)
	var promoted atomic.Bool // no replica is left where the master died, and nobody else dies
	running = a.produce(tasks, queues, open, func(ctx context.Context, client redis.UniversalClient, queue string) error {
		if promoted.Load() {
			return nil
		}
		// On the connection that the task went over: each producer has one to each node.
		master, err := client.(*redis.ClusterClient).MasterForKey(ctx, "asynq:{"+queue+"}:pending")
		if err != nil {
			return err
		}
		n, err := master.Wait(ctx, 1, time.Second).Result()
		if err == nil && n < 1 {
			err = errors.New("no replica has it")
		}
		return err
	})
	a.waitForResults(done + tasks/4)
	dead := cluster.MasterOf(moving)
	dead.Kill()
	killed := time.Now()
	if cluster.MasterOf(moving) == dead {
		t.Fatal("a dead node is master")
	}
	promoted.Store(true)
	t.Logf("a new master after %v", time.Since(killed))
	running.Wait()
	a.settle(queues)
	t.Logf("all done after %v", time.Since(killed))
	wellAgain(t, client, first, queues[0])
	wellAgain(t, client, second, queues[1])
	for _, queue := range queues {
		if n := client.Exists(ctx, "asynq:"+queue+":pending").Val(); n != 0 {
			t.Errorf("there is a plain list of %s on a cluster", queue)
		}
	}
	first.Stop()
	second.Stop()
}

// spread returns names of queues of which each shard has one at least.
func spread(t *testing.T, cluster *redistest.Cluster) []string {
	t.Helper()
	var names []string
	taken := map[*redistest.Server]bool{}
	for i := 0; len(taken) < 3; i++ {
		name := fmt.Sprintf("shard%d", i)
		if owner := cluster.MasterOf("asynq:{" + name + "}:pending"); !taken[owner] {
			taken[owner] = true
			names = append(names, name)
		}
	}
	return append(names, "one_more")
}

func with(set settings, key string, value any) settings {
	out := settings{key: value}
	for k, v := range set {
		if _, ok := out[k]; !ok {
			out[k] = v
		}
	}
	return out
}
