package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// drainOptions is what stands in the queue and how it is emptied.
type drainOptions struct {
	taskType, payload string
	processes         int           // how many workers; 0: one
	delay             time.Duration // to Redis and back; 0: loopback
	window            int           // only so many of the tasks are measured; 0: all
	limit             time.Duration // the measurement ends after so long even if the window is not through; 0: it fails
	// during does and measures something else meanwhile, until the function that it returns is called.
	during func(ctx context.Context, sys *system, f figures) func()
}

// drainLimit is how long a drain may take before it has failed.
const drainLimit = 4 * time.Minute

// drain fills a queue, starts the system, and measures from the first tasks that are done to the last.
func (b *bench) drain(ctx context.Context, sys *system, o drainOptions, tasks int) (figures, error) {
	s, err := b.startRedis(ctx, o.delay)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	m := meter{site: s, system: sys, dialect: sys.dialect(), tasks: tasks}
	empty, full, err := m.queueUp(ctx, o)
	if err != nil {
		return nil, err
	}
	defer m.stop()
	if err := m.start(ctx, max(1, o.processes)); err != nil {
		return nil, err
	}
	first := 1
	if o.processes > 1 {
		first = tasks / 4 // all of them work by then
	}
	if err := m.await(ctx, first, drainLimit); err != nil {
		return nil, err
	}
	f := figures{pendingBytes: (full.memory - empty.memory) / float64(tasks)}
	if o.delay > 0 {
		f[delayMeasured] = s.roundTrip(ctx)
	}
	if o.during != nil {
		stop := o.during(ctx, sys, f)
		defer stop()
	}
	after, whole, err := m.measure(ctx, o, f)
	if err != nil || !whole {
		return f, err
	}
	f[finishedBytes] = (after.redis.memory - empty.memory) / float64(tasks)
	return f, checkResults(ctx, s, m.dialect, tasks)
}

// queueUp fills the queue and says what Redis was like before and after.
func (m *meter) queueUp(ctx context.Context, o drainOptions) (empty, full load, err error) {
	if err := m.dialect.prepare(ctx, m.site, o.taskType, o.payload); err != nil {
		return empty, full, err
	}
	if empty, err = m.site.info(ctx); err != nil {
		return empty, full, err
	}
	if err := fill(ctx, m.site, m.dialect, m.system.queueCount(), m.tasks, len(o.payload)); err != nil {
		return empty, full, err
	}
	full, err = m.site.info(ctx)
	return empty, full, err
}

// start starts so many workers. Several begin together: the queue is paused until all of them are there.
func (m *meter) start(ctx context.Context, workers int) error {
	const paused = "asynq:{" + queueName + "}:paused"
	if workers > 1 {
		if err := m.site.client.Set(ctx, paused, time.Now().Unix(), 0).Err(); err != nil {
			return fmt.Errorf("pause the queue: %w", err)
		}
	}
	for range workers {
		p, err := m.system.start(ctx, m.site)
		if err != nil {
			return err
		}
		m.workers = append(m.workers, p)
	}
	if workers == 1 {
		return nil
	}
	if err := awaitRegistered(ctx, m.site, m.workers); err != nil {
		return err
	}
	if err := m.site.client.Del(ctx, paused).Err(); err != nil {
		return fmt.Errorf("resume the queue: %w", err)
	}
	return nil
}

func (m *meter) stop() {
	for _, p := range m.workers {
		p.Stop(m.system.signal)
	}
}

// measure adds what the tasks take from now on, and says whether these were all that were left.
func (m *meter) measure(ctx context.Context, o drainOptions, f figures) (after reading, whole bool, err error) {
	before, err := m.read(ctx, true)
	if err != nil {
		return after, false, err
	}
	want, limit := m.tasks, drainLimit
	if o.window > 0 {
		want = min(m.tasks, before.done+o.window)
	}
	if o.limit > 0 {
		limit = o.limit
	}
	if err := m.await(ctx, want, limit); err != nil && (o.limit == 0 || ctx.Err() != nil) {
		return after, false, err
	}
	if after, err = m.read(ctx, false); err != nil {
		return after, false, err
	}
	return after, want == m.tasks && o.limit == 0, m.figures(f, before, after)
}

// meter reads what a system has done and what that took.
type meter struct {
	site    *site
	system  *system
	dialect dialect
	workers []*programs.Process
	tasks   int
}

// reading is what a meter shows at one time.
type reading struct {
	at      time.Time
	done    int
	usage   usage
	redis   load
	mallocs float64 // objects that the worker has allocated; 0: it does not tell
}

// await waits until so many tasks are done.
func (m *meter) await(ctx context.Context, want int, limit time.Duration) error {
	done := 0
	err := programs.Await(ctx, limit, 2*time.Millisecond, func() (bool, error) {
		var err error
		if done, err = m.count(ctx); err != nil {
			return false, err
		}
		if done >= want {
			return true, nil
		}
		for _, p := range m.workers {
			if err := p.Failed(); err != nil {
				return false, err
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("%d of %d tasks are done: %w\n%s", done, m.tasks, err, m.workers[0].Tail())
	}
	return nil
}

func (m *meter) count(ctx context.Context) (int, error) {
	return m.dialect.done(ctx, m.site, m.tasks)
}

// read takes a reading. The scrape that tells the allocations costs something, so it stands outside of what is timed.
func (m *meter) read(ctx context.Context, first bool) (reading, error) {
	var r reading
	var err error
	if first {
		r.mallocs = m.mallocs(ctx)
	}
	if r.redis, err = m.site.info(ctx); err != nil {
		return r, err
	}
	r.usage = usageOf(m.workers)
	if r.done, err = m.count(ctx); err != nil {
		return r, err
	}
	r.at = time.Now()
	if !first {
		r.mallocs = m.mallocs(ctx)
	}
	return r, nil
}

// mallocs asks a worker how many objects it has allocated; of several workers none is asked.
func (m *meter) mallocs(ctx context.Context) float64 {
	if m.system.metrics == "" || len(m.workers) != 1 {
		return 0
	}
	text, _, err := scrape(ctx, m.system.metrics)
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(text, "\ngo_memstats_mallocs_total ")
	value, _, _ := strings.Cut(rest, "\n")
	return number(value)
}

// errTooFew says that the tasks were done too soon to measure.
var errTooFew = errors.New("too few tasks")

// figures computes what a task took between two readings.
func (m *meter) figures(f figures, before, after reading) error {
	n := float64(after.done - before.done)
	if n <= 0 {
		return fmt.Errorf("%w: all %d were done before the first reading", errTooFew, m.tasks)
	}
	micros := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / n }
	f[taskCount] = n
	f[tasksPerSecond] = n / after.at.Sub(before.at).Seconds()
	if after.usage.workerPeak > 0 {
		f[workerCPU] = micros(after.usage.worker - before.usage.worker)
	}
	f[pythonCPU] = micros(after.usage.python - before.usage.python)
	f[redisCPU] = micros(after.redis.cpu - before.redis.cpu)
	f[totalCPU] = f[workerCPU] + f[pythonCPU] + f[redisCPU]
	f[redisCalls] = (after.redis.calls - before.redis.calls) / n
	f[redisScripts] = (after.redis.scripts - before.redis.scripts) / n
	f[redisReads] = (after.redis.reads - before.redis.reads) / n
	f[pythonPeak] = after.usage.pythonPeak / (1 << 20)
	if after.usage.workerPeak > 0 {
		f[workerPeak] = after.usage.workerPeak / (1 << 20)
		f[switches] = (after.usage.switches - before.usage.switches) / n
	}
	if before.mallocs > 0 && after.mallocs > 0 {
		f[allocations] = (after.mallocs - before.mallocs) / n
	}
	return nil
}
