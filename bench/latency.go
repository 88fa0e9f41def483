package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/timer"
)

// idleLatency enqueues one task at a time to an idle system and measures until its result is in Redis.
func (b *bench) idleLatency(ctx context.Context, sys *system, tasks int, gap time.Duration) (figures, error) {
	r, err := b.launch(ctx, sys, 1, 5)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	waits, err := r.oneByOne(ctx, tasks, gap)
	if err != nil {
		return nil, err
	}
	return latencies(waits), nil
}

func latencies(waits []float64) figures {
	return figures{latencyP50: percentile(waits, 50), latencyP99: percentile(waits, 99), taskCount: float64(len(waits))}
}

// oneByOne enqueues a task when the one before has been done for about the gap.
func (r *running) oneByOne(ctx context.Context, tasks int, gap time.Duration) ([]float64, error) {
	w, err := watch(ctx, r.site, r.dialect, seriesSample)
	if err != nil {
		return nil, err
	}
	defer w.stop()
	enqueued := map[string]time.Time{}
	for i := range tasks {
		// Not at equal distances, so that they keep no time with anything that a system does regularly.
		if err := timer.Sleep(ctx, gap/2+rand.N(gap)); err != nil {
			return nil, err
		}
		id := taskID(seriesSample, i)
		if enqueued[id], err = push(ctx, r.site, r.dialect, id); err != nil {
			return nil, err
		}
		if err := w.await(ctx, i+1); err != nil {
			return nil, err
		}
	}
	return w.waits(enqueued), nil
}

// halfLoad enqueues tasks at half of the rate at which the system has emptied a queue, every 2 ms as many as are due,
// and measures some of them from their enqueue until their result is in Redis.
func (b *bench) halfLoad(ctx context.Context, sys *system) (figures, error) {
	rate := b.rates["noop "+sys.name] / 2
	if rate == 0 {
		f, err := b.drain(ctx, sys, drainOptions{taskType: "echo", payload: smallPayload}, 1000)
		if err != nil {
			return nil, fmt.Errorf("trial: %w", err)
		}
		rate = f[tasksPerSecond] / 2
	}
	r, err := b.launch(ctx, sys, 1, 5)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	w, err := watch(ctx, r.site, r.dialect, seriesSample)
	if err != nil {
		return nil, err
	}
	defer w.stop()
	enqueued, err := r.offer(ctx, rate, time.Duration(2*b.options.seconds*float64(time.Second)))
	if err != nil {
		return nil, err
	}
	if err := w.await(ctx, len(enqueued)); err != nil {
		return nil, err
	}
	f := latencies(w.waits(enqueued))
	f[offered] = rate
	return f, nil
}

// offer enqueues at a rate for a time, and returns when those tasks were enqueued that are watched: at most one each
// tick, at a random place among those of the tick.
func (r *running) offer(ctx context.Context, rate float64, duration time.Duration) (map[string]time.Time, error) {
	const tick, watchEvery = 2 * time.Millisecond, 3
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	enqueued := map[string]time.Time{}
	sent := 0
	began := time.Now()
	for n := 0; time.Since(began) < duration; n++ {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		due := int(time.Since(began).Seconds()*rate) - sent
		if due <= 0 {
			continue
		}
		watched := -1
		if len(enqueued) <= n/watchEvery {
			watched = rand.N(due)
		}
		at := time.Now()
		_, err := r.site.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := range due {
				id := taskID(seriesFill, sent+i)
				if i == watched {
					id = taskID(seriesSample, sent+i)
					enqueued[id] = at
				}
				r.dialect.push(ctx, p, 0, id)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("enqueue: %w", err)
		}
		sent += due
	}
	return enqueued, nil
}

// firstResult measures from just before a system is started until the result of a task that waits for it is in Redis.
func (b *bench) firstResult(ctx context.Context, sys *system) (figures, error) {
	s, err := b.startRedis(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	d := sys.dialect()
	if err := d.prepare(ctx, s, "echo", smallPayload); err != nil {
		return nil, err
	}
	w, err := watch(ctx, s, d, seriesSample)
	if err != nil {
		return nil, err
	}
	defer w.stop()
	id := taskID(seriesSample, 0)
	if _, err := push(ctx, s, d, id); err != nil {
		return nil, err
	}
	began := time.Now()
	p, err := sys.start(ctx, s)
	if err != nil {
		return nil, err
	}
	defer p.Stop(sys.signal)
	if err := w.await(ctx, 1); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, p.Tail())
	}
	return figures{startTime: w.waits(map[string]time.Time{id: began})[0]}, nil
}
