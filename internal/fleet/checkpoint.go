package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
)

// queuesKept is how long a queue stays in the checkpoint after its last worker.
const queuesKept = 7 * 24 * time.Hour

// checkpointChunk bounds how many workers are written in one command.
const checkpointChunk = 500

// Checkpoint is what one leader passes on to the next.
type Checkpoint struct {
	Beats  map[string]heartbeat.Beat // by worker id: which process it was, where it answered and which queues it served
	Queues []string                  // that a worker has served within the last week
}

// CheckpointStore keeps the checkpoint; [Store] is the real one.
type CheckpointStore interface {
	// LoadCheckpoint reads what the leaders so far have saved.
	LoadCheckpoint(ctx context.Context) (Checkpoint, error)
	// SaveCheckpoint adds or replaces workers and queues, and drops workers that are gone.
	SaveCheckpoint(ctx context.Context, beats map[string]heartbeat.Beat, gone, queues []string) error
}

// LoadCheckpoint implements CheckpointStore.
func (s *Store) LoadCheckpoint(ctx context.Context) (Checkpoint, error) {
	entries, err := s.client.HGetAll(ctx, checkpointKey).Result()
	if err != nil {
		return Checkpoint{}, fmt.Errorf("read %s: %w", checkpointKey, err)
	}
	queues, err := s.Queues(ctx)
	if err != nil {
		return Checkpoint{}, err
	}
	c := Checkpoint{Beats: make(map[string]heartbeat.Beat, len(entries)), Queues: queues}
	for id, text := range entries {
		var e checkpointEntry
		if json.Unmarshal([]byte(text), &e) == nil { // else it was not ours; it is overwritten or dropped
			c.Beats[id] = e.beat()
		}
	}
	return c, nil
}

// SaveCheckpoint implements CheckpointStore.
func (s *Store) SaveCheckpoint(ctx context.Context, beats map[string]heartbeat.Beat, gone, queues []string) error {
	fields := make([]string, 0, 2*len(beats))
	for id, beat := range beats {
		text, err := json.Marshal(newCheckpointEntry(beat))
		if err != nil {
			return fmt.Errorf("encode worker %s: %w", id, err)
		}
		fields = append(fields, id, string(text))
	}
	now := time.Now()
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for chunk := range slices.Chunk(fields, 2*checkpointChunk) {
			p.HSet(ctx, checkpointKey, chunk)
		}
		for chunk := range slices.Chunk(gone, checkpointChunk) {
			p.HDel(ctx, checkpointKey, chunk...)
		}
		for chunk := range slices.Chunk(queues, checkpointChunk) {
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
		return fmt.Errorf("write %s: %w", checkpointKey, err)
	}
	return nil
}

// checkpointEntry is the part of a beat by which a death can be proven and tasks be recovered.
type checkpointEntry struct {
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

func newCheckpointEntry(b heartbeat.Beat) checkpointEntry {
	return checkpointEntry{
		Nonce: b.Nonce, Host: b.Host, PID: b.PID, PIDStart: b.PIDStart, BootID: b.BootID, PIDNamespace: b.PIDNamespace,
		Address: b.Address, Queues: b.Queues, Interval: b.Interval.Milliseconds(), TTL: b.TTL.Milliseconds(),
	}
}

func (e checkpointEntry) beat() heartbeat.Beat {
	return heartbeat.Beat{
		Address: e.Address, Queues: e.Queues,
		Interval: time.Duration(e.Interval) * time.Millisecond, TTL: time.Duration(e.TTL) * time.Millisecond,
		Identity: heartbeat.Identity{
			Nonce: e.Nonce, Host: e.Host, PID: e.PID, PIDStart: e.PIDStart, BootID: e.BootID, PIDNamespace: e.PIDNamespace,
		},
	}
}
