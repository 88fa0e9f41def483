package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

const (
	workerID  = "worker-abc123"
	queueName = "inference_default"
)

// ours is the worker of this checkout, with its default settings but for its addresses and what a fault sets.
type ours struct {
	proc    *programs.Process
	address string
	env     []string
}

func (*ours) name() string { return "worker" }

func (o *ours) start(ctx context.Context, d *bed) error {
	if o.address == "" {
		var err error
		if o.address, err = d.port(); err != nil {
			return err
		}
	}
	script := d.fault.python
	if script == "" {
		script = "tasks.py"
	}
	o.env = programs.Environ(
		"RUNQY_REDIS_URL="+d.url, "RUNQY_WORKER_ID="+workerID, "RUNQY_QUEUES="+queueName, "RUNQY_PYTHON_DIR="+d.scripts(),
		"RUNQY_PYTHON_COMMAND="+d.python+" "+script, "RUNQY_HEALTH_LISTEN="+o.address, "RUNQY_HEALTH_SOCKET="+filepath.Join(d.dir, "s"),
		"HEALTH_BENCH_SWITCH="+d.word)
	o.env = append(append(o.env, d.fault.env...), d.env...)
	argv := []string{d.program, "run", "--log-format", "json"}
	if d.net != nil {
		argv = append(d.net.by(), argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = o.env
	if d.fault.command != nil {
		change, err := d.fault.command(ctx, d)
		if err != nil {
			return err
		}
		change(cmd)
	}
	var err error
	if o.proc, err = programs.Start(ctx, d.dir, "worker", cmd); err != nil {
		return err
	}
	d.atEnd(func() { o.proc.Stop(exitSignal) })
	return nil
}

func (o *ours) process() *programs.Process { return o.proc }

func (*ours) pending() string { return "asynq:{" + queueName + "}:pending" }

// handlers is the Python process, as the heartbeat has it.
func (o *ours) handlers(ctx context.Context, d *bed) int {
	pid, err := strconv.Atoi(d.redis.Client.HGet(ctx, "asynq:workers:"+workerID, "python_pid").Val())
	if err != nil {
		return 0
	}
	return pid
}

func (*ours) enqueue(ctx context.Context, d *bed, t task) (string, error) {
	return enqueueAsynq(ctx, d, t)
}

// done looks for the result, which is written before the task is acknowledged.
func (*ours) done(ctx context.Context, d *bed, id string) (bool, error) {
	n, err := d.redis.Client.Exists(ctx, "asynq:result:"+id).Result()
	if err != nil {
		return false, fmt.Errorf("look for a result: %w", err)
	}
	return n > 0, nil
}

// enqueueAsynq enqueues with asynq's own client. A task that fails is tried again soon, since what is asked is whether it
// can be done at all.
func enqueueAsynq(ctx context.Context, d *bed, t task) (string, error) {
	payload, err := json.Marshal(t.payload)
	if err != nil {
		return "", fmt.Errorf("encode a payload: %w", err)
	}
	options := []asynq.Option{asynq.Queue(queueName), asynq.Retention(time.Hour)}
	if t.limit > 0 {
		options = append(options, asynq.Timeout(t.limit), asynq.MaxRetry(0))
	}
	info, err := asynq.NewClientFromRedisClient(d.redis.Client).EnqueueContext(ctx, asynq.NewTask(t.name, payload), options...)
	if err != nil {
		return "", fmt.Errorf("enqueue a task: %w", err)
	}
	return info.ID, nil
}
