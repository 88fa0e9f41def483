package failover

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
	"github.com/runqy/runqy-worker/test/harness"
)

// A Redis Cluster of six nodes under load: queues of several hash tags lie on different shards, the slot of one moves
// to another master while its tasks run, then its master dies. Every task is accounted for.
func TestClusterMovesAndFailsOver(t *testing.T) {
	t.Parallel()
	const tasks = 1200 // in each half
	cluster := redistest.StartShards(t, 3)
	queues := spread(t, cluster)
	set := harness.Settings{"worker.queues": queues, "worker.concurrency": 8}
	first := harness.StartWorker(t, cluster.URL, set.With("worker.id", "first"))
	second := harness.StartWorker(t, cluster.URL, set.With("worker.id", "second"))
	for _, w := range []*harness.Worker{first, second} {
		w.AwaitAnswer("/health", 200, harness.HealthyBody)
		if w.Log.Find("list views unavailable") == nil {
			t.Error("no log line about Redis Cluster, want one about the missing views")
		}
	}
	ctx := t.Context()
	target, err := redisclient.Parse(cluster.URL)
	if err != nil {
		t.Fatalf("parse %s: %v", cluster.URL, err)
	}
	open := func() redis.UniversalClient {
		return target.Open(func(o *redis.UniversalOptions) { o.PoolSize = 1 })
	}
	client := target.Open()
	defer client.Close()
	a := newAccounting(t, client)
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
		t.Errorf("the slot is at %s, want %s", cluster.MasterOf(moving).Addr, to.Addr)
	}

	done := len(a.ids)
	var promoted atomic.Bool // no replica is left where the master died, and no other dies
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
		t.Fatalf("the dead node %s is still the master, want its replica", dead.Addr)
	}
	promoted.Store(true)
	t.Logf("a new master after %v", time.Since(killed))
	running.Wait()
	a.settle(queues)
	t.Logf("all done after %v", time.Since(killed))
	checkRecovered(t, client, first, queues[0])
	checkRecovered(t, client, second, queues[1])
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
