package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/health"
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

const (
	// manyQueues is from how many queues on their depths are read less often, since a reading costs Redis about 15 µs
	// for each.
	manyQueues      = 200
	depthMaxAgeMany = 5 * time.Second
	// namesMaxAge is how old the list of queue names may be.
	namesMaxAge = 2 * time.Second
	// serversMaxAge is how old the list of plain asynq servers may be: each writes what it says of itself every 5 s.
	serversMaxAge = 5 * time.Second
)

// systemQueues reads the depths of all queues: those that workers serve or have served, this process's own, and those
// that anybody has enqueued to. It is cheap to ask again and again, and safe for concurrent use.
type systemQueues struct {
	client redis.UniversalClient
	store  *fleet.Store
	own    []string

	mu      sync.Mutex // guards the rest
	read    time.Time  // when the names were last read
	names   []string
	more    int // queues beyond the limit of how many are read
	depths  *queue.Depths
	asked   time.Time // when the servers were last read
	servers map[string]int
}

// Read implements depthReader.
func (s *systemQueues) Read(ctx context.Context) (map[string]status.Depth, error) {
	depths, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	return depths.Read(ctx)
}

// queues returns the names of the queues that are read.
func (s *systemQueues) queues(ctx context.Context) ([]string, error) {
	if _, err := s.current(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names, nil
}

// unread returns how many queues there are beyond those that are read.
func (s *systemQueues) unread() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.more
}

func (s *systemQueues) current(ctx context.Context) (*queue.Depths, error) {
	s.mu.Lock()
	fresh, depths := time.Since(s.read) < namesMaxAge, s.depths
	s.mu.Unlock()
	if fresh {
		return depths, nil
	}
	served, err := s.store.Queues(ctx)
	if err != nil {
		return nil, err
	}
	all, more, err := s.store.AllQueues(ctx)
	if err != nil {
		return nil, err
	}
	names := slices.Concat(s.own, served, all)
	slices.Sort(names)
	names = slices.Compact(names)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read, s.more = time.Now(), more
	if s.depths == nil || !slices.Equal(names, s.names) {
		keep := depthMaxAge
		if len(names) > manyQueues {
			keep = depthMaxAgeMany
		}
		s.names, s.depths = names, queue.NewDepths(s.client, names, keep)
	}
	return s.depths, nil
}

// asynqServers returns by queue how many plain asynq servers serve it.
func (s *systemQueues) asynqServers(ctx context.Context) (map[string]int, error) {
	s.mu.Lock()
	fresh, servers := time.Since(s.asked) < serversMaxAge, s.servers
	s.mu.Unlock()
	if fresh {
		return servers, nil
	}
	servers, err := queue.AsynqServers(ctx, s.client)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked, s.servers = time.Now(), servers
	return servers, nil
}

// services tells by queue who serves it, given the workers. Asynq's servers are read only where these workers do not serve a
// queue, or do not take something that it has.
func (s *systemQueues) services(ctx context.Context, workers []fleet.Worker, depths map[string]status.Depth) (map[string]status.Service, error) {
	services := fleet.Services(workers, nil)
	for q, d := range depths {
		if services[q].Stranded(d) > 0 || !services[q].Served() {
			servers, err := s.asynqServers(ctx)
			return fleet.Services(workers, servers), err
		}
	}
	return services, nil
}

// stranded returns by queue how many tasks wait for nobody, for the metrics of the leader; nil while this process is not
// the leader, or cannot read who serves them.
func (s *systemQueues) stranded(ctx context.Context, service *fleet.Service) (map[string]int64, error) {
	workers, read := service.AllWorkers()
	if workers == nil {
		return nil, nil
	}
	if err := service.Stale(read); err != nil {
		return nil, err
	}
	depths, err := s.Read(ctx)
	if err != nil {
		return nil, err
	}
	services, err := s.services(ctx, workers, depths)
	if err != nil {
		return nil, err
	}
	stranded := make(map[string]int64, len(depths))
	for q, d := range depths {
		if d.Err == nil { // else it is not known
			stranded[q] = services[q].Stranded(d)
		}
	}
	return stranded, nil
}

// states says by queue which are served by nobody, and what is wrong with those of which tasks wait for nobody. Where the
// workers cannot be read, it says so of every queue.
func (s *systemQueues) states(ctx context.Context, workers []fleet.Worker, err error, depths map[string]status.Depth) map[string]health.QueueState {
	var services map[string]status.Service
	if err == nil {
		services, err = s.services(ctx, workers, depths)
	}
	states := make(map[string]health.QueueState, len(depths))
	for q, d := range depths {
		switch {
		case d.Err != nil:
		case err == nil:
			states[q] = health.QueueState{Fault: services[q].Fault(d), Unserved: !services[q].Served()}
		case !d.Paused || d.Aggregating > 0:
			states[q] = health.QueueState{Fault: fmt.Sprintf("it is not known whether a worker serves it: %v", err)}
		}
	}
	return states
}
