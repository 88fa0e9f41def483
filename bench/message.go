package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// queueName is the first queue of a measurement; further ones have a number after it.
const queueName = "bench"

// nilID stands in a message for the id of its task. Ids have its length.
const nilID = "00000000-0000-4000-8000-000000000000"

// taskID names the n-th task of a series.
func taskID(series, n int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", series, n) }

// dialect is how a kind of system keeps tasks in Redis. The bench writes them itself, copies of one that the system's
// own client has written, so that filling a queue takes seconds and every enqueue costs the same.
type dialect interface {
	// prepare has the system's own client write one task, and learns from it.
	prepare(ctx context.Context, s *site, taskType, payload string) error
	// push enqueues a task in the n-th queue.
	push(ctx context.Context, p redis.Pipeliner, queue int, id string)
	// done counts the attempts that have ended, of so many tasks.
	done(ctx context.Context, s *site, tasks int) (int, error)
	// resultKey is the key that holds the result of a task.
	resultKey(id string) string
}

// asynqTasks are asynq's, for this worker and for asynq's own server.
type asynqTasks struct {
	messages []string // by queue
	queues   []string
}

func newAsynqTasks(queues int) *asynqTasks {
	d := &asynqTasks{}
	for i := range queues {
		name := queueName
		if i > 0 {
			name += strconv.Itoa(i)
		}
		d.queues = append(d.queues, name)
	}
	return d
}

func (d *asynqTasks) prepare(ctx context.Context, s *site, taskType, payload string) error {
	producer := asynq.NewClientFromRedisClient(s.client)
	d.messages = nil
	for _, queue := range d.queues {
		_, err := producer.EnqueueContext(ctx, asynq.NewTask(taskType, []byte(payload)), asynq.Queue(queue), asynq.TaskID(nilID))
		if err != nil {
			return fmt.Errorf("enqueue with asynq: %w", err)
		}
		message, err := s.client.HGet(ctx, "asynq:{"+queue+"}:t:"+nilID, "msg").Result()
		if err != nil {
			return fmt.Errorf("read asynq's message: %w", err)
		}
		d.messages = append(d.messages, message)
	}
	if err := s.client.FlushDB(ctx).Err(); err != nil {
		return fmt.Errorf("remove asynq's example: %w", err)
	}
	if err := s.client.SAdd(ctx, "asynq:queues", d.queues).Err(); err != nil {
		return fmt.Errorf("make asynq's queues known: %w", err)
	}
	return nil
}

func (d *asynqTasks) push(ctx context.Context, p redis.Pipeliner, queue int, id string) {
	prefix := "asynq:{" + d.queues[queue] + "}:"
	p.HSet(ctx, prefix+"t:"+id, "msg", strings.Replace(d.messages[queue], nilID, id, 1), "state", "pending",
		"pending_since", time.Now().UnixNano())
	p.LPush(ctx, prefix+"pending", id)
}

func (d *asynqTasks) done(ctx context.Context, s *site, _ int) (int, error) {
	keys := make([]string, len(d.queues))
	for i, q := range d.queues {
		keys[i] = "asynq:{" + q + "}:processed"
	}
	values, err := s.client.MGet(ctx, keys...).Result()
	if err != nil {
		return 0, fmt.Errorf("read asynq's counters: %w", err)
	}
	sum := 0
	for _, v := range values {
		text, _ := v.(string)
		sum += int(number(text))
	}
	return sum, nil
}

func (*asynqTasks) resultKey(id string) string { return "asynq:result:" + id }

// celeryTasks are Celery's.
type celeryTasks struct {
	python, dir string
	message     string
}

func (d *celeryTasks) prepare(ctx context.Context, s *site, taskType, payload string) error {
	cmd := exec.CommandContext(ctx, d.python, filepath.Join(d.dir, "celery_app.py"), taskType)
	cmd.Stdin = strings.NewReader(payload)
	cmd.Env = programs.Environ("BENCH_REDIS=redis://" + s.addr + "/0")
	text, err := programs.Output(cmd)
	if err != nil {
		return fmt.Errorf("make a message of Celery's: %w", err)
	}
	if !strings.Contains(text, nilID) {
		return fmt.Errorf("a message of Celery's has no task id: %.200s", text)
	}
	d.message = text
	return s.client.FlushDB(ctx).Err()
}

func (d *celeryTasks) push(ctx context.Context, p redis.Pipeliner, _ int, id string) {
	p.LPush(ctx, "celery", strings.ReplaceAll(d.message, nilID, id))
}

func (*celeryTasks) done(ctx context.Context, s *site, tasks int) (int, error) {
	var waiting, held *redis.IntCmd
	_, err := s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		waiting, held = p.LLen(ctx, "celery"), p.HLen(ctx, "unacked")
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("count Celery's tasks: %w", err)
	}
	return max(0, tasks-int(waiting.Val()+held.Val())), nil
}

func (*celeryTasks) resultKey(id string) string { return "celery-task-meta-" + id }

// rqTasks are RQ's.
type rqTasks struct {
	python, dir string
	fields      []any
}

func (d *rqTasks) prepare(ctx context.Context, s *site, taskType, payload string) error {
	cmd := exec.CommandContext(ctx, d.python, filepath.Join(d.dir, "rq_job.py"), taskType)
	cmd.Stdin = strings.NewReader(payload)
	cmd.Env = programs.Environ("BENCH_REDIS=redis://" + s.addr + "/0")
	text, err := programs.Output(cmd)
	if err != nil {
		return fmt.Errorf("make a job of RQ's: %w", err)
	}
	fields := map[string]string{}
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		return fmt.Errorf("read a job of RQ's: %w", err)
	}
	d.fields = nil
	for name, encoded := range fields {
		value, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return fmt.Errorf("read the field %s of a job of RQ's: %w", name, err)
		}
		d.fields = append(d.fields, name, value)
	}
	return s.client.FlushDB(ctx).Err()
}

func (d *rqTasks) push(ctx context.Context, p redis.Pipeliner, _ int, id string) {
	p.SAdd(ctx, "rq:queues", "rq:queue:default")
	p.HSet(ctx, "rq:job:"+id, d.fields...)
	p.RPush(ctx, "rq:queue:default", id)
}

func (*rqTasks) done(ctx context.Context, s *site, _ int) (int, error) {
	n, err := s.client.ZCard(ctx, "rq:finished:default").Result()
	if err != nil {
		return 0, fmt.Errorf("count RQ's finished jobs: %w", err)
	}
	return int(n), nil
}

func (*rqTasks) resultKey(id string) string { return "rq:results:" + id }

// fill enqueues n tasks, spread over so many queues.
func fill(ctx context.Context, s *site, d dialect, queues, n, size int) error {
	batch := min(1000, max(1, (8<<20)/size))
	for from := 0; from < n; from += batch {
		_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := from; i < min(n, from+batch); i++ {
				d.push(ctx, p, i%queues, taskID(seriesFill, i))
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("fill the queue: %w", err)
		}
	}
	return nil
}

// errResults says that tasks were counted as done without a result in Redis.
var errResults = errors.New("tasks have ended without a result")

// checkResults looks at the result of every k-th of n tasks.
func checkResults(ctx context.Context, s *site, d dialect, n int) error {
	const most = 1000
	step := max(1, n/most)
	var keys []string
	for i := 0; i < n; i += step {
		keys = append(keys, d.resultKey(taskID(seriesFill, i)))
	}
	found, err := s.client.Exists(ctx, keys...).Result()
	if err != nil {
		return fmt.Errorf("look for results: %w", err)
	}
	if int(found) != len(keys) {
		return fmt.Errorf("%w: %d of %d that were looked at", errResults, len(keys)-int(found), len(keys))
	}
	return nil
}
