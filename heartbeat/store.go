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

// keepLapsed is how long the registry remembers a worker whose heartbeat has
// expired, so that it can be shown as dead rather than vanish.
const keepLapsed = time.Hour

// owner is the process that a heartbeat key belongs to; the zero owner is the
// caller.
type owner struct {
	foreign   bool
	nonce     string
	host, pid string
}

// writeRequest is one guarded write of the hash.
type writeRequest struct {
	fields   []string
	ttl      time.Duration
	replace  string // nonce of a dead predecessor whose hash may be replaced
	claim    bool   // leave a hash without any nonce alone
	register bool   // enter the worker into the registry as well
}

// store is what the Writer needs of Redis: the hash of one worker under the
// nonce of one process.
type store interface {
	write(ctx context.Context, r writeRequest) (owner, error)
	read(ctx context.Context) (hash map[string]string, ttl time.Duration, err error)
	remove(ctx context.Context) error
}

var (
	//go:embed write.lua
	writeSource string
	//go:embed remove.lua
	removeSource string
	//go:embed register.lua
	registerSource string
)

type redisStore struct {
	client                         redis.UniversalClient
	id, nonce                      string
	writing, removing, registering *redis.Script
}

func newRedisStore(client redis.UniversalClient, id, nonce string) *redisStore {
	return &redisStore{
		client: client, id: id, nonce: nonce,
		writing:     redis.NewScript(writeSource),
		removing:    redis.NewScript(removeSource),
		registering: redis.NewScript(registerSource),
	}
}

func (s *redisStore) write(ctx context.Context, r writeRequest) (owner, error) {
	claim := "0"
	if r.claim {
		claim = "1"
	}
	args := make([]any, 0, 4+len(r.fields))
	args = append(args, s.nonce, r.replace, strconv.FormatInt(r.ttl.Milliseconds(), 10), claim)
	for _, f := range r.fields {
		args = append(args, f)
	}
	reply, err := s.writing.Run(ctx, s.client, []string{Key(s.id)}, args...).Slice()
	if err != nil {
		return owner{}, fmt.Errorf("write %s: %w", Key(s.id), err)
	}
	if len(reply) == 4 {
		o := owner{foreign: true}
		o.nonce, _ = reply[1].(string)
		o.host, _ = reply[2].(string)
		o.pid, _ = reply[3].(string)
		return o, nil
	}
	if !r.register {
		return owner{}, nil
	}
	// A command of its own: on a cluster the registry lives in another slot.
	err = s.registering.Run(ctx, s.client, []string{RegistryKey}, s.id,
		int64(math.Ceil(r.ttl.Seconds())), int64(keepLapsed.Seconds())).Err()
	if err != nil {
		return owner{}, fmt.Errorf("write %s: %w", RegistryKey, err)
	}
	return owner{}, nil
}

// read answers a nil hash when there is none, and a negative ttl when the key
// has none.
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
	gone, err := s.removing.Run(ctx, s.client, []string{Key(s.id)}, s.nonce).Int()
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
