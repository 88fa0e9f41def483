package client

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// Calls at the same time do not mix: each list of tasks has its own outcomes, and each list of workers is complete.
func TestConcurrentUse(t *testing.T) {
	rdb := redistest.Start(t).Client
	c := newTestClient(t, rdb)
	const callers, tasks, workers = 8, 600, 20
	for i := range workers {
		id := fmt.Sprintf("w%d", i)
		expiry := time.Now().Add(time.Minute)
		rdb.ZAdd(t.Context(), "runqy:workers", redis.Z{Score: float64(expiry.Unix()), Member: id})
		rdb.HSet(t.Context(), "asynq:workers:"+id, "healthy", "true", "status", "running", "state", "FREE", "queue", "q")
		if err := rdb.ExpireAt(t.Context(), "asynq:workers:"+id, expiry).Err(); err != nil {
			t.Fatalf("write the heartbeat of %s: %v", id, err)
		}
	}
	var group sync.WaitGroup
	for n := range callers {
		group.Go(func() {
			list := manyTasks(tasks)
			for i := range list {
				list[i].ID = fmt.Sprintf("%d-%d", n, i)
			}
			outcomes, err := c.EnqueueMany(t.Context(), list)
			if err != nil {
				t.Errorf("enqueue: %v", err)
			}
			for i, o := range outcomes {
				if o.Err != nil || o.Info.ID != list[i].ID {
					t.Errorf("outcome %d of caller %d: %+v", i, n, o)
				}
			}
		})
		group.Go(func() {
			got, err := c.Workers(t.Context())
			if err != nil || len(got) != workers {
				t.Errorf("%d workers, want %d; error %v", len(got), workers, err)
			}
			for _, w := range got {
				if w.State != Free || !w.Serves("q") {
					t.Errorf("a free worker is listed as %+v", w)
				}
			}
		})
	}
	group.Wait()
	if n := rdb.LLen(t.Context(), "asynq:{q}:pending").Val(); n != callers*tasks {
		t.Errorf("%d tasks are pending, want %d", n, callers*tasks)
	}
}
