package queue

import (
	"fmt"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// cycleBench is one queue on one Redis, and the cycles of one worker process.
type cycleBench struct {
	*cycles
	t      *testing.T
	redis  *redis.Client
	asynq  *asynq.Client
	number uint64
}

func newCycleBench(t *testing.T, client *redis.Client) *cycleBench {
	t.Helper()
	return &cycleBench{
		t: t, redis: client, asynq: asynq.NewClientFromRedisClient(client),
		cycles: &cycles{
			client: client, scripts: newScripts(), queue: "q", worker: "w", nonce: "n1", resultTTL: time.Hour, views: true,
		},
	}
}

// onBoth runs a test on a real Redis and on the one that is embedded.
func onBoth(t *testing.T, test func(t *testing.T, b *cycleBench)) {
	t.Run("redis", func(t *testing.T) { test(t, newCycleBench(t, redistest.Start(t).Client)) })
	t.Run("miniredis", func(t *testing.T) {
		client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
		defer func() { _ = client.Close() }()
		test(t, newCycleBench(t, client))
	})
}

// cycle runs a request under the next number.
func (b *cycleBench) cycle(r cycleRequest) cycleReply {
	b.t.Helper()
	b.number++
	r.number = b.number
	reply, err := b.run(b.t.Context(), r)
	if err != nil {
		b.t.Fatal(err)
	}
	return reply
}

// enqueue enqueues tasks t1, t2, … with a client of asynq's.
func (b *cycleBench) enqueue(n int, opts ...asynq.Option) {
	b.t.Helper()
	for i := 1; i <= n; i++ {
		task := asynq.NewTask("echo", []byte(strconv.Itoa(i)))
		id := fmt.Sprintf("t%d", i)
		if _, err := b.asynq.Enqueue(task, append([]asynq.Option{asynq.Queue("q"), asynq.TaskID(id)}, opts...)...); err != nil {
			b.t.Fatal(err)
		}
	}
}

// item is the end of a task that was taken, its message as the engine would write it.
func (b *cycleBench) item(task takenTask, end ending) item {
	b.t.Helper()
	m, err := decodeMessage(task.message)
	if err != nil {
		b.t.Fatal(err)
	}
	it := item{
		id: task.id, owner: task.owner, end: end, retention: m.Retention,
		crashes: -1, suspicions: -1, recoveries: -1, postponed: -1,
	}
	switch end {
	case endDone:
		it.message = completedMessage(task.message)
	case endRetry, endArchive:
		it.message = m.failed(task.message, "it failed", end == endRetry)
	}
	return it
}

func (b *cycleBench) do(args ...any) *redis.Cmd {
	b.t.Helper()
	cmd := b.redis.Do(b.t.Context(), args...)
	if err := cmd.Err(); err != nil && err != redis.Nil {
		b.t.Fatalf("%v: %v", args, err)
	}
	return cmd
}

// list reads a list from its head, which is on the left.
func (b *cycleBench) list(key string) []string {
	b.t.Helper()
	ids, err := b.redis.LRange(b.t.Context(), key, 0, -1).Result()
	if err != nil {
		b.t.Fatal(err)
	}
	return ids
}

func takenIDs(tasks []takenTask) []string {
	ids := []string{}
	for _, t := range tasks {
		ids = append(ids, t.id)
	}
	return ids
}

func wantEqual(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestCycleTakesAndEnds(t *testing.T) {
	onBoth(t, func(t *testing.T, b *cycleBench) {
		b.enqueue(5)
		reply := b.cycle(cycleRequest{take: 4})
		wantEqual(t, "taken", takenIDs(reply.taken), []string{"t1", "t2", "t3", "t4"})
		wantEqual(t, "owner", reply.taken[2].owner, "w|n1|1.3")
		wantEqual(t, "more", reply.more, true)
		if since := unixNano(reply.taken[0].since); time.Since(since) > time.Minute || time.Since(reply.now).Abs() > time.Minute {
			t.Errorf("pending since %v, now %v", since, reply.now)
		}
		done, retry, archive := b.item(reply.taken[0], endDone), b.item(reply.taken[1], endRetry), b.item(reply.taken[2], endArchive)
		done.result, done.view = []byte(`{"a":1}`), []string{"state", "completed"}
		retry.delay, retry.crashes = 1500*time.Millisecond, 2
		back := b.item(reply.taken[3], endReturn)
		reply = b.cycle(cycleRequest{items: []item{done, retry, archive, back}, take: 1})
		wantEqual(t, "statuses", reply.statuses, []itemStatus{applied, applied, applied, applied})
		wantEqual(t, "taken", takenIDs(reply.taken), []string{"t4"})
		wantEqual(t, "lists", [][]string{b.list(pendingKey("q")), b.list(activeKey("q"))}, [][]string{{"t5"}, {"t4"}})
		wantEqual(t, "result", b.redis.Get(t.Context(), ResultKey("t1")).Val(), `{"a":1}`)
		wantEqual(t, "view", b.redis.HGetAll(t.Context(), ViewKey("t1")).Val(), map[string]string{"state": "completed"})
		wantEqual(t, "crashes", b.redis.HGet(t.Context(), taskKey("q", "t2"), "crashes").Val(), "2")
		wantEqual(t, "leases", b.redis.ZRange(t.Context(), leaseKey("q"), 0, -1).Val(), []string{"t4"})
		due := b.redis.ZScore(t.Context(), retryKey("q"), "t2").Val()
		if d := time.Until(time.Unix(int64(due), 0)); d < 0 || d > 3*time.Second {
			t.Errorf("due in %v", d)
		}
	})
}
