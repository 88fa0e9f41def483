package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
)

const (
	// DeathsKept is how long a death is shown.
	DeathsKept = time.Hour
	// maxDeaths bounds how many are kept.
	maxDeaths = 1000
	// maxReason bounds what is kept of a reason, in bytes.
	maxReason = 300
	// maxTallied bounds of how many workers tasks are counted that have not been found dead yet.
	maxTallied = 10_000
)

// Death is the end of one process of a worker that was found dead and has left the registry.
type Death struct {
	ID      string   `json:"id"` // of the worker
	Nonce   string   `json:"nonce"`
	Host    string   `json:"host"`
	Address string   `json:"address"`
	Queues  []string `json:"queues"`
	Cause   string   `json:"cause"` // one of the causes of DEAD
	Reason  string   `json:"reason"`

	At  time.Time     `json:"-"` // when it was found dead, on Redis' clock
	Age time.Duration `json:"-"` // since then, when it was read
	// Tasks are those of which it is known that they went back to their queues or, lost too often, to the archive. What a
	// successor or a client took back may be missing.
	Tasks int `json:"-"`
}

// DeathStore keeps the deaths of the last hour; [Store] is the real one.
type DeathStore interface {
	// RecordDeath keeps a death, which was found age ago. Told again of the same process, it adds the tasks, and first is
	// false.
	RecordDeath(ctx context.Context, d Death, tasks int, age time.Duration) (first bool, err error)
}

// deathOf is what is kept of a worker that is dead.
func deathOf(w Worker) Death {
	reason, _, _ := strings.Cut(w.Reason, "\n")
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "") + "…"
	}
	return Death{
		ID: w.ID, Nonce: w.Beat.Nonce, Host: w.Beat.Host, Address: w.Beat.Address, Queues: w.Beat.Queues,
		Cause: cmp.Or(w.Cause, CauseHeartbeatExpired), Reason: reason,
	}
}

// RecordDeath implements DeathStore.
func (s *Store) RecordDeath(ctx context.Context, d Death, tasks int, age time.Duration) (first bool, err error) {
	text, err := json.Marshal(d)
	if err != nil {
		return false, fmt.Errorf("encode the death of worker %s: %w", d.ID, err)
	}
	added, err := s.recordDeath.Run(ctx, s.client, []string{deathsKey}, tallyKey(d.ID, d.Nonce), string(text), tasks,
		max(age, 0).Milliseconds(), DeathsKept.Milliseconds(), maxDeaths).Int()
	if err != nil {
		return false, fmt.Errorf("write %s: %w", deathsKey, err)
	}
	return added == 1, nil
}

// Deaths returns who died within the last hour, the latest first.
func (s *Store) Deaths(ctx context.Context) ([]Death, error) {
	// No script: who looks for what is wrong may find a Redis that lets nobody run one.
	var now *redis.TimeCmd
	var all *redis.MapStringStringCmd
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		now, all = p.Time(ctx), p.HGetAll(ctx, deathsKey)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", deathsKey, err)
	}
	var deaths []Death
	for _, value := range all.Val() {
		d, err := parseDeath(value)
		if err != nil {
			continue // not ours; it goes with the next that is recorded, or with the key
		}
		d.Age = max(now.Val().Sub(d.At), 0)
		if d.Age <= DeathsKept {
			deaths = append(deaths, d)
		}
	}
	slices.SortFunc(deaths, func(a, b Death) int { return cmp.Or(cmp.Compare(a.Age, b.Age), cmp.Compare(a.ID, b.ID)) })
	return deaths, nil
}

// parseDeath reads a value that the script has written.
func parseDeath(value string) (Death, error) {
	parts := strings.SplitN(value, " ", 3)
	if len(parts) != 3 {
		return Death{}, errors.New("not a death")
	}
	at, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return Death{}, fmt.Errorf("the time of a death: %w", err)
	}
	tasks, err := strconv.Atoi(parts[1])
	if err != nil {
		return Death{}, fmt.Errorf("the tasks of a death: %w", err)
	}
	d := Death{}
	if err := json.Unmarshal([]byte(parts[2]), &d); err != nil {
		return Death{}, fmt.Errorf("decode a death: %w", err)
	}
	d.At, d.Tasks = time.UnixMilli(at).UTC(), tasks
	return d, nil
}

// tally counts how many tasks were taken back from which process of a worker, until its death is recorded.
type tally struct {
	mu    sync.Mutex // guards tasks
	tasks map[string]int
}

func tallyKey(id, nonce string) string { return id + "|" + nonce }

func (t *tally) add(id, nonce string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := tallyKey(id, nonce)
	if _, known := t.tasks[key]; n <= 0 || !known && len(t.tasks) >= maxTallied {
		return
	}
	if t.tasks == nil {
		t.tasks = make(map[string]int)
	}
	t.tasks[key] += n
}

// take returns what was counted for a process, and forgets it.
func (t *tally) take(id, nonce string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := tallyKey(id, nonce)
	n := t.tasks[key]
	delete(t.tasks, key)
	return n
}

// recordDeath keeps the death of a process of a worker, with the tasks that were taken back from it, and counts it if it is
// not known yet.
func (s *Service) recordDeath(ctx context.Context, w Worker) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	tasks := s.returned.take(w.ID, w.Beat.Nonce)
	age := time.Duration(0)
	if !w.DeadSince.IsZero() {
		age = time.Since(w.DeadSince)
	}
	d := deathOf(w)
	first, err := s.opts.Deaths.RecordDeath(ctx, d, tasks, age)
	if err != nil {
		s.returned.add(w.ID, w.Beat.Nonce, tasks)
		return err
	}
	if first {
		s.opts.Observer.Died(d.Cause)
	}
	return nil
}

// RecordPredecessor keeps the death of the process that the worker of this process has replaced, by its last heartbeat: it
// is proven to be gone, and left that heartbeat behind.
func (s *Service) RecordPredecessor(ctx context.Context, id string, beat heartbeat.Beat) error {
	w := heartbeat.Worker{ID: id, Alive: true, Beat: beat}
	return s.recordDeath(ctx, classify(observation{worker: w, gone: true}))
}

// TaskReturned counts a task that was taken back from a process of a worker: its death is shown with that number.
func (s *Service) TaskReturned(workerID, nonce string) { s.returned.add(workerID, nonce, 1) }
