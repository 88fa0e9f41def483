package fleet

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/internal/timer"
	"github.com/runqy/runqy-worker/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a fleet without processes: a registry, a lease, addresses that answer, and what was recovered. Time is the
// test's.
type world struct {
	mu         sync.Mutex // guards everything below
	beats      map[string]time.Time
	workers    map[string]heartbeat.Worker
	answers    map[string]answer // by address
	redis      error             // what Redis answers; nil: it is well
	forgetErr  error
	beatsErr   error // of Beats
	recoverFn  func(queue string) error
	lapsedErr  error // of Lapsed
	listErr    error // of List
	saveErr    error // of SaveCheckpoint
	leader     string
	heldUntil  time.Time
	checkpoint Checkpoint
	events     []string                    // recoveries and removals, in order
	fates      map[string]queue.DirectFate // of the lists of all workers that ever beat
	returned   []string                    // whose lists ever went back
	deaths     []Death                     // that were recorded
}

type answer struct {
	pong  rpc.Pong
	err   error
	after time.Duration
}

func newWorld() *world {
	return &world{
		beats: make(map[string]time.Time), workers: make(map[string]heartbeat.Worker), answers: make(map[string]answer),
		checkpoint: Checkpoint{Beats: make(map[string]heartbeat.Beat)}, fates: make(map[string]queue.DirectFate),
	}
}

const (
	beatEvery = 5 * time.Second
	beatTTL   = 15 * time.Second
)

// add registers a worker that beats now and answers FREE.
func (w *world) add(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	beat := heartbeat.Beat{
		State: status.Free, Status: status.Running, Healthy: true, Queues: []string{"q"}, Address: id + ":1",
		Interval: beatEvery, TTL: beatTTL, Identity: heartbeat.Identity{Nonce: "n-" + id, Host: "h"},
	}
	w.workers[id] = heartbeat.Worker{ID: id, Beat: beat}
	w.beats[id] = time.Now()
	w.answers[beat.Address] = answer{pong: rpc.Pong{WorkerID: id, Nonce: beat.Nonce, State: status.Free}}
}

// change edits a worker's heartbeat.
func (w *world) change(id string, edit func(*heartbeat.Beat)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	worker := w.workers[id]
	edit(&worker.Beat)
	w.workers[id] = worker
}

func (w *world) answer(id string, a answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[id+":1"] = a
}

func (w *world) beat(ids ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		w.beats[id] = time.Now()
	}
}

// beating has workers beat every interval until stop is called.
func (w *world) beating(ids ...string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		for ctx.Err() == nil {
			w.beat(ids...)
			_ = timer.Sleep(ctx, beatEvery)
		}
	})
	return func() { cancel(); group.Wait() }
}

func (w *world) remove(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.workers, id)
}

func (w *world) setRedis(err error) { w.set(func() { w.redis = err }) }

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// entry is what Redis tells of a worker; the caller holds mu.
func (w *world) entry(id string) heartbeat.Worker {
	worker := w.workers[id]
	age := time.Since(w.beats[id])
	worker.Expiry = w.beats[id].Add(beatTTL)
	if age >= beatTTL {
		worker.Beat = heartbeat.Beat{}
		return worker
	}
	worker.Alive, worker.Age, worker.TTL = true, age, beatTTL-age
	return worker
}

func (w *world) List(context.Context) ([]heartbeat.Worker, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []heartbeat.Worker
	for _, id := range slices.Sorted(maps.Keys(w.workers)) {
		list = append(list, w.entry(id))
	}
	return list, errors.Join(w.redis, w.listErr)
}

func (w *world) Get(_ context.Context, id string) (heartbeat.Worker, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.workers[id]; !ok {
		return heartbeat.Worker{}, false, w.redis
	}
	return w.entry(id), true, w.redis
}

func (w *world) Forget(_ context.Context, worker heartbeat.Worker) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.forgetErr != nil {
		return w.forgetErr
	}
	w.events = append(w.events, "forget "+worker.ID)
	delete(w.workers, worker.ID)
	return nil
}

func (w *world) Ping(ctx context.Context, address string) (rpc.Pong, error) {
	w.mu.Lock()
	a, ok := w.answers[address]
	w.mu.Unlock()
	if !ok {
		return rpc.Pong{}, failed(rpc.KindRefused)
	}
	if timer.Sleep(ctx, a.after) != nil {
		return rpc.Pong{}, failed(rpc.KindTimeout)
	}
	return a.pong, a.err
}

func failed(kind rpc.Kind) error {
	return &rpc.Failure{Kind: kind, Err: errors.New("as the test wants")}
}

func (w *world) OfProcess(_ context.Context, q, id, nonce string) (queue.Recovered, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.recoverFn != nil {
		if err := w.recoverFn(q); err != nil {
			return queue.Recovered{}, err
		}
	}
	w.events = append(w.events, fmt.Sprintf("recover %s of %s %s", q, id, nonce))
	return queue.Recovered{Requeued: 2, Archived: 1}, nil
}

func (w *world) Lapsed(_ context.Context, q string, alive func(id, nonce string) bool, margin time.Duration) (queue.Recovered, error) {
	for _, id := range w.everBeat() {
		if alive(id, "n-"+id) || margin != lapsedMargin {
			continue
		}
		w.mu.Lock()
		if event := "lapsed " + q + " of " + id; !slices.Contains(w.events, event) {
			w.events = append(w.events, event)
		}
		w.mu.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return queue.Recovered{}, w.lapsedErr
}

// everBeat returns every worker that has ever had a heartbeat.
func (w *world) everBeat() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.beats))
}

func (w *world) Beats(_ context.Context, id, nonce string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return nonce == "n-"+id && time.Since(w.beats[id]) < beatTTL, errors.Join(w.redis, w.beatsErr)
}

func (w *world) Return(_ context.Context, q string, fate func(id string) queue.DirectFate) (int, error) {
	if q != "q" {
		return 0, nil
	}
	for _, id := range w.everBeat() {
		f := fate(id)
		w.mu.Lock()
		w.fates[id] = f
		if event := "return what waits for " + id; f == queue.DirectReturned && !slices.Contains(w.returned, event) {
			w.returned = append(w.returned, event)
		}
		w.mu.Unlock()
	}
	return 0, nil
}

// fate returns what became of a worker's list in the last sweep.
func (w *world) fate(id string) queue.DirectFate {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fates[id]
}

func (w *world) Held(context.Context) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Until(w.heldUntil) > 0, w.redis
}

func (w *world) Acquire(_ context.Context, name string, lease time.Duration) (bool, time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.redis != nil {
		return false, 0, w.redis
	}
	if left := time.Until(w.heldUntil); left > 0 && w.leader != name {
		return false, left, nil
	}
	w.leader, w.heldUntil = name, time.Now().Add(lease)
	return true, 0, nil
}

func (w *world) Release(_ context.Context, name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leader == name {
		w.heldUntil = time.Time{}
	}
	return nil
}

func (w *world) LoadCheckpoint(context.Context) (Checkpoint, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Checkpoint{Beats: maps.Clone(w.checkpoint.Beats), Queues: slices.Clone(w.checkpoint.Queues)}, w.redis
}

func (w *world) SaveCheckpoint(_ context.Context, beats map[string]heartbeat.Beat, gone, queues []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(w.checkpoint.Beats, beats)
	for _, id := range gone {
		delete(w.checkpoint.Beats, id)
	}
	w.checkpoint.Queues = queues
	return cmp.Or(w.redis, w.saveErr)
}

func (w *world) RecordDeath(_ context.Context, d Death, tasks int, age time.Duration) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := !slices.ContainsFunc(w.deaths, func(known Death) bool { return known.ID == d.ID && known.Nonce == d.Nonce })
	d.Tasks, d.Age = tasks, age
	w.deaths = append(w.deaths, d)
	return first, w.redis
}

// recorded returns the deaths that were recorded.
func (w *world) recorded() []Death {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.deaths)
}

func (w *world) happened() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.events)
}

// logBook keeps log lines.
type logBook struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// count returns how many lines have all the words.
func (l *logBook) count(words ...string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for line := range strings.Lines(l.b.String()) {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			n++
		}
	}
	return n
}

func (l *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// service returns a service in this world.
func (w *world) service(t *testing.T, name string, book *logBook, observer Observer) *Service {
	t.Helper()
	s, err := New(Options{
		ID: name, Self: heartbeat.Identity{Nonce: "x"}, Interval: 5 * time.Second, PingTimeout: 3 * time.Second,
		Registry: w, Lease: w, Checkpoints: w, Deaths: w, Pinger: w, Recoverer: w, Directs: w, Observer: observer, Logger: book.logger(),
	})
	if err != nil {
		t.Fatalf("make a service: %v", err)
	}
	return s
}

// leading reports whether a service's process is the leader now.
func (s *Service) leading() bool { return s.elector.leading.Load() }

// start runs a service until stop is called.
func start(s *Service) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { _ = s.Run(ctx) })
	return func() { cancel(); group.Wait() }
}

func find(t *testing.T, workers []Worker, id string) Worker {
	t.Helper()
	for _, w := range workers {
		if w.ID == id {
			return w
		}
	}
	t.Fatalf("worker %s is not among %v", id, workers)
	return Worker{}
}
