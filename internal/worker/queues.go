package worker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/queue"
)

// depthMaxAge is how old a queue's depth may be that a scrape, a probe or the dashboard is given.
const depthMaxAge = time.Second

// depthReader reads how many tasks are in which state in each queue; queue.Depths is one.
type depthReader interface {
	Read(ctx context.Context) (map[string]status.Depth, error)
}

// depthTimeout bounds how long the healthcheck command waits for the queues' depth, which is an extra to it.
const depthTimeout = 500 * time.Millisecond

// depthOf returns the number of pending tasks over all queues; nil where it is not known, because Redis does not answer
// by this health, does not tell it within depthTimeout, or cannot read one of the queues.
func depthOf(r depthReader, h status.Health) *int64 {
	if h.Broker != status.Healthy {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), depthTimeout)
	defer cancel()
	depths, err := r.Read(ctx)
	if err != nil {
		return nil
	}
	var pending int64
	for _, d := range depths {
		if d.Err != nil {
			return nil
		}
		pending += d.Pending
	}
	return &pending
}

// fleetDepths reads the depths of all queues that workers serve or have served, and of this process's own.
type fleetDepths struct {
	client redis.UniversalClient
	store  *fleet.Store
	own    []string

	mu     sync.Mutex // guards the rest
	read   time.Time  // when the names were last read
	names  []string
	depths *queue.Depths
}

// namesMaxAge is how old the list of queue names may be.
const namesMaxAge = 2 * time.Second

// Read implements depthReader.
func (f *fleetDepths) Read(ctx context.Context) (map[string]status.Depth, error) {
	depths, err := f.current(ctx)
	if err != nil {
		return nil, err
	}
	return depths.Read(ctx)
}

// queues returns the names of the queues that are read.
func (f *fleetDepths) queues(ctx context.Context) ([]string, error) {
	if _, err := f.current(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.names, nil
}

func (f *fleetDepths) current(ctx context.Context) (*queue.Depths, error) {
	f.mu.Lock()
	fresh, depths := time.Since(f.read) < namesMaxAge, f.depths
	f.mu.Unlock()
	if fresh {
		return depths, nil
	}
	served, err := f.store.Queues(ctx)
	if err != nil {
		return nil, err
	}
	names := slices.Concat(f.own, served)
	slices.Sort(names)
	names = slices.Compact(names)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read = time.Now()
	if f.depths == nil || !slices.Equal(names, f.names) {
		f.names, f.depths = names, queue.NewDepths(f.client, names, depthMaxAge)
	}
	return f.depths, nil
}
