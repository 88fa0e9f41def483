package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/queue"
)

// waiting puts tasks into the pending list as a producer does, a minute ago by the clock of Redis; the first one is the
// oldest.
func waiting(t *testing.T, client *redis.Client, ids ...string) {
	t.Helper()
	now, err := client.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	pipe := client.Pipeline()
	for _, id := range ids {
		pipe.HSet(t.Context(), key("t:"+id), "msg", "m", "state", "pending", "pending_since", now.Add(-time.Minute).UnixNano())
		pipe.LPush(t.Context(), key("pending"), id)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// readDepth reads the test's queue anew.
func readDepth(t *testing.T, client redis.UniversalClient) status.Depth {
	t.Helper()
	all, err := queue.NewDepths(client, []string{testQueue}, 0).Read(t.Context())
	if err != nil || all[testQueue].Err != nil {
		t.Fatalf("depths %+v, %v", all, err)
	}
	return all[testQueue]
}

// takeLua is what a dequeue does to the oldest task.
const takeLua = `
local id = redis.call("RPOPLPUSH", KEYS[1], KEYS[2])
if id then
  redis.call("HDEL", ARGV[1] .. id, "pending_since")
  redis.call("LREM", KEYS[2], 1, id)
  redis.call("DEL", ARGV[1] .. id)
end
return id`

// The oldest task may be taken at any moment, also between two commands of a reader.
func TestTheOldestAgeIsTrueWhileTasksAreTaken(t *testing.T) {
	server := redistest.Start(t)
	ids := make([]string, 30_000)
	for i := range ids {
		ids[i] = strconv.Itoa(i)
	}
	waiting(t, server.Client, ids...)
	var takers sync.WaitGroup
	take := redis.NewScript(takeLua)
	for range 4 {
		takers.Go(func() {
			for t.Context().Err() == nil {
				err := take.Run(t.Context(), server.Client, []string{key("pending"), key("active")}, key("t:")).Err()
				if errors.Is(err, redis.Nil) {
					return
				}
				if err != nil {
					t.Errorf("take a task: %v", err)
					return
				}
			}
		})
	}
	reads, wrong := 0, 0
	var last status.Depth
	for {
		d := readDepth(t, server.Client)
		if d.Pending == 0 {
			if d.Latency != 0 {
				t.Errorf("the age in an empty queue is %v, want 0", d.Latency)
			}
			break
		}
		reads++
		if d.Latency < time.Minute || d.Latency > time.Hour {
			wrong, last = wrong+1, d
		}
	}
	takers.Wait()
	if wrong > 0 || reads < 10 {
		t.Errorf("%d of %d readings have a wrong age, the last one %+v; want at least a minute in each", wrong, reads, last)
	}
}

// An id whose task is gone has no age; the next one has.
func TestTheOldestAgeLooksPastIDsWithoutATask(t *testing.T) {
	server := redistest.Start(t)
	ctx := t.Context()
	ghosts := func(n int) {
		for i := range n {
			server.Client.RPush(ctx, key("pending"), fmt.Sprint("ghost", i))
		}
	}
	waiting(t, server.Client, "a")
	ghosts(9)
	if d := readDepth(t, server.Client); d.Pending != 10 || d.Latency < time.Minute {
		t.Errorf("behind nine ids without a task: %+v, want the age of the tenth", d)
	}
	ghosts(1)
	if d := readDepth(t, server.Client); d.Pending != 11 || d.Latency >= 0 {
		t.Errorf("behind ten ids without a task: %+v, want an age that is not known", d)
	}
	server.Client.Del(ctx, key("pending"))
	if d := readDepth(t, server.Client); d != (status.Depth{}) {
		t.Errorf("an empty queue reads %+v, want zeros", d)
	}
}

// Tasks that wait for one named worker wait too, and the oldest may be one of them.
func TestTheOldestAgeCountsAssignedTasks(t *testing.T) {
	server := redistest.Start(t)
	ctx := t.Context()
	waiting(t, server.Client, "direct")
	server.Client.LMove(ctx, key("pending"), fmt.Sprintf("runqy:{%s}:direct:worker-1", testQueue), "RIGHT", "LEFT")
	server.Client.SAdd(ctx, fmt.Sprintf("runqy:{%s}:directs", testQueue), "worker-1", "worker-2")
	if d := readDepth(t, server.Client); d.Pending != 1 || d.Latency < time.Minute {
		t.Errorf("depth %+v, want one pending for a minute", d)
	}
	waiting(t, server.Client, "shared")
	server.Client.HSet(ctx, key("t:shared"), "pending_since", time.Now().Add(-time.Hour).UnixNano())
	if d := readDepth(t, server.Client); d.Pending != 2 || d.Latency < 59*time.Minute {
		t.Errorf("depth %+v, want two pending, one of them for an hour", d)
	}
	// The clock of a producer that is ahead of Redis'.
	server.Client.Del(ctx, key("t:direct"))
	server.Client.HSet(ctx, key("t:shared"), "pending_since", time.Now().Add(time.Hour).UnixNano())
	if d := readDepth(t, server.Client); d.Pending != 2 || d.Latency != 0 {
		t.Errorf("depth %+v, want two pending and an age of 0", d)
	}
}

func TestDepthsOnACluster(t *testing.T) {
	target, err := redisclient.Parse(redistest.StartCluster(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	client := target.Open()
	defer client.Close()
	names := []string{testQueue, "other", "low"}
	all, err := queue.NewDepths(client, names, 0).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if all[name] != (status.Depth{}) {
			t.Errorf("queue %s, which nobody has used, reads %+v", name, all[name])
		}
	}
}

// What is due and what is in groups is told too: both wait for a server that moves them on.
func TestDepthsOfWhatIsDueAndOfGroups(t *testing.T) {
	server := redistest.Start(t)
	client := asynq.NewClientFromRedisClient(server.Client)
	embedded := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	defer embedded.Close()
	for i, group := range []string{"a", "a", "b"} {
		if _, err := client.Enqueue(asynq.NewTask("t", nil), asynq.Queue(testQueue), asynq.Group(group), asynq.TaskID(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]*redis.Client{"redis": server.Client, "embedded": embedded} {
		if name == "embedded" {
			c.SAdd(t.Context(), key("groups"), "a", "b")
			c.ZAdd(t.Context(), key("g:a"), redis.Z{Member: "0"}, redis.Z{Member: "1"})
			c.ZAdd(t.Context(), key("g:b"), redis.Z{Member: "2"})
		}
		now := float64(time.Now().Unix())
		c.ZAdd(t.Context(), key("scheduled"), redis.Z{Member: "x", Score: now - 60}, redis.Z{Member: "y", Score: now + 3600})
		c.ZAdd(t.Context(), key("retry"), redis.Z{Member: "z", Score: now - 60})
		want := status.Depth{Scheduled: 2, Retry: 1, Due: 2, Groups: 2, Aggregating: 3}
		if d := readDepth(t, c); d != want {
			t.Errorf("on %s the depth is %+v, want %+v", name, d, want)
		}
	}
}

// The server forgets its scripts, and the embedded one runs them too.
func TestDepthsOnEveryServer(t *testing.T) {
	server := redistest.Start(t)
	embedded := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	defer embedded.Close()
	for name, client := range map[string]*redis.Client{"redis": server.Client, "embedded": embedded} {
		waiting(t, client, "a")
		for range 2 {
			if d := readDepth(t, client); d.Pending != 1 || d.Latency < 59*time.Second {
				t.Errorf("on %s the depth is %+v, want 1 pending for a minute", name, d)
			}
			if err := client.ScriptFlush(context.Background()).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
