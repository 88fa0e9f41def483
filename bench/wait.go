package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// Series of task ids that tell what a task is for.
const (
	seriesFill   = 0
	seriesWarm   = 0x57000000
	seriesSample = 0x5a000000
)

// watcher hears of results from Redis itself, by keyspace notifications, so that waiting for one costs nothing.
type watcher struct {
	pubsub *redis.PubSub
	prefix string // of the channel, before the id
	done   chan struct{}

	mu      sync.Mutex
	arrived map[string]time.Time
	news    chan struct{} // holds one when there was an arrival
}

// watch hears of the results of one series of tasks.
func watch(ctx context.Context, s *site, d dialect, series int) (*watcher, error) {
	if err := s.client.ConfigSet(ctx, "notify-keyspace-events", "K$t").Err(); err != nil {
		return nil, fmt.Errorf("switch notifications on: %w", err)
	}
	w := &watcher{
		prefix: "__keyspace@0__:" + d.resultKey(""), done: make(chan struct{}), arrived: map[string]time.Time{},
		news: make(chan struct{}, 1),
	}
	w.pubsub = s.client.PSubscribe(ctx, w.prefix+taskID(series, 0)[:8]+"*")
	if _, err := w.pubsub.Receive(ctx); err != nil {
		_ = w.pubsub.Close()
		return nil, fmt.Errorf("subscribe to notifications: %w", err)
	}
	messages := w.pubsub.Channel(redis.WithChannelSize(10_000), redis.WithChannelHealthCheckInterval(0))
	go func() {
		defer close(w.done)
		for m := range messages {
			now := time.Now()
			w.mu.Lock()
			if id := strings.TrimPrefix(m.Channel, w.prefix); w.arrived[id].IsZero() {
				w.arrived[id] = now
			}
			w.mu.Unlock()
			select {
			case w.news <- struct{}{}:
			default:
			}
		}
	}()
	return w, nil
}

func (w *watcher) stop() {
	_ = w.pubsub.Close()
	<-w.done
}

// await waits until so many results have arrived.
func (w *watcher) await(ctx context.Context, n int) error {
	const limit = time.Minute
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		w.mu.Lock()
		have := len(w.arrived)
		w.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-w.news:
		case <-timer.C:
			return fmt.Errorf("%d of %d results have arrived within %s", have, n, limit)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waits lists how long each of these tasks took, in milliseconds.
func (w *watcher) waits(enqueued map[string]time.Time) []float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []float64
	for id, at := range enqueued {
		if arrived, ok := w.arrived[id]; ok {
			out = append(out, float64(arrived.Sub(at))/float64(time.Millisecond))
		}
	}
	return out
}

// push enqueues one task and returns when that began.
func push(ctx context.Context, s *site, d dialect, id string) (time.Time, error) {
	began := time.Now()
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		d.push(ctx, p, 0, id)
		return nil
	})
	if err != nil {
		return began, fmt.Errorf("enqueue: %w", err)
	}
	return began, nil
}

// warm gives a system that has just started some tasks, one at a time, and returns when they are done.
func warm(ctx context.Context, s *site, d dialect, n int) error {
	w, err := watch(ctx, s, d, seriesWarm)
	if err != nil {
		return err
	}
	defer w.stop()
	for i := range n {
		if _, err := push(ctx, s, d, taskID(seriesWarm, i)); err != nil {
			return err
		}
		if err := w.await(ctx, i+1); err != nil {
			return fmt.Errorf("warm up: %w", err)
		}
	}
	return nil
}

// running is a system that has started and waits for tasks.
type running struct {
	site      *site
	dialect   dialect
	processes []*programs.Process
	system    *system
}

// launch starts so many processes of a system on a Redis of their own.
func (b *bench) launch(ctx context.Context, sys *system, processes, warmUp int) (*running, error) {
	s, err := b.startRedis(ctx, 0)
	if err != nil {
		return nil, err
	}
	r := &running{site: s, dialect: sys.dialect(), system: sys}
	if err := r.dialect.prepare(ctx, s, "echo", smallPayload); err != nil {
		r.stop()
		return nil, err
	}
	for range processes {
		p, err := sys.start(ctx, s)
		if err != nil {
			r.stop()
			return nil, err
		}
		r.processes = append(r.processes, p)
	}
	if err := warm(ctx, s, r.dialect, warmUp); err != nil {
		err = fmt.Errorf("%w\n%s", err, r.processes[0].Tail())
		r.stop()
		return nil, err
	}
	return r, nil
}

// stop ends all processes at once.
func (r *running) stop() {
	var stopping sync.WaitGroup
	for _, p := range r.processes {
		stopping.Go(func() { p.Stop(r.system.signal) })
	}
	stopping.Wait()
	r.site.stop()
}
