package heartbeat

import (
	"context"
	_ "embed" // the scripts
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// keepLapsed is how long the registry keeps a worker whose heartbeat has expired, so that it can be shown as dead
// rather than vanish.
const keepLapsed = time.Hour

// holder is another process that a heartbeat key belongs to.
type holder struct {
	nonce     string // empty when the hash has none
	host, pid string
}

// writeRequest is one guarded write of the hash.
type writeRequest struct {
	fields   []string
	ttl      time.Duration
	replace  string // nonce of a dead predecessor whose hash may be replaced
	strict   bool   // leave a hash without any nonce alone too
	register bool   // the worker is put into the registry as well
}

// store is what the Writer needs of Redis: the hash of one worker under the nonce of one process.
type store interface {
	// write returns the other process that has the key, in which case nothing was written; nil when the key is the
	// caller's.
	write(ctx context.Context, r writeRequest) (*holder, error)
	// register puts the worker into the registry.
	register(ctx context.Context, ttl time.Duration) error
	read(ctx context.Context) (hash map[string]string, ttl time.Duration, err error)
	remove(ctx context.Context) error
}

var (
	//go:embed lua/write.lua
	writeSource string
	//go:embed lua/remove.lua
	removeSource string
	//go:embed lua/registry_add.lua
	registryAddSource string
)

type redisStore struct {
	client                              redis.UniversalClient
	id, nonce                           string
	writeLua, removeLua, registryAddLua *redis.Script
}

func newRedisStore(client redis.UniversalClient, id, nonce string) *redisStore {
	return &redisStore{
		client: client, id: id, nonce: nonce,
		writeLua:       redis.NewScript(writeSource),
		removeLua:      redis.NewScript(removeSource),
		registryAddLua: redis.NewScript(registryAddSource),
	}
}

func (s *redisStore) write(ctx context.Context, r writeRequest) (*holder, error) {
	strict := "0"
	if r.strict {
		strict = "1"
	}
	args := make([]any, 0, 4+len(r.fields))
	args = append(args, s.nonce, r.replace, strconv.FormatInt(r.ttl.Milliseconds(), 10), strict)
	for _, f := range r.fields {
		args = append(args, f)
	}
	reply, err := s.writeLua.Run(ctx, s.client, []string{Key(s.id)}, args...).Slice()
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", Key(s.id), err)
	}
	if len(reply) == 4 {
		other := &holder{}
		other.nonce, _ = reply[1].(string)
		other.host, _ = reply[2].(string)
		other.pid, _ = reply[3].(string)
		return other, nil
	}
	return nil, nil
}

// register is a command of its own: on a cluster the registry lives in another slot.
func (s *redisStore) register(ctx context.Context, ttl time.Duration) error {
	err := s.registryAddLua.Run(ctx, s.client, []string{RegistryKey}, s.id,
		int64(math.Ceil(ttl.Seconds())), int64(keepLapsed.Seconds())).Err()
	if err != nil {
		return fmt.Errorf("write %s: %w", RegistryKey, err)
	}
	return nil
}

// read returns a nil hash when there is none, and a negative ttl when the key has none.
func (s *redisStore) read(ctx context.Context) (map[string]string, time.Duration, error) {
	var hash *redis.MapStringStringCmd
	var ttl *redis.DurationCmd
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		hash = p.HGetAll(ctx, Key(s.id))
		ttl = p.PTTL(ctx, Key(s.id))
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", Key(s.id), err)
	}
	if len(hash.Val()) == 0 || ttl.Val() == pttlMissing {
		return nil, 0, nil
	}
	return hash.Val(), ttl.Val(), nil
}

func (s *redisStore) remove(ctx context.Context) error {
	gone, err := s.removeLua.Run(ctx, s.client, []string{Key(s.id)}, s.nonce).Int()
	if err != nil {
		return fmt.Errorf("delete %s: %w", Key(s.id), err)
	}
	if gone == 0 { // the successor keeps its place in the registry
		return nil
	}
	if err := s.client.ZRem(ctx, RegistryKey, s.id).Err(); err != nil {
		return fmt.Errorf("remove %s from %s: %w", s.id, RegistryKey, err)
	}
	return nil
}

// What go-redis makes of PTTL's -2 (no key) and -1 (no TTL).
const (
	pttlMissing = -2 * time.Nanosecond
	pttlForever = -1 * time.Nanosecond
)
