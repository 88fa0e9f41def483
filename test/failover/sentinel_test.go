package failover

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// The master dies in the middle of the work, its replica takes over: every task that had reached a replica runs, and
// none is left in active.
func TestSentinelFailsOver(t *testing.T) {
	t.Parallel()
	const tasks = 2000
	s := redistest.StartSentinels(t, 2)
	first := harness.StartWorker(t, s.URL, harness.Settings{"worker.id": "first", "worker.concurrency": 8})
	second := harness.StartWorker(t, s.URL, harness.Settings{"worker.id": "second", "worker.concurrency": 8})
	q := harness.NewQueue(t, s.Client)
	q.PythonPID(first.ID)
	q.PythonPID(second.ID)

	a := newAccounting(t, s.Client)
	addrs := make([]string, len(s.Sentinels))
	for i, sentinel := range s.Sentinels {
		addrs[i] = sentinel.Addr
	}
	running := a.produce(tasks, []string{harness.QueueName}, func() redis.UniversalClient {
		return redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "mymaster", SentinelAddrs: addrs, PoolSize: 1, MaxRetries: -1})
	}, func(ctx context.Context, client redis.UniversalClient, _ string) error {
		n, err := client.(*redis.Client).Wait(ctx, 1, 5*time.Second).Result()
		if err == nil && n < 1 {
			err = errors.New("no replica has it")
		}
		return err
	})
	a.waitForResults(tasks / 4)
	dead := s.Master()
	dead.Kill()
	done := len(harness.ReadLines(t, a.file))
	killed := time.Now()
	sent := a.sent.Load()
	harness.Eventually(t, "another server is master", func() error {
		if s.Master() == dead {
			return errors.New("not yet")
		}
		return nil
	})
	t.Logf("%d of %d tasks were enqueued when the master died, a new master after %v", sent, tasks, time.Since(killed))
	a.waitForResults(done + 1)
	t.Logf("work goes on after %v", time.Since(killed))
	running.Wait()
	a.settle([]string{harness.QueueName})
	t.Logf("all done after %v", time.Since(killed))
	checkRecovered(t, s.Client, first, harness.QueueName)
	checkRecovered(t, s.Client, second, harness.QueueName)
	if n := s.Client.Exists(t.Context(), fmt.Sprintf("asynq:workers:%s", first.ID)).Val(); n != 1 {
		t.Errorf("%d heartbeats of %s, want 1", n, first.ID)
	}
	first.Stop()
	second.Stop()
}
