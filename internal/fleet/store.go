package fleet

import (
	"context"
	_ "embed" // the scripts
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
)

// Keys of the fleet in Redis.
const (
	RoleKey   = "runqy:fleet:checker" // who is the checker: "<worker id>|<nonce>"
	rosterKey = "runqy:fleet:roster"  // hash: what the checker must know of a worker after its heartbeat is gone
	queuesKey = "runqy:fleet:queues"  // zset: queues that workers have served, by when that was last seen (unix s)
)

// queuesKept is how long a queue is remembered after its last worker.
const queuesKept = 7 * 24 * time.Hour

// rosterChunk bounds how many workers are written in one command.
const rosterChunk = 500

//go:embed acquire.lua
var acquireLua string

//go:embed release.lua
var releaseLua string

// Store is the fleet's part of Redis. It is safe for concurrent use.
type Store struct {
	client           redis.UniversalClient
	acquire, release *redis.Script
}

// NewStore returns the Store behind a client, which should have ContextTimeoutEnabled.
func NewStore(client redis.UniversalClient) *Store {
	return &Store{client: client, acquire: redis.NewScript(acquireLua), release: redis.NewScript(releaseLua)}
}

// List implements Registry.
func (s *Store) List(ctx context.Context) ([]heartbeat.Worker, error) {
	return heartbeat.List(ctx, s.client)
}

// Get implements Registry.
func (s *Store) Get(ctx context.Context, id string) (heartbeat.Worker, bool, error) {
	return heartbeat.Get(ctx, s.client, id)
}

// Forget implements Registry.
func (s *Store) Forget(ctx context.Context, w heartbeat.Worker) error {
	return heartbeat.Forget(ctx, s.client, w)
}

// Queues returns every queue that a worker has served within the last week, sorted.
func (s *Store) Queues(ctx context.Context) ([]string, error) {
	queues, err := s.client.ZRange(ctx, queuesKey, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", queuesKey, err)
	}
	slices.Sort(queues)
	return queues, nil
}

// Acquire takes the role for whoever has that name, or renews it, for that long. When another has it, left is what
// remains of its lease.
func (s *Store) Acquire(ctx context.Context, name string, lease time.Duration) (held bool, left time.Duration, err error) {
	reply, err := s.acquire.Run(ctx, s.client, []string{RoleKey}, name, lease.Milliseconds()).Int64Slice()
	if err != nil {
		return false, 0, fmt.Errorf("take %s: %w", RoleKey, err)
	}
	if len(reply) == 2 {
		return false, time.Duration(reply[1]) * time.Millisecond, nil
	}
	return true, 0, nil
}

// Release gives the role up, if it is that name's.
func (s *Store) Release(ctx context.Context, name string) error {
	if err := s.release.Run(ctx, s.client, []string{RoleKey}, name).Err(); err != nil {
		return fmt.Errorf("release %s: %w", RoleKey, err)
	}
	return nil
}

// Remembered is what the role passes from one holder to the next.
type Remembered struct {
	Beats  map[string]heartbeat.Beat // by worker id: where it served, who it was and where it answered
	Queues []string
}

// Recall reads what earlier holders remembered.
func (s *Store) Recall(ctx context.Context) (Remembered, error) {
	roster, err := s.client.HGetAll(ctx, rosterKey).Result()
	if err != nil {
		return Remembered{}, fmt.Errorf("read %s: %w", rosterKey, err)
	}
	queues, err := s.Queues(ctx)
	if err != nil {
		return Remembered{}, err
	}
	r := Remembered{Beats: make(map[string]heartbeat.Beat, len(roster)), Queues: queues}
	for id, text := range roster {
		var b rosterEntry
		if json.Unmarshal([]byte(text), &b) == nil { // else it was not ours; it is overwritten or dropped
			r.Beats[id] = b.beat()
		}
	}
	return r, nil
}

// Note remembers workers and queues, and drops workers that are gone.
func (s *Store) Note(ctx context.Context, beats map[string]heartbeat.Beat, gone, queues []string) error {
	fields := make([]string, 0, 2*len(beats))
	for id, beat := range beats {
		text, err := json.Marshal(newRosterEntry(beat))
		if err != nil {
			return fmt.Errorf("encode worker %s: %w", id, err)
		}
		fields = append(fields, id, string(text))
	}
	now := time.Now()
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for chunk := range slices.Chunk(fields, 2*rosterChunk) {
			p.HSet(ctx, rosterKey, chunk)
		}
		for chunk := range slices.Chunk(gone, rosterChunk) {
			p.HDel(ctx, rosterKey, chunk...)
		}
		for chunk := range slices.Chunk(queues, rosterChunk) {
			members := make([]redis.Z, len(chunk))
			for i, q := range chunk {
				members[i] = redis.Z{Score: float64(now.Unix()), Member: q}
			}
			p.ZAdd(ctx, queuesKey, members...)
		}
		p.ZRemRangeByScore(ctx, queuesKey, "-inf", strconv.FormatInt(now.Add(-queuesKept).Unix(), 10))
		return nil
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", rosterKey, err)
	}
	return nil
}

// rosterEntry is the part of a beat by which a death can be proven and tasks be recovered.
type rosterEntry struct {
	Nonce        string   `json:"nonce"`
	Host         string   `json:"host"`
	PID          int      `json:"pid"`
	PIDStart     uint64   `json:"pid_start,string"`
	BootID       string   `json:"boot_id"`
	PIDNamespace string   `json:"pid_namespace"`
	Address      string   `json:"address"`
	Queues       []string `json:"queues"`
	Interval     int64    `json:"interval_ms"`
	TTL          int64    `json:"ttl_ms"`
}

func newRosterEntry(b heartbeat.Beat) rosterEntry {
	return rosterEntry{
		Nonce: b.Nonce, Host: b.Host, PID: b.PID, PIDStart: b.PIDStart, BootID: b.BootID, PIDNamespace: b.PIDNamespace,
		Address: b.Address, Queues: b.Queues, Interval: b.Interval.Milliseconds(), TTL: b.TTL.Milliseconds(),
	}
}

func (e rosterEntry) beat() heartbeat.Beat {
	return heartbeat.Beat{
		Address: e.Address, Queues: e.Queues,
		Interval: time.Duration(e.Interval) * time.Millisecond, TTL: time.Duration(e.TTL) * time.Millisecond,
		Identity: heartbeat.Identity{
			Nonce: e.Nonce, Host: e.Host, PID: e.PID, PIDStart: e.PIDStart, BootID: e.BootID, PIDNamespace: e.PIDNamespace,
		},
	}
}
