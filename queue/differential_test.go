package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// near is how far apart two times in two keyspaces may be.
const near = 15 * time.Second

// keyspace is what stands in a database: values as text, times apart.
type keyspace struct {
	values map[string]string
	times  map[string]time.Time // by key, or key and member or field
}

// readKeyspace reads a database. It leaves out what ours may add, and what says which servers there are.
func readKeyspace(t *testing.T, client *redis.Client) keyspace {
	t.Helper()
	ctx := t.Context()
	k := keyspace{values: make(map[string]string), times: make(map[string]time.Time)}
	keys, err := client.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if strings.HasPrefix(key, "runqy:") || strings.HasPrefix(key, "asynq:result:") || strings.HasPrefix(key, "asynq:t:") ||
			strings.HasPrefix(key, "asynq:servers") || strings.HasPrefix(key, "asynq:workers") {
			continue
		}
		if ttl := client.PTTL(ctx, key).Val(); ttl > 0 {
			k.times[key+" ttl"] = time.Now().Add(ttl)
		}
		switch kind := client.Type(ctx, key).Val(); kind {
		case "hash":
			k.readHash(t, key, client.HGetAll(ctx, key).Val())
		case "list":
			k.values[key] = fmt.Sprint("list", client.LRange(ctx, key, 0, -1).Val())
		case "set":
			members := client.SMembers(ctx, key).Val()
			sort.Strings(members)
			k.values[key] = fmt.Sprint("set", members)
		case "zset":
			for _, z := range client.ZRangeWithScores(ctx, key, 0, -1).Val() {
				k.values[key] += fmt.Sprint(" zset ", z.Member)
				k.times[key+" "+z.Member.(string)] = time.Unix(int64(z.Score), 0)
			}
		default:
			k.values[key] = kind + client.Get(ctx, key).Val()
		}
	}
	return k
}

// readHash reads a task's hash. A cleared field of ours may stand there, as may the counts.
func (k keyspace) readHash(t *testing.T, key string, fields map[string]string) {
	t.Helper()
	for name, value := range fields {
		at := key + " " + name
		switch name {
		case "owner", "since", "crashes", "suspicions", "recoveries", "postponed", "assigned_to":
		case "msg":
			m, err := decodeAsAsynq(t, []byte(value))
			if err != nil {
				t.Fatal(err)
			}
			for _, field := range []string{"last_failed_at", "completed_at"} {
				if d := m.Descriptor().Fields().ByName(protoreflect.Name(field)); m.Get(d).Int() != 0 {
					k.times[at+" "+field] = time.Unix(m.Get(d).Int(), 0)
					m.Clear(d)
				}
			}
			// Its spaces are random on purpose.
			k.values[at] = strings.Join(strings.Fields(prototext.Format(m.Interface())), " ")
		case "pending_since":
			ns, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			k.times[at] = time.Unix(0, ns)
		default:
			k.values[at] = value
		}
	}
}

// wantSame compares two keyspaces: values to the letter, times within near.
func wantSame(t *testing.T, ours, theirs keyspace) {
	t.Helper()
	for key, value := range theirs.values {
		if ours.values[key] != value {
			t.Errorf("%s is %q, asynq's %q", key, ours.values[key], value)
		}
	}
	for key, value := range ours.values {
		if _, ok := theirs.values[key]; !ok {
			t.Errorf("%s is %q, asynq has none", key, value)
		}
	}
	for key, at := range theirs.times {
		mine, ok := ours.times[key]
		if d := mine.Sub(at); !ok || d < -near || d > near {
			t.Errorf("%s is %v, asynq's %v", key, mine, at)
		}
	}
	for key, at := range ours.times {
		if _, ok := theirs.times[key]; !ok {
			t.Errorf("%s is %v, asynq has none", key, at)
		}
	}
}

var errOfHandler = errors.New("it failed")

// transition is one way in which a task ends.
type transition struct {
	name    string
	opts    []asynq.Option
	prepare func(t *testing.T, client *redis.Client)
	err     error // of the handler
	end     ending
}

func transitions() []transition {
	retained, unique := asynq.Retention(time.Hour), asynq.Unique(time.Hour)
	lockOfAnother := func(t *testing.T, client *redis.Client) {
		for _, key := range client.Keys(t.Context(), "asynq:{q}:unique:*").Val() {
			client.Set(t.Context(), key, "another", time.Hour)
		}
	}
	total := func(n uint64) func(*testing.T, *redis.Client) {
		return func(t *testing.T, client *redis.Client) {
			client.Set(t.Context(), "asynq:{q}:processed", n, 0)
			client.Set(t.Context(), "asynq:{q}:failed", 77, 0)
		}
	}
	failedBefore := func(t *testing.T, client *redis.Client) {
		raw := client.HGet(t.Context(), taskKey("q", "t1"), "msg").Val()
		m, err := decodeMessage([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		m.Retried = 2
		client.HSet(t.Context(), taskKey("q", "t1"), "msg", appendNow(m.failed([]byte(raw), "an error before", true), fieldLastFailedAt, 1e9))
	}
	began := time.Now() // the same for both
	fullArchive := func(t *testing.T, client *redis.Client) {
		pipe := client.Pipeline()
		for i := range 10_050 {
			score := float64(began.Add(-time.Hour).Unix() + int64(i%100))
			if i < 20 {
				score = float64(began.AddDate(0, 0, -100).Unix())
			}
			id := fmt.Sprintf("old%d", i)
			pipe.ZAdd(t.Context(), archivedKey("q"), redis.Z{Score: score, Member: id})
			pipe.HSet(t.Context(), taskKey("q", id), "state", "archived")
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return []transition{
		{name: "done"},
		{name: "done unique", opts: []asynq.Option{unique}},
		{name: "done with the lock of another", opts: []asynq.Option{unique}, prepare: lockOfAnother},
		{name: "done after a failure", prepare: failedBefore},
		{name: "done at the highest total", prepare: total(math.MaxInt64)},
		{name: "done below the highest total", prepare: total(math.MaxInt64 - 2000)},
		{name: "complete", opts: []asynq.Option{retained}},
		{name: "complete unique", opts: []asynq.Option{retained, unique}},
		{name: "complete after a failure", opts: []asynq.Option{retained}, prepare: failedBefore},
		{name: "retry", err: errOfHandler, end: endRetry},
		{name: "retry unique", opts: []asynq.Option{unique}, err: errOfHandler, end: endRetry},
		{name: "retry after a failure", prepare: failedBefore, err: errOfHandler, end: endRetry},
		{name: "retry with limits", opts: []asynq.Option{
			asynq.Timeout(time.Hour), asynq.Deadline(time.Now().Add(time.Hour)), retained, asynq.MaxRetry(3),
		}, err: errOfHandler, end: endRetry},
		{name: "retry at the highest total", prepare: total(math.MaxInt64), err: errOfHandler, end: endRetry},
		{name: "archive: no retries left", opts: []asynq.Option{asynq.MaxRetry(0)}, err: errOfHandler, end: endArchive},
		{
			name: "archive: none left after failures", opts: []asynq.Option{asynq.MaxRetry(3), unique}, prepare: failedBefore,
			err: errOfHandler, end: endArchive,
		},
		{name: "archive: at once", err: fmt.Errorf("%w", asynq.SkipRetry), end: endArchive},
		{name: "archive: a full one", err: fmt.Errorf("%w", asynq.SkipRetry), prepare: fullArchive, end: endArchive},
		{name: "archive at the highest total", prepare: total(math.MaxInt64), err: asynq.SkipRetry, end: endArchive},
	}
}

// Each transition is performed by a server of asynq's and by a cycle, on equal states, and leaves equal keyspaces.
func TestTransitionsAreThoseOfAsynq(t *testing.T) {
	server := redistest.Start(t)
	other := redis.NewClient(&redis.Options{Addr: server.Addr, DB: 1})
	defer func() { _ = other.Close() }()
	for _, tr := range transitions() {
		t.Run(tr.name, func(t *testing.T) {
			server.Client.FlushAll(t.Context())
			ours, theirs := newCycleBench(t, server.Client), newCycleBench(t, other)
			for _, b := range []*cycleBench{ours, theirs} {
				task := asynq.NewTaskWithHeaders("type-é", []byte{0, 1, 255}, map[string]string{"trace": "abc"})
				if _, err := b.asynq.Enqueue(task, append(tr.opts, asynq.Queue("q"), asynq.TaskID("t1"))...); err != nil {
					t.Fatal(err)
				}
				if tr.prepare != nil {
					tr.prepare(t, b.redis)
				}
			}
			called := make(chan struct{})
			runAsynq(t, theirs, func(_ context.Context, task *asynq.Task) error {
				defer close(called)
				if tr.err != nil {
					return tr.err
				}
				_, err := task.ResultWriter().Write([]byte(`"it"`))
				return err
			}, nil, func() bool { return isDone(called) })

			taken := ours.cycle(cycleRequest{take: 1}).taken[0]
			it := ours.item(taken, tr.end)
			it.result, it.delay = []byte(`"it"`), time.Minute
			if m, err := decodeMessage(taken.message); err != nil {
				t.Fatal(err)
			} else if tr.err != nil {
				it.message = m.failed(taken.message, tr.err.Error(), tr.end == endRetry)
			}
			reply := ours.cycle(cycleRequest{items: []item{it}})
			if !reflect.DeepEqual(reply.statuses, []itemStatus{applied}) || reply.warning != "" {
				t.Fatalf("%+v", reply)
			}
			wantSame(t, readKeyspace(t, ours.redis), readKeyspace(t, theirs.redis))
		})
	}
}

// A take leaves what asynq's dequeue leaves, and what did not run goes back as by asynq's requeue, but with its age.
func TestDequeueAndRequeueAreThoseOfAsynq(t *testing.T) {
	server := redistest.Start(t)
	other := redis.NewClient(&redis.Options{Addr: server.Addr, DB: 1})
	defer func() { _ = other.Close() }()
	ours, theirs := newCycleBench(t, server.Client), newCycleBench(t, other)
	for _, b := range []*cycleBench{ours, theirs} {
		b.enqueue(3, asynq.Unique(time.Hour))
	}
	called, release := make(chan struct{}), make(chan struct{})
	asynqServer := asynq.NewServerFromRedisClient(theirs.redis, asynq.Config{
		Concurrency: 1, Queues: map[string]int{"q": 1}, LogLevel: asynq.FatalLevel, ShutdownTimeout: time.Millisecond,
		TaskCheckInterval: 5 * time.Millisecond, DelayedTaskCheckInterval: time.Hour,
	})
	if err := asynqServer.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		close(called)
		<-release
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	<-called
	taken := ours.cycle(cycleRequest{take: 1}).taken
	wantSame(t, readKeyspace(t, ours.redis), readKeyspace(t, theirs.redis))

	asynqServer.Shutdown()
	close(release)
	reply := ours.cycle(cycleRequest{items: []item{ours.item(taken[0], endReturn)}})
	wantEqual(t, "statuses", reply.statuses, []itemStatus{applied})
	since := ours.do("HGET", taskKey("q", "t1"), "pending_since").Val()
	wantEqual(t, "pending since", since, any(taken[0].since))
	ours.do("HDEL", taskKey("q", "t1"), "pending_since")
	wantSame(t, readKeyspace(t, ours.redis), readKeyspace(t, theirs.redis))
}
