package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/queue"
)

// open returns a client as the program opens it.
func open(t *testing.T, s *redistest.Server) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// eventually polls until ok answers true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// register writes a worker's heartbeat, which is never renewed.
func register(t *testing.T, c redis.UniversalClient, id, address string, interval, ttl time.Duration) {
	t.Helper()
	w := heartbeat.NewWriter(c, heartbeat.Options{
		ID: id, Interval: interval, TTL: ttl, Identity: heartbeat.Identity{Nonce: "n-" + id, Host: "elsewhere"}, Logger: slog.New(slog.DiscardHandler),
		Source: func() heartbeat.Beat {
			return heartbeat.Beat{Status: status.Running, State: status.Free, Healthy: true, Queues: []string{"q"}, Address: address}
		},
	})
	if err := w.Register(t.Context()); err != nil {
		t.Fatalf("register worker %s: %v", id, err)
	}
}

// fakeWorkers is one HTTP server for any number of workers: each has an address of its own on the loopback network.
type fakeWorkers struct {
	port string
	mu   sync.Mutex // guards mux
	mux  map[string]*http.ServeMux
}

// serveWorkers answers pings at any loopback address, as the worker that has it.
func serveWorkers(t *testing.T) *fakeWorkers {
	t.Helper()
	f := &fakeWorkers{mux: make(map[string]*http.ServeMux)}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		mux, ok := f.mux[r.Host]
		f.mu.Unlock()
		if !ok {
			http.Error(w, "no worker is here", http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	_ = server.Listener.Close()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	_, f.port, _ = net.SplitHostPort(l.Addr().String())
	return f
}

// address returns the n-th address, at which a worker answers once it is served.
func (f *fakeWorkers) address(n int) string {
	return net.JoinHostPort(fmt.Sprintf("127.1.%d.%d", n/200, n%200+1), f.port)
}

func (f *fakeWorkers) serve(address string, p rpc.Pong) {
	f.mu.Lock()
	defer f.mu.Unlock()
	mux := http.NewServeMux()
	for path, h := range rpc.Handlers(rpc.Sources{Ping: func() rpc.Pong { return p }}) {
		mux.Handle(path, h)
	}
	f.mux[address] = mux
}

func newPinger(t *testing.T) *rpc.Client {
	t.Helper()
	c, err := rpc.NewClient(rpc.ClientOptions{Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Real Redis, real HTTP, a thousand workers.
func TestThousandWorkersOnRedis(t *testing.T) {
	const workers = 1000
	s := redistest.Start(t)
	client := open(t, s)
	fake := serveWorkers(t)
	registerAll(t, client, fake, workers)
	c := NewChecker(CheckerOptions{Registry: NewStore(client), Pinger: newPinger(t), PingTimeout: 30 * time.Second})
	for round := range 3 {
		commands, cpu, began := commandsOf(t, client), cpuTime(t), time.Now()
		list, err := c.Round(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("round %d: %s, CPU %s (both sides of the connections), %d Redis commands",
			round, time.Since(began).Round(time.Millisecond), cpuTime(t)-cpu, commandsOf(t, client)-commands-1)
		if n := c.Counts()["FREE"]; n != workers || len(list) != workers {
			t.Fatalf("%d free of %d, want all of %d; the first is %s: %s", n, len(list), workers, list[0].State, list[0].Reason)
		}
	}
}

func registerAll(t *testing.T, client *redis.Client, fake *fakeWorkers, n int) {
	t.Helper()
	expiry := float64(time.Now().Add(time.Hour).Unix())
	_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range n {
			id, address := fmt.Sprintf("w%04d", i), fake.address(i)
			fake.serve(address, rpc.Pong{WorkerID: id, Nonce: "n", State: status.Free})
			p.HSet(t.Context(), heartbeat.Key(id), "nonce", "n", "address", address, "status", "running", "state", "FREE", "queue", "q",
				"interval_seconds", "600", "ttl_seconds", "3600") // no worker beats again, and none may count as silent meanwhile
			p.Expire(t.Context(), heartbeat.Key(id), time.Hour)
			p.ZAdd(t.Context(), heartbeat.RegistryKey, redis.Z{Score: expiry, Member: id})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// commandsOf returns how many commands Redis has processed.
func commandsOf(t *testing.T, client *redis.Client) int {
	t.Helper()
	info, err := client.Info(t.Context(), "stats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "total_commands_processed:")
	number, _, _ := strings.Cut(rest, "\r\n")
	n, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The states as they come from real answers.
func TestStatesOnRedis(t *testing.T) {
	s := redistest.Start(t)
	client := open(t, s)
	fake := serveWorkers(t)
	closed := net.JoinHostPort("127.0.0.1", strconv.Itoa(redistest.FreePort(t)))
	fake.serve(fake.address(1), rpc.Pong{WorkerID: "free", Nonce: "n-free", State: status.Free})
	fake.serve(fake.address(2), rpc.Pong{WorkerID: "busy", Nonce: "n-busy", State: status.Busy, Reason: "full"})
	fake.serve(fake.address(3), rpc.Pong{WorkerID: "replaced", Nonce: "another", State: status.Free})
	for id, address := range map[string]string{
		"free": fake.address(1), "busy": fake.address(2), "replaced": fake.address(3), "locked": fake.address(4),
		"closed": closed, "silent": "", "nonsense": "no address",
	} {
		register(t, client, id, address, time.Minute, time.Hour)
	}
	workers, err := NewChecker(CheckerOptions{Registry: NewStore(client), Pinger: newPinger(t), PingTimeout: 30 * time.Second}).Round(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{
		"free": "FREE ", "busy": "BUSY ", "replaced": "DEAD wrong_identity", "locked": "DEAD unauthorised", "closed": "DEAD refused",
		"silent": "FREE ", "nonsense": "DEAD error",
	} {
		if w := find(t, workers, id); string(w.State)+" "+w.Cause != want || w.Proven {
			t.Errorf("%s is %s %s (%s), proven %t; want %s, not proven", id, w.State, w.Cause, w.Reason, w.Proven, want)
		}
	}
}

// hold puts tasks into the hands of a worker's process, as a dequeue leaves them.
func hold(t *testing.T, client *redis.Client, worker string, n int) {
	t.Helper()
	ctx := t.Context()
	tasks := asynq.NewClientFromRedisClient(client)
	for i := range n {
		info, err := tasks.Enqueue(asynq.NewTask("t", nil), asynq.Queue("q"), asynq.TaskID(fmt.Sprintf("%s-%d", worker, i)))
		if err != nil {
			t.Fatal(err)
		}
		key := "asynq:{q}:t:" + info.ID
		_, err = client.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.LRem(ctx, "asynq:{q}:pending", 0, info.ID)
			p.LPush(ctx, "asynq:{q}:active", info.ID)
			p.HSet(ctx, key, "state", "active", "owner", fmt.Sprintf("%s|n-%s|%d", worker, worker, i), "since", time.Now().UnixNano())
			p.ZAdd(ctx, "asynq:{q}:lease", redis.Z{Score: float64(time.Now().Add(30 * time.Second).Unix()), Member: info.ID})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// onRedis returns a service that works on real queues.
func onRedis(t *testing.T, client *redis.Client, name string, book *logBook, change func(*Options)) *Service {
	t.Helper()
	store := NewStore(client)
	var s *Service
	opts := Options{
		ID: name, Self: heartbeat.Identity{Nonce: "x-" + name}, Interval: 100 * time.Millisecond, PingTimeout: 30 * time.Second,
		Registry: store, Lease: store, Checkpoints: store, Deaths: store, Pinger: newPinger(t),
		Recoverer: queue.NewRecoverer(client, queue.RecovererOptions{
			MaxRecoveries: 3, Logger: book.logger(), Taken: func(id, nonce string) { s.TaskReturned(id, nonce) },
		}),
		Directs: queue.NewDirects(client), Logger: book.logger(),
	}
	if change != nil {
		change(&opts)
	}
	var err error
	if s, err = New(opts); err != nil {
		t.Fatal(err)
	}
	return s
}

// where returns how many tasks of the queue are pending and active, and how many there are in both.
func where(t *testing.T, client *redis.Client) (pending, active, distinct int) {
	t.Helper()
	p, err1 := client.LRange(t.Context(), "asynq:{q}:pending", 0, -1).Result()
	a, err2 := client.LRange(t.Context(), "asynq:{q}:active", 0, -1).Result()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]bool)
	for _, id := range slices.Concat(p, a) {
		ids[id] = true
	}
	return len(p), len(a), len(ids)
}

func TestDeadWorkersOnRedis(t *testing.T) {
	client := open(t, redistest.Start(t))
	fake, book := serveWorkers(t), &logBook{}
	closed := net.JoinHostPort("127.0.0.1", strconv.Itoa(redistest.FreePort(t)))
	fake.serve(fake.address(1), rpc.Pong{WorkerID: "well", Nonce: "n-well", State: status.Free})
	register(t, client, "well", fake.address(1), time.Minute, time.Hour)
	register(t, client, "unreachable", closed, time.Minute, time.Hour) // beats, as far as anybody can tell
	register(t, client, "dead", closed, 50*time.Millisecond, time.Hour)
	for _, id := range []string{"well", "unreachable", "dead"} {
		hold(t, client, id, 3)
	}
	var mu sync.Mutex // guards the counts
	recovered, died := map[string]int{}, map[string]int{}
	s := onRedis(t, client, "c", book, func(o *Options) {
		o.Observer.Recovered = func(_, reason string, n int) { mu.Lock(); defer mu.Unlock(); recovered[reason] += n }
		o.Observer.Died = func(cause string) { mu.Lock(); defer mu.Unlock(); died[cause]++ }
	})
	stop := start(s)
	eventually(t, "the dead worker is removed", func() bool {
		return errors.Is(client.ZScore(t.Context(), heartbeat.RegistryKey, "dead").Err(), redis.Nil)
	})
	eventually(t, "it is gone from the checkpoint", func() bool {
		return maps.Equal(checkpointOf(t, client), map[string]string{"well": "n-well", "unreachable": "n-unreachable"})
	})
	stop()
	if n := client.Exists(t.Context(), heartbeat.Key("dead"), LeaderKey).Val(); n != 0 {
		t.Errorf("%d keys of its heartbeat and the lease are left, want none", n)
	}
	if pending, active, all := where(t, client); pending != 3 || active != 6 || all != 9 {
		t.Errorf("%d pending, %d active, %d tasks; want 3, 6, 9", pending, active, all)
	}
	for i := range 3 {
		task := client.HGetAll(t.Context(), fmt.Sprintf("asynq:{q}:t:dead-%d", i)).Val()
		if task["state"] != "pending" || task["recoveries"] != "1" || task["owner"] != "" || task["pending_since"] == "" {
			t.Errorf("task %d is %v, want it pending without an owner, crashes 1", i, task)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if recovered[queue.RecoveredDead] != 3 || died[CauseRefused] != 1 || len(died) != 1 {
		t.Errorf("recovered %v, died %v; want 3 %s, 1 %s and nothing else", recovered, died, queue.RecoveredDead, CauseRefused)
	}
	deaths, err := NewStore(client).Deaths(t.Context())
	if err != nil || len(deaths) != 1 || deaths[0].ID != "dead" || deaths[0].Nonce != "n-dead" || deaths[0].Tasks != 3 ||
		deaths[0].Cause != CauseRefused || deaths[0].Reason == "" || !slices.Equal(deaths[0].Queues, []string{"q"}) || deaths[0].Age > time.Minute {
		t.Errorf("deaths %+v, %v; want that of the dead worker, with its three tasks", deaths, err)
	}
	if queues, err := NewStore(client).Queues(t.Context()); err != nil || !slices.Equal(queues, []string{"q"}) {
		t.Errorf("queues %q, %v; want q", queues, err)
	}
}

func checkpointOf(t *testing.T, client *redis.Client) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for id, text := range client.HGetAll(t.Context(), checkpointKey).Val() {
		var e checkpointEntry
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatal(err)
		}
		out[id] = e.Nonce
	}
	return out
}

// Two leaders act at once, on the same queues: each task is recovered once.
func TestTwoLeadersOnRedis(t *testing.T) {
	client := open(t, redistest.Start(t))
	closed := net.JoinHostPort("127.0.0.1", strconv.Itoa(redistest.FreePort(t)))
	const dead, tasks = 5, 20
	for i := range dead {
		id := fmt.Sprintf("dead%d", i)
		register(t, client, id, closed, 50*time.Millisecond, time.Hour)
		hold(t, client, id, tasks)
	}
	var mu sync.Mutex // guards recovered
	recovered := 0
	count := func(o *Options) {
		o.Lease = always{} // both are sure to be elected
		o.Observer.Recovered = func(_, _ string, n int) { mu.Lock(); defer mu.Unlock(); recovered += n }
	}
	one, two := onRedis(t, client, "one", &logBook{}, count), onRedis(t, client, "two", &logBook{}, count)
	stopOne, stopTwo := start(one), start(two)
	eventually(t, "every worker is removed", func() bool { return client.ZCard(t.Context(), heartbeat.RegistryKey).Val() == 0 })
	stopOne()
	stopTwo()
	if pending, active, all := where(t, client); pending != dead*tasks || active != 0 || all != dead*tasks {
		t.Errorf("%d pending, %d active, %d tasks; want %d pending and no other", pending, active, all, dead*tasks)
	}
	mu.Lock()
	defer mu.Unlock()
	if recovered != dead*tasks {
		t.Errorf("%d recoveries, want one of each of %d tasks", recovered, dead*tasks)
	}
	for _, key := range client.Keys(t.Context(), "asynq:{q}:t:*").Val() {
		if recoveries := client.HGet(t.Context(), key, "recoveries").Val(); recoveries != "1" {
			t.Errorf("%s has recoveries %s, want 1", key, recoveries)
		}
	}
}

type always struct{}

func (always) Acquire(context.Context, string, time.Duration) (bool, time.Duration, error) {
	return true, 0, nil
}
func (always) Held(context.Context) (bool, error)    { return true, nil }
func (always) Release(context.Context, string) error { return nil }

// The leader is killed in the middle of a recovery: the next one finishes it.
func TestTheLeaderDiesWhileItRecovers(t *testing.T) {
	client := open(t, redistest.Start(t))
	closed := net.JoinHostPort("127.0.0.1", strconv.Itoa(redistest.FreePort(t)))
	register(t, client, "dead", closed, 50*time.Millisecond, time.Hour)
	client.HSet(t.Context(), heartbeat.Key("dead"), "queue", "p,q")
	hold(t, client, "dead", 5)
	dying := &dyingRecoverer{reached: make(chan struct{})}
	first := onRedis(t, client, "first", &logBook{}, func(o *Options) {
		o.Lease = unreleased{NewStore(client)}
		dying.Recoverer = o.Recoverer
		o.Recoverer = dying
	})
	stopFirst := start(first)
	<-dying.reached
	stopFirst()
	if leader := client.Get(t.Context(), LeaderKey).Val(); leader != "first|x-first" {
		t.Fatalf("the lease is %q's, want first|x-first's", leader)
	}
	if _, active, _ := where(t, client); active != 5 {
		t.Fatalf("%d active after the leader died, want 5", active)
	}
	second := onRedis(t, client, "second", &logBook{}, nil)
	defer start(second)()
	eventually(t, "the second one finishes", func() bool {
		pending, _, _ := where(t, client)
		return pending == 5 && client.ZCard(t.Context(), heartbeat.RegistryKey).Val() == 0
	})
	if !second.leading() {
		t.Error("the second one does not lead")
	}
}

// unreleased is a lease that is not released: its leader was killed.
type unreleased struct{ *Store }

func (unreleased) Release(context.Context, string) error { return nil }

// dyingRecoverer recovers the first queue and then hangs until its process dies.
type dyingRecoverer struct {
	Recoverer
	once    sync.Once
	reached chan struct{}
}

func (d *dyingRecoverer) OfProcess(ctx context.Context, q, id, nonce string) (queue.Recovered, error) {
	if q == "p" {
		return d.Recoverer.OfProcess(ctx, q, id, nonce)
	}
	d.once.Do(func() { close(d.reached) })
	<-ctx.Done()
	return queue.Recovered{}, ctx.Err()
}

// Without a leader: what a dead worker ran and what its connection had claimed goes to others.
func TestSweepWithoutALeaderOnRedis(t *testing.T) {
	ctx := t.Context()
	client := open(t, redistest.Start(t))
	register(t, client, "living", "", time.Hour, 2*time.Hour)
	hold(t, client, "dead", 2)
	hold(t, client, "living", 2)
	past := float64(time.Now().Add(-time.Minute).Unix())
	for _, id := range client.LRange(ctx, "asynq:{q}:active", 0, -1).Val() {
		client.ZAdd(ctx, "asynq:{q}:lease", redis.Z{Score: past, Member: id})
	}
	client.SAdd(ctx, "runqy:{q}:directs", "dead", "living")
	client.LPush(ctx, "runqy:{q}:direct:dead", "claimed")
	client.LPush(ctx, "runqy:{q}:direct:living", "kept")
	s := onRedis(t, client, "living", &logBook{}, func(o *Options) { o.Queues = []string{"q"} })
	w := &watcher{Service: s, sweeper: newSweeper(s, nil)}
	for range 2 { // a worker that is not registered may have been so since the registry was read
		if err := w.sweep(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if pending, active, _ := where(t, client); pending != 3 || active != 2 {
		t.Errorf("%d pending and %d active, want the two of the dead worker and its claim pending, those of the living one active", pending, active)
	}
	if got := client.LRange(ctx, "runqy:{q}:direct:living", 0, -1).Val(); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("the living worker's list is %v", got)
	}
	if held, err := NewStore(client).Held(ctx); held || err != nil {
		t.Errorf("there is a leader (%t), error %v", held, err)
	}
}

func TestLeaseOnRedis(t *testing.T) {
	client := open(t, redistest.Start(t))
	s := NewStore(client)
	ctx := t.Context()
	ask := func(name string, want bool) time.Duration {
		t.Helper()
		held, left, err := s.Acquire(ctx, name, time.Minute)
		if err != nil || held != want {
			t.Fatalf("Acquire for %s = %t, %v; want %t", name, held, err, want)
		}
		return left
	}
	ask("a|1", true)
	ask("a|1", true)
	if left := ask("b|2", false); left <= 0 || left > time.Minute {
		t.Errorf("left %s of the lease, want up to a minute", left)
	}
	if err := s.Release(ctx, "b|2"); err != nil {
		t.Fatal(err)
	}
	ask("b|2", false)
	if err := s.Release(ctx, "a|1"); err != nil {
		t.Fatal(err)
	}
	ask("b|2", true)
	client.Set(ctx, LeaderKey, "by hand", 0)
	ask("a|1", false)
	if ttl := client.PTTL(ctx, LeaderKey).Val(); ttl <= 0 || ttl > time.Minute {
		t.Errorf("a lease that was set by hand ends in %s, want up to a minute", ttl)
	}
}

func TestCheckpointOnRedis(t *testing.T) {
	client := open(t, redistest.Start(t))
	s := NewStore(client)
	ctx := t.Context()
	beat := heartbeat.Beat{
		Address: "h:1", Queues: []string{"a", "b"}, Interval: 1500 * time.Millisecond, TTL: 4 * time.Second,
		Identity: heartbeat.Identity{Host: "h", PID: 7, Nonce: "n", BootID: "b", PIDNamespace: "p", PIDStart: 1 << 60},
	}
	if err := s.SaveCheckpoint(ctx, map[string]heartbeat.Beat{"w": beat, "v": {}}, nil, []string{"b", "a"}); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveCheckpoint(ctx, nil, []string{"v"}, nil); err != nil {
		t.Fatal(err)
	}
	client.HSet(ctx, checkpointKey, "broken", "{")
	client.ZAdd(ctx, queuesKey, redis.Z{Score: float64(time.Now().Add(-8 * 24 * time.Hour).Unix()), Member: "old"})
	if err := s.SaveCheckpoint(ctx, nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	c, err := s.LoadCheckpoint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.Beats["w"]); got != fmt.Sprint(beat) || len(c.Beats) != 1 || !slices.Equal(c.Queues, []string{"a", "b"}) {
		t.Errorf("loaded %v, want worker w as it was saved and queues a and b", c)
	}
}
