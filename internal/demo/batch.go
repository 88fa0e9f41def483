package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/client"
	"github.com/runqy/runqy-worker/internal/status"
)

const (
	// pollBatch is how many tasks are asked for in one round trip.
	pollBatch = 256
	// pollInterval is the least time between two polls, and so the resolution of the latencies.
	pollInterval   = 5 * time.Millisecond
	maxRetry       = 5
	attemptTimeout = 30 * time.Second
)

// The kinds of sample tasks, which are also the task types of tasks.py.
const (
	fast     = "fast"
	slow     = "slow"
	failing  = "failing"
	retrying = "retrying"
)

// kindOf mixes the kinds: of ten tasks six are fast, two slow, one fails for good and one fails once.
func kindOf(i int) string {
	switch i % 10 {
	case 1, 6:
		return slow
	case 2:
		return retrying
	case 3:
		return failing
	}
	return fast
}

type outcome int

const (
	waiting outcome = iota
	completed
	archived
	lost // gone without a result, or with a wrong one
)

// sample is one task of the batch.
type sample struct {
	id, kind string
	n        int
	sent     bool // or tried to, with an error that leaves it open
	enqueued time.Time
	latency  time.Duration // from enqueued until the outcome was seen
	outcome  outcome
	attempts int    // of a completed one
	unseen   bool   // the last poll found neither a result nor the task
	where    string // how it stands, when that is not as expected
}

// asExpected reports whether the task ended as its kind should.
func (s *sample) asExpected() bool {
	switch s.kind {
	case failing:
		return s.outcome == archived && s.where == ""
	case retrying:
		return s.outcome == completed && s.attempts >= 2
	}
	return s.outcome == completed
}

// batch enqueues the samples and follows each to its end, as any user of Redis could. One goroutine uses it.
type batch struct {
	redis     redis.UniversalClient
	sender    *client.Client
	inspector *asynq.Inspector
	queue     string
	samples   []*sample
	open      []*sample // enqueued, without an outcome
	polledAt  time.Time
}

func newBatch(rdb redis.UniversalClient, queue, run string, n int) (*batch, error) {
	sender, err := client.NewFromRedis(rdb, client.Options{HeartbeatsOnly: true})
	if err != nil {
		return nil, err
	}
	b := &batch{redis: rdb, queue: queue, sender: sender, inspector: asynq.NewInspectorFromRedisClient(rdb)}
	for i := range n {
		kind := kindOf(i)
		b.samples = append(b.samples, &sample{
			id: fmt.Sprintf("demo-%s-%s-%02d", run, kind, i), kind: kind, n: i, where: "not enqueued",
		})
	}
	return b, nil
}

// run enqueues all samples and polls until each has an outcome. The error says why it ended before that: the limit, the
// context or Redis.
func (b *batch) run(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not every task was done within %s", limit))
	defer cancel()
	for _, s := range b.samples {
		s.enqueued, s.sent = time.Now(), true
		retries := maxRetry
		_, err := b.sender.Enqueue(ctx, client.Task{
			Queue: b.queue, Type: s.kind, ID: s.id, Payload: fmt.Appendf(nil, `{"n":%d}`, s.n),
			MaxRetry: &retries, Timeout: attemptTimeout,
		})
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return err
		}
		s.where = ""
		b.open = append(b.open, s)
		if time.Since(b.polledAt) > pollInterval {
			_ = b.poll(ctx) // polled again below
		}
	}
	for {
		start := time.Now()
		err := b.poll(ctx)
		if err == nil && len(b.open) == 0 {
			return nil
		}
		// Polling takes at most a quarter of the time of the Redis that the demo shows.
		select {
		case <-time.After(max(pollInterval, 3*time.Since(start))):
		case <-ctx.Done():
			if err != nil && !errors.Is(err, ctx.Err()) {
				return fmt.Errorf("%w; redis: %w", context.Cause(ctx), err)
			}
			return context.Cause(ctx)
		}
	}
}

// poll asks Redis once for every open sample.
func (b *batch) poll(ctx context.Context) error {
	defer func() { b.polledAt = time.Now() }()
	for some := range slices.Chunk(b.open, pollBatch) {
		pipe := b.redis.Pipeline()
		results, states := make([]*redis.StringCmd, len(some)), make([]*redis.StringCmd, len(some))
		for i, s := range some {
			results[i] = pipe.Get(ctx, "asynq:result:"+s.id)
			states[i] = pipe.HGet(ctx, "asynq:{"+b.queue+"}:t:"+s.id, "state")
		}
		_, _ = pipe.Exec(ctx) // the commands carry their errors
		for i, s := range some {
			if err := errors.Join(notNil(results[i].Err()), notNil(states[i].Err())); err != nil {
				return err
			}
			if err := b.classify(s, results[i].Val(), states[i].Val()); err != nil {
				return err
			}
		}
	}
	b.open = slices.DeleteFunc(b.open, func(s *sample) bool { return s.outcome != waiting })
	return nil
}

func notNil(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// classify decides the outcome of a sample by its result and its state in asynq; both are empty where Redis has none.
func (b *batch) classify(s *sample, result, state string) error {
	s.where = state
	switch {
	case status.TaskState(state) == status.Archived:
		info, err := b.inspector.GetTaskInfo(b.queue, s.id)
		if err != nil {
			return fmt.Errorf("read task %s: %w", s.id, err)
		}
		s.end(archived)
		s.where = ""
		if s.kind != failing || !strings.Contains(info.LastErr, "on purpose") {
			reason, _, _ := strings.Cut(info.LastErr, "\n")
			s.where = "archived: " + reason
		}
	case state != "": // pending, active, scheduled, retry, or a result that is not acknowledged yet
		s.unseen = false
	case result != "":
		s.check(result)
	case s.unseen:
		s.end(lost)
		s.where = "gone without a result"
	default:
		// It may have ended between the two answers; then the next poll finds the result.
		s.unseen = true
	}
	return nil
}

func (s *sample) end(o outcome) {
	s.outcome, s.latency = o, time.Since(s.enqueued)
}

// check compares the result with what tasks.py returns for this sample.
func (s *sample) check(result string) {
	type answer struct {
		N        int `json:"n"`
		Square   int `json:"square"`
		Attempts int `json:"attempts"`
	}
	want := answer{N: s.n}
	if s.kind == fast {
		want.Square = s.n * s.n
	}
	var got answer
	decoder := json.NewDecoder(bytes.NewReader([]byte(result)))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&got)
	want.Attempts = got.Attempts // any number of attempts is right
	if err != nil || got != want || got.Attempts < 1 || s.kind == failing {
		s.end(lost)
		s.where = fmt.Sprintf("wrong result %.100q", result)
		return
	}
	s.end(completed)
	s.attempts, s.where = got.Attempts, ""
	if !s.asExpected() {
		s.where = "completed without the retry that it asked for"
	}
}

// unaccounted lists the samples that did not end as expected.
func (b *batch) unaccounted() []*sample {
	return slices.DeleteFunc(slices.Clone(b.samples), (*sample).asExpected)
}

func ids(samples []*sample) []string {
	list := make([]string, len(samples))
	for i, s := range samples {
		list[i] = s.id
	}
	return list
}

// remove deletes from a Redis that others use what asynq would keep of this batch: archived tasks, and those that have
// not run. Results and readable hashes expire by themselves. The worker must have ended.
func (b *batch) remove() error {
	for _, s := range b.samples {
		if !s.sent || s.outcome == completed || s.outcome == lost {
			continue
		}
		err := b.inspector.DeleteTask(b.queue, s.id)
		if err != nil && !errors.Is(err, asynq.ErrTaskNotFound) && !errors.Is(err, asynq.ErrQueueNotFound) {
			return fmt.Errorf("remove task %s of this demo from queue %s: %w", s.id, b.queue, err)
		}
	}
	return nil
}

// line is one of the table.
type line struct {
	kind                                         string
	expected, completed, retried, archived, lost int
	p50, p95                                     time.Duration
}

// table sums the samples up by kind, with a total at the end. Lost is what has neither completed nor been archived.
func (b *batch) table() []line {
	var lines []line
	for _, kind := range []string{fast, slow, retrying, failing, "total"} {
		l := line{kind: kind}
		var latencies []time.Duration
		for _, s := range b.samples {
			if s.kind != kind && kind != "total" {
				continue
			}
			l.expected++
			switch s.outcome {
			case completed:
				l.completed++
			case archived:
				l.archived++
			default:
				l.lost++
			}
			if s.attempts > 1 {
				l.retried++
			}
			if s.outcome == completed || s.outcome == archived {
				latencies = append(latencies, s.latency)
			}
		}
		slices.Sort(latencies)
		l.p50, l.p95 = percentile(latencies, 0.50), percentile(latencies, 0.95)
		lines = append(lines, l)
	}
	return lines
}

// percentile is the smallest of the sorted values that p of them do not exceed.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(math.Ceil(p*float64(len(sorted))))-1]
}
