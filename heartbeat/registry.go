package heartbeat

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/registry_remove.lua
var registryRemoveSource string

// Gone reports whether the process that other names is proven not to run any more. It can be proven of processes of
// self's host and PID namespace only, so false says nothing.
func Gone(self, other Identity) bool { return livenessOf(self, other) == livenessGone }

// Get reads one entry of the registry. The second result is false when the worker is not in it.
func Get(ctx context.Context, client redis.UniversalClient, id string) (Worker, bool, error) {
	score, err := client.ZScore(ctx, RegistryKey, id).Result()
	if errors.Is(err, redis.Nil) {
		return Worker{}, false, nil
	}
	if err != nil {
		return Worker{}, false, fmt.Errorf("look %s up in %s: %w", id, RegistryKey, err)
	}
	workers, err := readChunk(ctx, client, []redis.Z{{Score: score, Member: id}})
	if err != nil {
		return Worker{}, false, err
	}
	return workers[0], true, nil
}

// Forget deletes what a dead worker left in the registry: its heartbeat, if it still has one, and its entry. w is the
// worker as [List] or [Get] read it; when another process has the id by now, or this one has written a heartbeat since,
// that part is left alone. Forgetting twice does no harm.
func Forget(ctx context.Context, client redis.UniversalClient, w Worker) error {
	if w.Beat.Nonce != "" {
		gone, err := redis.NewScript(removeSource).Run(ctx, client, []string{Key(w.ID)}, w.Beat.Nonce).Int()
		if err != nil {
			return fmt.Errorf("delete %s: %w", Key(w.ID), err)
		}
		if gone == 0 { // a successor's
			return nil
		}
	}
	err := redis.NewScript(registryRemoveSource).Run(ctx, client, []string{RegistryKey}, w.ID, w.Expiry.Unix()).Err()
	if err != nil {
		return fmt.Errorf("remove %s from %s: %w", w.ID, RegistryKey, err)
	}
	return nil
}
