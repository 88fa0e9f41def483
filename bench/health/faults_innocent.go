package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// innocents are workers that can work, whatever it looks like. long is how many seconds long is.
func innocents(long float64) []fault {
	seconds := map[string]any{"seconds": long}
	span := func(share float64) time.Duration { return time.Duration(share * long * float64(time.Second)) }
	return []fault{
		{
			name: "innocent-gil", title: fmt.Sprintf("A handler computes in C for %.0f s and holds the GIL", long), truth: able, peers: inPython(),
			inject: must("compute", seconds), watch: span(4) + 10*time.Second, // on a busy machine it takes longer
		},
		{
			name: "innocent-asleep", title: fmt.Sprintf("A handler sleeps for %.0f s", long), truth: able, peers: everybody(),
			inject: must("sleep", seconds), watch: span(1) + 8*time.Second,
		},
		{
			name: "innocent-long-among-8", title: fmt.Sprintf("Concurrency 8 and a sync handler that takes %.0f s, with 20 tasks behind it", long), truth: able,
			env: []string{"RUNQY_CONCURRENCY=8"}, watch: span(1) + 8*time.Second, inject: func(ctx context.Context, d *bed) error {
				err := d.runAll(ctx, task{name: "sleep", payload: seconds})
				for range 20 {
					err = errors.Join(err, d.runAll(ctx, task{name: "echo"}))
				}
				return err
			},
		},
		{
			name: "innocent-busy-machine", title: "Other programs want all processors", truth: able, alone: true, peers: everybody(),
			inject: burn, feed: time.Second, watch: 20 * time.Second, lasts: true,
		},
		{name: "innocent-empty", title: "Nothing is to be done", truth: able, idle: true, lift: nothing, peers: everybody()},
		{
			name: "innocent-paused", title: "The queue is paused, with 100 tasks in it", truth: able, idle: true,
			inject: pauseQueue, lift: func(_ context.Context, d *bed) error {
				return asynq.NewInspectorFromRedisClient(d.redis.Client).UnpauseQueue(queueName)
			},
		},
		{
			name: "innocent-long-load", title: "Python takes 17 s to load its model: unhealthy until then, healthy after it", truth: unable, never: true, lasts: true,
			prepare: func(_ context.Context, d *bed) error {
				d.env = append(d.env, fmt.Sprintf("HEALTH_BENCH_LOAD=%g", (d.length()+3*time.Second).Seconds()))
				return nil
			}, lift: nothing,
		},
		{
			name: "innocent-replacement", title: "Python is replaced as planned (SIGHUP); it takes 3 s to load", truth: able, quick: true,
			env: []string{"HEALTH_BENCH_LOAD=3"}, inject: signalWorker(syscall.SIGHUP), feed: time.Second,
		},
		{
			name: "innocent-burst", title: "A burst of 100,000 tasks", truth: able, alone: true, inject: burst, watch: 60 * time.Second,
		},
		{
			name: "innocent-failures", title: "About every second task fails, with `max_consecutive_failures: 20`", truth: able,
			env: []string{"RUNQY_PYTHON_MAX_CONSECUTIVE_FAILURES=20"}, inject: switches("half"), feed: 100 * time.Millisecond, any: true,
		},
		{
			name: "innocent-flood", title: "A handler writes to standard error without end", truth: able, inject: must("flood", map[string]any{"seconds": 10}),
			watch: 18 * time.Second,
		},
	}
}

// passing are what is wrong with Redis for a moment only.
func passing() []fault {
	return []fault{
		{
			name: "passing-refusal", title: "Redis refuses writes for 100 ms", truth: able, inject: func(ctx context.Context, d *bed) error {
				err := d.do(ctx, config("maxmemory", "1"))
				pause(ctx, 100*time.Millisecond)
				return errors.Join(err, d.do(ctx, config("maxmemory", "0")))
			},
		},
		{
			name: "passing-cut", title: "All connections to Redis are cut once", truth: able, quick: true, inject: func(ctx context.Context, d *bed) error { return d.cutStrangers(ctx) },
			peers: everybody(),
		},
		{
			name: "passing-cuts", title: "All connections to Redis are cut every 2 s", truth: able, feed: time.Second, inject: func(ctx context.Context, d *bed) error {
				d.meanwhile(ctx, func(ctx context.Context) {
					for ctx.Err() == nil {
						_ = d.cutStrangers(ctx) // the next one follows
						pause(ctx, 2*time.Second)
					}
				})
				return nil
			},
			peers: everybody(),
		},
		{
			name: "passing-restart", title: "Redis is restarted, empty", truth: able, settle: backLimit, watch: 20 * time.Second, peers: everybody(),
			inject: func(ctx context.Context, d *bed) error { return d.redis.Restart(ctx) },
		},
		{
			name: "passing-flushall", title: "`FLUSHALL`", truth: able, settle: backLimit, watch: 20 * time.Second, peers: everybody(),
			inject: commands([]any{"FLUSHALL"}),
		},
		{
			name: "passing-script-flush", title: "`SCRIPT FLUSH`", truth: able, inject: commands([]any{"SCRIPT", "FLUSH"}),
		},
		{
			name: "passing-freeze", title: "Redis stands still for 1 s", truth: able, inject: func(ctx context.Context, d *bed) error {
				err := d.redis.Signal(syscall.SIGSTOP)
				pause(ctx, time.Second)
				return errors.Join(err, d.redis.Signal(syscall.SIGCONT))
			},
			settle: 2 * time.Second, // the heartbeat cannot be read meanwhile
		},
	}
}

// nothing is a step of a case in which the fault ends, or began, by itself.
func nothing(context.Context, *bed) error { return nil }

// must returns a step of a case: a task that has to be done.
func must(name string, payload map[string]any) func(context.Context, *bed) error {
	return func(ctx context.Context, d *bed) error { return d.runAll(ctx, task{name: name, payload: payload}) }
}

func pauseQueue(ctx context.Context, d *bed) error {
	if err := asynq.NewInspectorFromRedisClient(d.redis.Client).PauseQueue(queueName); err != nil {
		return fmt.Errorf("pause the queue: %w", err)
	}
	for range 100 {
		if err := d.run(ctx, task{name: "echo"}); err != nil {
			return err
		}
	}
	return nil
}

// burn has twice as many programs use a processor as there are.
func burn(ctx context.Context, d *bed) error {
	for range 2 * runtime.NumCPU() {
		p, err := programs.Start(ctx, d.dir, "burner", exec.CommandContext(ctx, "sh", "-c", "while :; do :; done"))
		if err != nil {
			return err
		}
		d.atEnd(func() { p.Stop(exitSignal) })
	}
	return nil
}

// burst enqueues many tasks at once, copies of one that is not due, and looks for some of them.
func burst(ctx context.Context, d *bed) error {
	const (
		tasks, step = 100_000, 5_000
		prefix      = "burst" // without a character that means something in a pattern of Lua's
		script      = `local msg = redis.call("HGET", KEYS[1] .. "t:" .. ARGV[1], "msg")
		for i = ARGV[3], ARGV[4] do
			local id = string.format("%s%08d", ARGV[2], i)
			redis.call("HSET", KEYS[1] .. "t:" .. id, "msg", (string.gsub(msg, ARGV[1], id)), "state", "pending", "pending_since", redis.call("TIME")[1] .. "000000000")
			redis.call("LPUSH", KEYS[1] .. "pending", id)
		end`
	)
	template := prefix + "original"
	_, err := asynq.NewClientFromRedisClient(d.redis.Client).EnqueueContext(ctx, asynq.NewTask("echo", []byte("{}")),
		asynq.Queue(queueName), asynq.Retention(time.Hour), asynq.ProcessIn(time.Hour), asynq.TaskID(template))
	if err != nil {
		return fmt.Errorf("enqueue the first of many tasks: %w", err)
	}
	queue := []string{strings.TrimSuffix(d.subject.pending(), "pending")}
	for first := 0; first < tasks; first += step {
		if err := d.redis.Client.Eval(ctx, script, queue, template, prefix, first, first+step-1).Err(); err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("enqueue many tasks: %w", err)
		}
		d.mustDo(fmt.Sprintf("%s%08d", prefix, first), fmt.Sprintf("%s%08d", prefix, first+step-1))
	}
	return nil
}
