package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/redistest"
)

// cycleBench is one queue on one Redis, and the cycles of one worker process.
type cycleBench struct {
	*cycles
	t      *testing.T
	redis  *redis.Client
	asynq  *asynq.Client
	number uint64
	open   func() redis.UniversalClient // a client that sends nothing twice
}

func newCycleBench(t *testing.T, client *redis.Client) *cycleBench {
	t.Helper()
	return &cycleBench{
		t: t, redis: client, asynq: asynq.NewClientFromRedisClient(client),
		cycles: &cycles{
			client: client, scripts: newScripts(), queue: "q", worker: "w", nonce: "n1", resultTTL: time.Hour, views: true, checksums: newDumpChecksums(),
		},
	}
}

// onBoth runs a test on a real Redis and on the one that is embedded.
func onBoth(t *testing.T, test func(t *testing.T, b *cycleBench)) {
	t.Run("redis", func(t *testing.T) {
		server := redistest.Start(t)
		test(t, connected(t, server.URL, server.Client))
	})
	t.Run("miniredis", func(t *testing.T) {
		addr := miniredis.RunT(t).Addr()
		client := redis.NewClient(&redis.Options{Addr: addr})
		defer func() { _ = client.Close() }()
		test(t, connected(t, "redis://"+addr+"?read_timeout=60s", client)) // under -race it is slow
	})
}

// onEach runs a test on a Redis Cluster too, where results and views take another way.
func onEach(t *testing.T, test func(t *testing.T, b *cycleBench)) {
	onBoth(t, test)
	t.Run("cluster", func(t *testing.T) {
		server := redistest.StartCluster(t)
		b := connected(t, server.URL, server.Client)
		b.cluster = true
		test(t, b)
	})
}

// connected is a bench whose cycles have a client of their own, as a worker's have.
func connected(t *testing.T, url string, client *redis.Client) *cycleBench {
	t.Helper()
	target, err := redisclient.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	b := newCycleBench(t, client)
	b.open = func() redis.UniversalClient {
		c := target.Open(NoRetry)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	b.client = b.open()
	return b
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
		id: task.id, owner: task.owner, end: end, retention: m.Retention, uniqueKey: m.UniqueKey,
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
	if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
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
	onEach(t, func(t *testing.T, b *cycleBench) {
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

// loseAnswers makes a client lose the answers of a script: Redis has run it, and the caller gets an error.
type loseAnswers struct {
	redis.Hook
	script string // its hash
	lose   func() bool
}

func (h loseAnswers) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h loseAnswers) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h loseAnswers) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err == nil && cmd.Name() == "evalsha" && cmd.Args()[1] == h.script && h.lose() {
			cmd.SetErr(io.EOF)
			return io.EOF
		}
		return err
	}
}

// The answer of every cycle is lost, twice in a row: each task is taken once and ended once.
func TestCycleWithLostAnswers(t *testing.T) {
	onEach(t, func(t *testing.T, b *cycleBench) {
		calls := 0
		lossy := b.open()
		lossy.AddHook(loseAnswers{script: b.scripts.cycle.Hash(), lose: func() bool { calls++; return calls%3 != 0 }})
		b.client = lossy
		const tasks = 50
		b.enqueue(tasks)
		b.do("LPUSH", pendingKey("q"), "ghost")
		seen := make(map[string]int)
		lost := []string{}
		var items []item
		for range 2*tasks + 2 {
			b.number++
			request := cycleRequest{number: b.number, items: items, take: 7}
			var reply cycleReply
			var err error
			for range 3 {
				if reply, err = b.run(t.Context(), request); err == nil {
					break
				}
				if isReply(err) {
					t.Fatal(err)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			for i, s := range reply.statuses {
				if s != applied {
					t.Errorf("item %d of cycle %d: status %d", i, b.number, s)
				}
			}
			lost = append(lost, reply.lost...)
			items = nil
			for _, task := range reply.taken {
				seen[task.id]++
				end := endDone
				if seen[task.id] == 1 && len(seen)%5 == 0 {
					end = endReturn
				}
				it := b.item(task, end)
				it.result, it.view = []byte(strconv.Quote(task.id)), []string{"state", "ended"}
				items = append(items, it)
			}
			if len(items) == 0 {
				break
			}
		}
		returned := 0
		for id, n := range seen {
			wantEqual(t, "result", b.redis.Get(t.Context(), ResultKey(id)).Val(), strconv.Quote(id))
			if n == 2 {
				returned++
			} else if n != 1 {
				t.Errorf("task %s was taken %d times", id, n)
			}
		}
		wantEqual(t, "tasks, taken again after their return", []int{len(seen), returned}, []int{tasks, tasks / 5})
		wantEqual(t, "lost", lost, []string{"ghost"})
		wantEqual(t, "left", len(b.list(activeKey("q")))+len(b.list(pendingKey("q"))), 0)
		wantEqual(t, "processed", b.redis.Get(t.Context(), keyPrefix("q")+"processed").Val(), strconv.Itoa(tasks))
		wantEqual(t, "leases", b.redis.ZCard(t.Context(), leaseKey("q")).Val(), int64(0))
	})
}

// The answer to a repeated request leaves out what this process has lost meanwhile.
func TestCycleRepeatedAfterARecovery(t *testing.T) {
	b := newCycleBench(t, redistest.Start(t).Client)
	b.enqueue(3)
	request := cycleRequest{number: 5, take: 3}
	if _, err := b.run(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	b.do("HSET", taskKey("q", "t1"), "owner", "another|n|1.1")
	b.do("HSET", taskKey("q", "t3"), "crashes", 2)
	reply, err := b.run(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "taken", takenIDs(reply.taken), []string{"t2", "t3"})
	wantEqual(t, "owner", reply.taken[1].owner, "w|n1|5.3")
	wantEqual(t, "crashes", reply.taken[1].crashes, 2)
}

func TestCycleThatComesLate(t *testing.T) {
	onBoth(t, func(t *testing.T, b *cycleBench) {
		b.enqueue(3)
		b.number = 7
		taken := b.cycle(cycleRequest{take: 1}).taken // number 8
		late := cycleRequest{number: 7, items: []item{b.item(taken[0], endDone)}, take: 1}
		_, err := b.run(t.Context(), late)
		if !errors.Is(err, errStale) || !isReply(err) {
			t.Errorf("a late cycle: %v", err)
		}
		wantEqual(t, "active", b.list(activeKey("q")), []string{"t1"})

		// Another process begins anew.
		b.nonce = "n2"
		reply, err := b.run(t.Context(), cycleRequest{number: 1, take: 1})
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "taken", takenIDs(reply.taken), []string{"t2"})
		wantEqual(t, "owner", reply.taken[0].owner, "w|n2|1.1")
		if ttl := b.redis.TTL(t.Context(), cycleKey("q", "w")).Val(); ttl <= 0 || ttl > time.Hour {
			t.Errorf("the record lives %v", ttl)
		}
	})
}

func TestCycleFencesWhatIsNotItsOwn(t *testing.T) {
	onEach(t, func(t *testing.T, b *cycleBench) {
		b.enqueue(4)
		taken := b.cycle(cycleRequest{take: 4}).taken
		b.do("HSET", taskKey("q", "t1"), "owner", "another|n|1.1")
		b.do("LREM", activeKey("q"), 0, "t2") // as asynq's recoverer: the stamp stays
		b.do("HSET", taskKey("q", "t2"), "state", "retry")
		b.do("DEL", taskKey("q", "t3")) // evicted
		var items []item
		for _, task := range taken {
			it := b.item(task, endDone)
			it.result, it.view = []byte("1"), []string{"state", "completed"}
			items = append(items, it)
		}
		reply := b.cycle(cycleRequest{items: items, views: []viewWrite{
			{id: "t1", owner: taken[0].owner, fields: []string{"state", "active"}},
			{id: "t4", owner: taken[3].owner, fields: []string{"progress", "0.5"}},
			{id: "t9", fields: []string{"state", "pending"}},
		}})
		wantEqual(t, "statuses", reply.statuses, []itemStatus{fenced, fenced, fenced, applied})
		wantEqual(t, "lost", reply.lost, []string{"t3"})
		wantEqual(t, "active", b.list(activeKey("q")), []string{"t1"})
		for _, key := range []string{ResultKey("t1"), ResultKey("t2"), ResultKey("t3"), ViewKey("t1")} {
			wantEqual(t, key, b.do("EXISTS", key).Val(), any(int64(0)))
		}
		wantEqual(t, "view", b.redis.HGetAll(t.Context(), ViewKey("t4")).Val(), map[string]string{"progress": "0.5", "state": "completed"})
		wantEqual(t, "view", b.redis.HGetAll(t.Context(), ViewKey("t9")).Val(), map[string]string{"state": "pending"})
		if ttl := b.redis.TTL(t.Context(), ViewKey("t9")).Val(); ttl < 24*time.Hour {
			t.Errorf("the view of a task that waits lives %v", ttl)
		}
	})
}

// One key of the wrong type refuses one item; the others are applied in the same call. A view never blocks its task.
func TestCycleRefusesOneItem(t *testing.T) {
	onEach(t, func(t *testing.T, b *cycleBench) {
		b.enqueue(100)
		taken := b.cycle(cycleRequest{take: 100}).taken
		wantEqual(t, "taken", len(taken), 100)
		var items []item
		for _, task := range taken {
			it := b.item(task, []ending{endDone, endRetry, endArchive, endReturn, endReturnLast, endPostpone}[len(items)%6])
			it.view = []string{"state", "ended"}
			items = append(items, it)
		}
		b.do("DEL", taskKey("q", "t42"))
		b.do("SET", taskKey("q", "t42"), "no hash")
		b.do("SET", ViewKey("t7"), "no hash")
		reply := b.cycle(cycleRequest{items: items})
		for i, s := range reply.statuses {
			if want := map[bool]itemStatus{true: refused, false: applied}[i == 41]; s != want {
				t.Errorf("item %d: status %d", i, s)
			}
		}
		if len(reply.refusals) != 1 || !strings.Contains(reply.refusals[41], "WRONGTYPE") {
			t.Errorf("refusals %v", reply.refusals)
		}
		wantEqual(t, "views dropped", reply.viewsDropped, 1)
		wantEqual(t, "active", b.list(activeKey("q")), []string{"t42"})
	})
}

// A set of the wrong type refuses the items that need it, and leaves their tasks as they were.
func TestCycleRefusesWithoutATrace(t *testing.T) {
	onBoth(t, func(t *testing.T, b *cycleBench) {
		b.enqueue(5, asynq.Retention(time.Hour))
		taken := b.cycle(cycleRequest{take: 5}).taken
		for _, key := range []string{retryKey("q"), archivedKey("q"), scheduledKey("q"), completedKey("q"), pendingKey("q")} {
			b.do("SET", key, "nothing like it")
		}
		before := make(map[string]map[string]string)
		var items []item
		for i, end := range []ending{endRetry, endArchive, endPostpone, endDone, endReturn} {
			items = append(items, b.item(taken[i], end))
			before[taken[i].id] = b.redis.HGetAll(t.Context(), taskKey("q", taken[i].id)).Val()
		}
		reply := b.cycle(cycleRequest{items: items, take: 1})
		wantEqual(t, "statuses", reply.statuses, []itemStatus{refused, refused, refused, refused, refused})
		wantEqual(t, "texts", len(reply.refusals), 5)
		if !strings.Contains(reply.failure, "WRONGTYPE") {
			t.Errorf("failure %q", reply.failure)
		}
		for id, fields := range before {
			wantEqual(t, id, b.redis.HGetAll(t.Context(), taskKey("q", id)).Val(), fields)
		}
		wantEqual(t, "active", len(b.list(activeKey("q"))), 5)
		wantEqual(t, "leases", b.redis.ZCard(t.Context(), leaseKey("q")).Val(), int64(5))
		for _, key := range []string{retryKey("q"), archivedKey("q"), scheduledKey("q"), completedKey("q"), pendingKey("q")} {
			b.do("DEL", key)
		}
		wantEqual(t, "statuses", b.cycle(cycleRequest{items: items}).statuses, []itemStatus{applied, applied, applied, applied, applied})
	})
}

// An error in the middle of the takes: what was taken before it is answered, and the rest stays where it was.
func TestCycleFailsInTheMiddleOfTheTakes(t *testing.T) {
	b := newCycleBench(t, redistest.Start(t).Client)
	b.enqueue(5)
	b.do("RENAME", taskKey("q", "t3"), taskKey("q", "x3"))
	pending := b.list(pendingKey("q"))
	for i, id := range pending {
		if id == "t3" {
			b.do("LSET", pendingKey("q"), i, "x3")
			pending[i] = "x3"
		}
	}
	b.do("ACL", "SETUSER", "some", "on", "nopass", "+@all", "~asynq:{q}:t:t*", "~asynq:{q}:[a-s]*", "~asynq:{q}:", "~runqy:*")
	limited := redis.NewClient(&redis.Options{Addr: b.redis.Options().Addr, Username: "some", Password: "any"})
	defer func() { _ = limited.Close() }()
	b.client = limited
	reply := b.cycle(cycleRequest{take: 5})
	wantEqual(t, "taken", takenIDs(reply.taken), []string{"t1", "t2"})
	if reply.failure == "" {
		t.Error("no failure")
	}
	wantEqual(t, "pending", b.list(pendingKey("q")), pending[:3])
	wantEqual(t, "active", b.list(activeKey("q")), []string{"t2", "t1"})
	wantEqual(t, "leases", b.redis.ZRange(t.Context(), leaseKey("q"), 0, -1).Val(), []string{"t1", "t2"})
	// It is recorded as well.
	reply, err := b.run(t.Context(), cycleRequest{number: b.number, take: 5})
	if err != nil || len(reply.taken) != 2 || reply.failure == "" {
		t.Errorf("answered again: %+v, %v", reply, err)
	}
}

func TestCycleReturnsClaims(t *testing.T) {
	onBoth(t, func(t *testing.T, b *cycleBench) {
		b.enqueue(7)
		for range 3 { // t1, t2, t3
			b.do("RPOPLPUSH", pendingKey("q"), directKey("q", "w"))
		}
		b.do("RPUSH", directKey("q", "w"), "t9")
		b.do("HSET", taskKey("q", "t9"), "msg", b.redis.HGet(t.Context(), taskKey("q", "t7"), "msg").Val(), "assigned_to", "w")
		b.do("LPUSH", directKey("q", "w"), "t8")
		b.do("HSET", taskKey("q", "t8"), "msg", b.redis.HGet(t.Context(), taskKey("q", "t7"), "msg").Val(), "assigned_to", "w")
		reply := b.cycle(cycleRequest{take: 2})
		wantEqual(t, "taken", takenIDs(reply.taken), []string{"t9", "t1"})
		wantEqual(t, "returned", reply.returned, 2)
		wantEqual(t, "lists", [][]string{b.list(pendingKey("q")), b.list(directKey("q", "w"))},
			[][]string{{"t7", "t6", "t5", "t4", "t3", "t2"}, {"t8"}})
		wantEqual(t, "assigned to", b.redis.HExists(t.Context(), taskKey("q", "t9"), "assigned_to").Val(), false)
		wantEqual(t, "directs", b.redis.SMembers(t.Context(), directsKey("q")).Val(), []string{"w"})

		// Paused: nothing is taken, claims go back, what is assigned stays.
		b.do("SET", pausedKey("q"), 1)
		b.do("RPOPLPUSH", pendingKey("q"), directKey("q", "w"))
		reply = b.cycle(cycleRequest{items: []item{b.item(reply.taken[1], endDone)}, take: 5})
		wantEqual(t, "statuses", reply.statuses, []itemStatus{applied})
		wantEqual(t, "taken, returned, paused", []any{len(reply.taken), reply.returned, reply.paused}, []any{0, 1, true})
		wantEqual(t, "lists", [][]string{b.list(pendingKey("q")), b.list(directKey("q", "w"))},
			[][]string{{"t7", "t6", "t5", "t4", "t3", "t2"}, {"t8"}})
	})
}

func TestCycleDropsLostIDs(t *testing.T) {
	onBoth(t, func(t *testing.T, b *cycleBench) {
		b.enqueue(4)
		b.do("DEL", taskKey("q", "t1"), taskKey("q", "t2"))
		b.do("SET", taskKey("q", "t1"), "no hash")
		b.do("RPUSH", directKey("q", "w"), "gone")
		b.do("RPUSH", pendingKey("q"), "t4") // it stands there twice
		reply := b.cycle(cycleRequest{take: 4})
		wantEqual(t, "taken", takenIDs(reply.taken), []string{"t4", "t3"})
		wantEqual(t, "owner", reply.taken[1].owner, "w|n1|1.2")
		wantEqual(t, "lost", reply.lost, []string{"gone", "t1", "t2"})
		wantEqual(t, "active", b.list(activeKey("q")), []string{"t3", "t4"})
		wantEqual(t, "leases", b.redis.ZCard(t.Context(), leaseKey("q")).Val(), int64(2))
		wantEqual(t, "more", reply.more, false)
	})
}

func TestRenew(t *testing.T) {
	onBoth(t, func(t *testing.T, b *cycleBench) {
		b.enqueue(5)
		var tasks []held
		for _, task := range b.cycle(cycleRequest{take: 5}).taken {
			tasks = append(tasks, held{task.id, task.owner})
		}
		b.do("ZADD", leaseKey("q"), 1, "t1")
		b.do("ZREM", leaseKey("q"), "t2")
		b.do("HSET", taskKey("q", "t3"), "owner", "another|n|1.1")
		b.do("HSET", taskKey("q", "t4"), "state", "retry") // by asynq's recoverer
		b.do("ZREM", leaseKey("q"), "t4")
		b.do("DEL", taskKey("q", "t5"))
		r := renewals{client: b.client, scripts: b.scripts, queue: "q"}
		lost, err := r.renew(t.Context(), tasks)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "lost", lost, tasks[2:])
		for _, id := range []string{"t1", "t2"} {
			lease := time.Until(time.Unix(int64(b.redis.ZScore(t.Context(), leaseKey("q"), id).Val()), 0))
			if lease < leaseFor-20*time.Second || lease > leaseFor+time.Second {
				t.Errorf("the lease of %s ends in %v", id, lease)
			}
		}
		wantEqual(t, "leases", b.redis.ZScore(t.Context(), leaseKey("q"), "t4").Err(), error(redis.Nil))
		if lost, err = r.renew(t.Context(), nil); lost != nil || err != nil {
			t.Errorf("nothing to renew: %v, %v", lost, err)
		}
	})
}

func TestFit(t *testing.T) {
	big := item{message: make([]byte, mostBytes)}
	half := item{result: make([]byte, mostBytes/2)}
	for _, c := range []struct {
		items []item
		want  int
	}{
		{nil, 0}, {make([]item, 300), 256}, {[]item{big, big}, 1}, {[]item{half, half}, 1}, {[]item{{}, half, {}}, 3},
	} {
		if got := fit(c.items); got != c.want {
			t.Errorf("%d of %d items fit, want %d", got, len(c.items), c.want)
		}
	}
	view := viewWrite{fields: []string{"payload", strings.Repeat("x", 4<<10)}}
	views := make([]viewWrite, 300)
	for i := range views {
		views[i] = view
	}
	if got := fitViews([]item{half}, views); got < 100 || got > 128 {
		t.Errorf("%d views fit beside half a MiB", got)
	}
	if got := fitViews([]item{big}, views); got != 0 {
		t.Errorf("%d views fit beside a full request", got)
	}
}

// Redis has no calendar for scripts: ours is Go's.
func TestDay(t *testing.T) {
	client := redistest.Start(t).Client
	script := redis.NewScript(dayLua + "local out = {} for i, s in ipairs(ARGV) do out[i] = day(tonumber(s)) end return out")
	var args []any
	var want []string
	for at := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2110; at = at.AddDate(0, 0, 13) {
		for _, second := range []time.Time{at, at.Add(-time.Second)} {
			args = append(args, second.Unix())
			want = append(want, second.Format(time.DateOnly))
		}
	}
	got, err := script.Run(t.Context(), client, nil, args...).StringSlice()
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "days", got, want)
}

// What did not run is charged nothing, and a delay of 0 is due at once.
func TestCyclePutsOffAndReturns(t *testing.T) {
	onBoth(t, func(t *testing.T, b *cycleBench) {
		b.enqueue(5)
		taken := b.cycle(cycleRequest{take: 4}).taken
		now, late := b.item(taken[0], endRetry), b.item(taken[1], endPostpone)
		now.recoveries = 0
		late.delay, late.suspicions, late.postponed = time.Minute, 3, 1
		head, last := b.item(taken[2], endReturn), b.item(taken[3], endReturnLast)
		reply := b.cycle(cycleRequest{items: []item{now, late, head, last}})
		wantEqual(t, "statuses", reply.statuses, []itemStatus{applied, applied, applied, applied})
		wantEqual(t, "pending", b.list(pendingKey("q")), []string{"t4", "t5", "t3"})
		if due := b.redis.ZScore(t.Context(), retryKey("q"), "t1").Val(); int64(due) > reply.now.Unix() {
			t.Errorf("a delay of 0 is due at %v, %v after now", due, int64(due)-reply.now.Unix())
		}
		due := time.Unix(int64(b.redis.ZScore(t.Context(), scheduledKey("q"), "t2").Val()), 0).Sub(reply.now.Truncate(time.Second))
		wantEqual(t, "due in", due, time.Minute)
		fields := func(id string) map[string]string {
			all := b.redis.HGetAll(t.Context(), taskKey("q", id)).Val()
			delete(all, "msg")
			return all
		}
		wantEqual(t, "t1", fields("t1"), map[string]string{"state": "retry", "recoveries": "0"})
		wantEqual(t, "t2", fields("t2"), map[string]string{"state": "scheduled", "suspicions": "3", "postponed": "1"})
		wantEqual(t, "t3", fields("t3"), map[string]string{"state": "pending", "pending_since": taken[2].since})
		wantEqual(t, "t4", fields("t4"), map[string]string{"state": "pending", "pending_since": taken[3].since})
		wantEqual(t, "failed", b.redis.Get(t.Context(), keyPrefix("q")+"failed").Val(), "1")
		wantEqual(t, "processed", b.redis.Get(t.Context(), keyPrefix("q")+"processed").Val(), "1")

		b.do("ZREM", scheduledKey("q"), "t2")
		b.do("RPUSH", pendingKey("q"), "t2")
		again := b.cycle(cycleRequest{take: 1}).taken[0]
		wantEqual(t, "counts", []int{again.crashes, again.suspicions, again.recoveries, again.postponed}, []int{0, 3, 0, 1})
	})
}

// What Redis refuses as a whole leaves nothing half done, and is no word on the request: it is sent again.
func TestCycleWithoutMemory(t *testing.T) {
	b := newCycleBench(t, redistest.Start(t).Client)
	b.enqueue(3)
	taken := b.cycle(cycleRequest{take: 2}).taken
	before := readKeyspace(t, b.redis)
	b.do("CONFIG", "SET", "maxmemory", "1")
	done := b.item(taken[0], endDone)
	request := cycleRequest{number: 2, items: []item{done, b.item(taken[1], endReturn)}, take: 2}
	_, err := b.run(t.Context(), request)
	if err == nil || isReply(err) {
		t.Errorf("without memory: %v", err)
	}
	b.do("CONFIG", "SET", "maxmemory", "0")
	wantSame(t, readKeyspace(t, b.redis), before)
	reply, err := b.run(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "statuses", reply.statuses, []itemStatus{applied, applied})
	wantEqual(t, "taken", takenIDs(reply.taken), []string{"t2", "t3"})
}

// A cycle behind a claim may be overtaken, and its answer be lost: it is answered again, with what it still owns.
func TestOvertakenClaimIsAnsweredAgain(t *testing.T) {
	onEach(t, func(t *testing.T, b *cycleBench) {
		b.enqueue(3)
		run := func(r cycleRequest) (ids []string) {
			t.Helper()
			reply, err := b.run(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			for _, task := range reply.taken {
				ids = append(ids, task.id+" "+task.owner)
			}
			return ids
		}
		stale := func(r cycleRequest) {
			t.Helper()
			if _, err := b.run(t.Context(), r); !errors.Is(err, errStale) {
				t.Errorf("cycle %d: error %v, want %v", r.number, err, errStale)
			}
		}
		claim := cycleRequest{number: 1, take: 2, behindClaim: true}
		want := []string{"t1 w|n1|1.1", "t2 w|n1|1.2"}
		if got := run(claim); !reflect.DeepEqual(got, want) {
			t.Fatalf("took %q, want %q", got, want)
		}
		recall := cycleRequest{number: 1, behindClaim: true}
		if got := run(recall); !reflect.DeepEqual(got, want) {
			t.Errorf("asked again, it took %q, want %q", got, want)
		}
		stale(cycleRequest{number: 0, behindClaim: true})
		for n := uint64(2); n < 4; n++ {
			run(cycleRequest{number: n})
			if got := run(recall); !reflect.DeepEqual(got, want) {
				t.Errorf("overtaken by %d, it took %q, want %q", n, got, want)
			}
		}
		stale(cycleRequest{number: 1})
		b.do("HSET", "asynq:{q}:t:t1", "owner", "other")
		if got := run(recall); !reflect.DeepEqual(got, want[1:]) {
			t.Errorf("it took %q, want %q: the other has a new owner", got, want[1:])
		}
		if got := run(cycleRequest{number: 5, take: 2, behindClaim: true}); len(got) != 1 {
			t.Errorf("took %q, want one", got)
		}
		stale(recall)
	})
}

func TestCycleAcrossSlotsTellsOfEachAnswer(t *testing.T) {
	server := redistest.Start(t)
	b := connected(t, server.URL, server.Client)
	b.cluster = true
	b.enqueue(1)
	done := b.item(b.cycle(cycleRequest{take: 1}).taken[0], endDone)
	var seen []string // by then
	b.heard = func() {
		result, active := b.redis.Exists(t.Context(), ResultKey("t1")).Val(), b.redis.LLen(t.Context(), activeKey("q")).Val()
		seen = append(seen, fmt.Sprint(result, " results, ", active, " active"))
	}
	b.cycle(cycleRequest{items: []item{done}})
	wantEqual(t, "seen", seen, []string{"0 results, 1 active", "1 results, 1 active", "1 results, 0 active"})
}
