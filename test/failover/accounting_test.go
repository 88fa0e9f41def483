package failover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/test/harness"
)

// accounting follows every task of a test from its enqueue to its result, whatever happens to Redis meanwhile.
type accounting struct {
	t      *testing.T
	client redis.UniversalClient
	file   string // where each run leaves a line
	ids    []string
	sent   atomic.Int64
}

func newAccounting(t *testing.T, client redis.UniversalClient) *accounting {
	t.Helper()
	return &accounting{t: t, client: client, file: filepath.Join(t.TempDir(), "ran")}
}

const producers = 4

// produce enqueues n tasks from several goroutines, queue after queue in turn, and returns when each of them is known
// to be in Redis and on a replica: replication is asynchronous, so what only a master that dies has seen is gone. open
// returns a client of a producer's own with a single connection, and surely waits for a replica on it.
func (a *accounting) produce(n int, queues []string, open func() redis.UniversalClient, surely func(context.Context, redis.UniversalClient, string) error) *sync.WaitGroup {
	a.t.Helper()
	from := len(a.ids)
	for i := range n {
		a.ids = append(a.ids, fmt.Sprintf("task-%d", from+i))
	}
	var running sync.WaitGroup
	ids := a.ids[from:]
	for p := range producers {
		running.Go(func() {
			client := open()
			defer client.Close()
			producer := asynq.NewClientFromRedisClient(client)
			for i := p; i < n; i += producers {
				queue := queues[i%len(queues)]
				if err := a.enqueue(client, producer, queue, ids[i], from+i, surely); err != nil {
					a.t.Errorf("task %s cannot be enqueued: %v", ids[i], err)
					return
				}
				a.sent.Add(1)
			}
		})
	}
	return &running
}

// enqueue tries until it is sure. A task that is there already is one whose answer was lost.
func (a *accounting) enqueue(client redis.UniversalClient, producer *asynq.Client, queue, id string, n int, surely func(context.Context, redis.UniversalClient, string) error) error {
	payload, err := json.Marshal(map[string]any{"file": a.file, "n": n, "seconds": 0.002})
	if err != nil {
		return err
	}
	for began := time.Now(); ; time.Sleep(harness.PollInterval) {
		ctx, cancel := context.WithTimeout(a.t.Context(), 10*time.Second)
		_, err := producer.EnqueueContext(ctx, asynq.NewTask("note", payload), asynq.TaskID(id), asynq.Queue(queue), asynq.MaxRetry(20))
		if errors.Is(err, asynq.ErrTaskIDConflict) {
			err = nil
		}
		if err == nil {
			err = surely(ctx, client, queue)
		}
		cancel()
		if err == nil || time.Since(began) > harness.Timeout {
			return err
		}
	}
}

// waitForResults waits until so many tasks have their result.
func (a *accounting) waitForResults(n int) {
	a.t.Helper()
	harness.Eventually(a.t, fmt.Sprintf("%d tasks are done", n), func() error {
		if done := len(harness.ReadLines(a.t, a.file)); done < n {
			return fmt.Errorf("%d are", done)
		}
		return nil
	})
}

// settle waits until the queues are empty and then checks every single task.
func (a *accounting) settle(queues []string) {
	a.t.Helper()
	ctx := a.t.Context()
	harness.EventuallyWithin(a.t, 2*harness.Timeout, "nothing is left in the queues", func() error {
		for _, queue := range queues {
			prefix := "asynq:{" + queue + "}:"
			for name, read := range map[string]func() ([]string, error){
				"pending":   a.client.LRange(ctx, prefix+"pending", 0, -1).Result,
				"active":    a.client.LRange(ctx, prefix+"active", 0, -1).Result,
				"retry":     a.client.ZRange(ctx, prefix+"retry", 0, -1).Result,
				"scheduled": a.client.ZRange(ctx, prefix+"scheduled", 0, -1).Result,
			} {
				ids, err := read()
				if err != nil {
					return err
				}
				if len(ids) > 0 {
					first := a.client.HGetAll(ctx, prefix+"t:"+ids[0]).Val()
					return fmt.Errorf("%d tasks of %s are %s, the first is %s: %q", len(ids), queue, name, ids[0], first)
				}
			}
			if n := a.client.ZCard(ctx, prefix+"archived").Val(); n > 0 {
				return harness.Fatal("%d tasks of %s are archived", n, queue)
			}
		}
		return nil
	})
	lost, wrong := 0, 0
	for n, id := range a.ids {
		switch got, err := a.client.Get(ctx, "asynq:result:"+id).Result(); {
		case err != nil:
			if lost++; lost == 1 {
				a.t.Logf("the result of %s: %v", id, err)
			}
		case got != strconv.Itoa(n):
			wrong++
		}
	}
	runs := map[string]int{}
	for _, line := range harness.ReadLines(a.t, a.file) {
		id, _, _ := strings.Cut(line, " ")
		runs[id]++
	}
	again := 0
	for _, n := range runs {
		again += n - 1
	}
	a.t.Logf("%d tasks, %d ran, %d runs repeated", len(a.ids), len(runs), again)
	if lost > 0 || wrong > 0 || len(runs) != len(a.ids) {
		a.t.Errorf("%d results are missing, %d wrong, want none; %d of %d tasks ran, want all", lost, wrong, len(runs), len(a.ids))
	}
}

// checkRecovered runs every command that an operator would type at a worker whose Redis has just been through
// something.
func checkRecovered(t *testing.T, client redis.UniversalClient, w *harness.Worker, queue string) {
	t.Helper()
	w.AwaitAnswer("/health", 200, harness.HealthyBody)
	w.AwaitAnswer("/readyz", 200, "")
	if out := w.Command("healthcheck"); out.Code != 0 || !strings.Contains(out.Out, `"broker":"healthy"`) {
		t.Errorf("healthcheck: %+v, want exit code 0 and \"broker\":\"healthy\" on stdout", out)
	}
	out := w.Command("enqueue", queue, "echo", `{"well": "again"}`, "--wait")
	if out.Code != 0 || strings.TrimSpace(out.Out) != `{"well":"again"}` {
		t.Errorf("enqueue --wait: %+v, want exit code 0", out)
	}
	// Its heartbeat may have expired meanwhile. It is tried again once a second.
	harness.Eventually(t, "the worker is alive in the registry", func() error {
		if out := w.Command("workers"); out.Code != 0 || !strings.Contains(out.Out, w.ID) {
			return fmt.Errorf("workers: %+v", out)
		}
		hash, err := client.HGetAll(t.Context(), "asynq:workers:"+w.ID).Result()
		if err != nil || hash["status"] != "running" || hash["healthy"] != "true" {
			return fmt.Errorf("the heartbeat is %q: %w", hash, err)
		}
		return nil
	})
	before := client.HGet(t.Context(), "asynq:workers:"+w.ID, "python_pid").Val()
	// It may still listen to a former master, until the sentinels have reconfigured that one.
	harness.Eventually(t, "the worker takes a restart", func() error {
		switch out := w.Command("restart", w.ID); {
		case out.Code == 0:
			return nil
		case strings.Contains(out.ErrOut, "nobody listens"):
			return errors.New(out.ErrOut)
		default:
			return harness.Fatal("%+v", out)
		}
	})
	if after := client.HGet(t.Context(), "asynq:workers:"+w.ID, "python_pid").Val(); after == before {
		t.Errorf("python_pid is still %q after a restart, want another", before)
	}
}
