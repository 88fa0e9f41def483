package fleet

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
)

// Keys of the fleet in Redis.
const (
	LeaderKey     = "runqy:fleet:checker" // which process is the leader: "<worker id>|<nonce>"; it expires with the lease
	checkpointKey = "runqy:fleet:roster"  // hash: what the leader must know of a worker after its heartbeat is gone
	queuesKey     = "runqy:fleet:queues"  // zset: queues that workers have served, by when that was last seen (unix s)
	deathsKey     = "runqy:fleet:deaths"  // hash: which processes of workers were found dead within the last hour
	allQueuesKey  = "asynq:queues"        // asynq's set of all queues that were ever enqueued to
)

// MaxQueues bounds how many of all queues are looked at, beside those that workers serve or have served lately.
const MaxQueues = 2000

//go:embed lua/lease_acquire.lua
var leaseAcquireLua string

//go:embed lua/lease_release.lua
var leaseReleaseLua string

//go:embed lua/death_record.lua
var deathRecordLua string

// Store is the fleet's part of Redis. It is safe for concurrent use.
type Store struct {
	client                        redis.UniversalClient
	acquire, release, recordDeath *redis.Script
}

// NewStore returns the Store behind a client, which should have ContextTimeoutEnabled.
func NewStore(client redis.UniversalClient) *Store {
	return &Store{
		client: client, acquire: redis.NewScript(leaseAcquireLua), release: redis.NewScript(leaseReleaseLua),
		recordDeath: redis.NewScript(deathRecordLua),
	}
}

// List implements Registry.
func (s *Store) List(ctx context.Context) ([]heartbeat.Worker, error) {
	return heartbeat.List(ctx, s.client)
}

// Get implements Registry.
func (s *Store) Get(ctx context.Context, id string) (heartbeat.Worker, bool, error) {
	return heartbeat.Get(ctx, s.client, id)
}

// Beats implements Registry.
func (s *Store) Beats(ctx context.Context, id, nonce string) (bool, error) {
	found, err := s.client.HGet(ctx, heartbeat.Key(id), "nonce").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, fmt.Errorf("read the heartbeat of worker %s: %w", id, err)
	}
	return err == nil && found == nonce, nil
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

// AllQueues returns the queues that anybody has ever enqueued to with asynq, sorted: at most MaxQueues of them, and how
// many more there are.
func (s *Store) AllQueues(ctx context.Context) (queues []string, more int, err error) {
	seen := make(map[string]bool)
	for cursor := uint64(0); ; {
		var names []string
		names, cursor, err = s.client.SScan(ctx, allQueuesKey, cursor, "", 1000).Result()
		if err != nil {
			return nil, 0, fmt.Errorf("read %s: %w", allQueuesKey, err)
		}
		for _, q := range names {
			if len(seen) < MaxQueues {
				seen[q] = true
			}
		}
		if cursor == 0 || len(seen) >= MaxQueues {
			break
		}
	}
	if len(seen) >= MaxQueues {
		all, err := s.client.SCard(ctx, allQueuesKey).Result()
		if err != nil {
			return nil, 0, fmt.Errorf("count %s: %w", allQueuesKey, err)
		}
		more = max(int(all)-len(seen), 0)
	}
	return slices.Sorted(maps.Keys(seen)), more, nil
}
