package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// listChunk is how many workers are read in one pipeline.
const listChunk = 500

// Worker is an entry of the registry.
type Worker struct {
	ID    string
	Alive bool // its heartbeat exists
	Beat  Beat // zero unless Alive

	// TTL is what is left of the heartbeat's life, Age what has elapsed of it since it was last written, both as Redis
	// counts; zero unless Alive. Age is zero too when the heartbeat does not tell its full TTL.
	TTL, Age time.Duration

	// Expiry is when the heartbeat expires or has expired, on Redis' clock and to the second, as of its last regular
	// beat.
	Expiry time.Time

	// Err says what is wrong with the heartbeat: fields that could not be read (Beat has the others), or a key that is
	// no heartbeat.
	Err error
}

// List reads the registry: every worker that has a heartbeat, and those whose heartbeat has expired within the last
// hour on Redis' clock, by the time of expiry. Older ones leave the registry when another worker beats, and where none does
// they are not listed all the same.
func List(ctx context.Context, client redis.UniversalClient) ([]Worker, error) {
	var now *redis.TimeCmd
	var all *redis.ZSliceCmd
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		now, all = p.Time(ctx), p.ZRangeWithScores(ctx, RegistryKey, 0, -1)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the registry %s: %w", RegistryKey, err)
	}
	entries, oldest := all.Val(), now.Val().Add(-keepLapsed)
	workers := make([]Worker, 0, len(entries))
	for len(entries) > 0 {
		n := min(len(entries), listChunk)
		chunk, err := readChunk(ctx, client, entries[:n])
		if err != nil {
			return nil, err
		}
		workers = append(workers, chunk...)
		entries = entries[n:]
	}
	return slices.DeleteFunc(workers, func(w Worker) bool { return !w.Alive && !w.Expiry.After(oldest) }), nil
}

func readChunk(ctx context.Context, client redis.UniversalClient, entries []redis.Z) ([]Worker, error) {
	type replies struct {
		id   string
		hash *redis.MapStringStringCmd
		ttl  *redis.DurationCmd
	}
	cmds := make([]replies, 0, len(entries))
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, e := range entries {
			id, _ := e.Member.(string)
			cmds = append(cmds, replies{id, p.HGetAll(ctx, Key(id)), p.PTTL(ctx, Key(id))})
		}
		return nil
	})
	// A key of a wrong type spoils its own reply only; anything that is not an answer of Redis spoils them all.
	var answer redis.Error
	if err != nil && !errors.As(err, &answer) {
		return nil, fmt.Errorf("read the heartbeats: %w", err)
	}
	workers := make([]Worker, 0, len(entries))
	for i, c := range cmds {
		w := Worker{ID: c.id, Expiry: time.Unix(int64(entries[i].Score), 0).UTC()}
		switch err := errors.Join(c.hash.Err(), c.ttl.Err()); {
		case err != nil:
			w.Err = fmt.Errorf("read %s: %w", Key(c.id), err)
		case len(c.hash.Val()) == 0 || c.ttl.Val() == pttlMissing:
			// Expired: it has been silent for its whole TTL.
		case c.ttl.Val() == pttlForever:
			w.Err = fmt.Errorf("%s never expires: not a worker's heartbeat", Key(c.id))
		default:
			w.Alive, w.TTL = true, c.ttl.Val()
			w.Beat, w.Err = ParseBeat(c.hash.Val())
			if w.Beat.TTL > 0 {
				w.Age = max(w.Beat.TTL-w.TTL, 0)
			}
		}
		workers = append(workers, w)
	}
	return workers, nil
}
