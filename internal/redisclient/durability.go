package redisclient

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Persistence is how a server keeps its data over a restart.
type Persistence string

// The kinds of persistence. A work-alike that does not tell has the empty one.
const (
	AppendOnly  Persistence = "append-only file"
	Snapshots   Persistence = "snapshots"
	NotPersists Persistence = "none" // no append-only file, and no snapshot since the server has been started
)

// Durability is how far a server keeps what it has accepted, as far as it tells.
type Durability struct {
	// EvictionPolicy is maxmemory-policy; empty: unknown.
	EvictionPolicy string
	// Limited says that there is a maxmemory, so that the policy matters.
	Limited     bool
	Persistence Persistence
}

// Evicts reports whether the server deletes keys when its memory is full.
func (d Durability) Evicts() bool {
	return d.Limited && d.EvictionPolicy != "" && d.EvictionPolicy != "noeviction"
}

// LosesTasks reports whether accepted tasks can be lost although nobody deletes them.
func (d Durability) LosesTasks() bool { return d.Evicts() || d.Persistence == NotPersists }

// ReadDurability asks the server with INFO, since managed ones refuse CONFIG. On a cluster every master is asked, and
// the answer is that of one that loses tasks, if any does.
func ReadDurability(ctx context.Context, client redis.UniversalClient) (Durability, error) {
	cluster, ok := client.(*redis.ClusterClient)
	if !ok {
		return readDurability(ctx, client)
	}
	var mu sync.Mutex // guards worst
	var worst Durability
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		d, err := readDurability(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		if err == nil && !worst.LosesTasks() {
			worst = d
		}
		return err
	})
	return worst, err
}

func readDurability(ctx context.Context, client redis.UniversalClient) (Durability, error) {
	// Without a section: older servers and work-alikes know only one at a time.
	text, err := client.Info(ctx).Result()
	if err != nil {
		return Durability{}, fmt.Errorf("redis INFO: %w", err)
	}
	return parseDurability(text), nil
}

func parseDurability(info string) Durability {
	fields := make(map[string]string)
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(fields[name], 10, 64) // 0 where it is not told
		return n
	}
	d := Durability{EvictionPolicy: fields["maxmemory_policy"], Limited: number("maxmemory") > 0}
	// A server counts as saved when it starts, and it takes a moment to tell the time of both.
	const moment = 2
	started := number("server_time_usec")/1_000_000 - number("uptime_in_seconds")
	switch {
	case fields["aof_enabled"] == "1":
		d.Persistence = AppendOnly
	case fields["aof_enabled"] == "" || fields["rdb_last_save_time"] == "":
	case number("rdb_saves") > 0, number("rdb_last_load_keys_loaded") > 0, number("rdb_last_save_time") > started+moment:
		d.Persistence = Snapshots
	default:
		d.Persistence = NotPersists
	}
	return d
}
