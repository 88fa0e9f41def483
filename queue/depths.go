package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/status"
)

// Depths reads the depths of some queues with O(1) commands only (asynq's Inspector walks whole queues). What it read
// is kept for a moment, so that any number of probes and scrapes costs Redis the same. It is safe for concurrent use.
type Depths struct {
	client redis.UniversalClient
	queues []string
	keep   time.Duration
	now    func() time.Time

	reading chan struct{} // one token, which guards the rest: concurrent readers wait for one read, not each for its own
	read    time.Time
	last    map[string]status.Depth
	err     error
}

// NewDepths returns a reader of these queues that asks Redis at most once per keep.
func NewDepths(client redis.UniversalClient, queues []string, keep time.Duration) *Depths {
	return &Depths{client: client, queues: queues, keep: keep, now: time.Now, reading: make(chan struct{}, 1)}
}

// Read returns every queue's depth. The error is set when Redis did not answer at all; one queue's own failure is in
// its Err. The map must not be changed.
func (d *Depths) Read(ctx context.Context) (map[string]status.Depth, error) {
	select {
	case d.reading <- struct{}{}:
		defer func() { <-d.reading }()
	case <-ctx.Done():
		return nil, fmt.Errorf("read the queues: %w", ctx.Err())
	}
	if !d.read.IsZero() && d.now().Sub(d.read) < d.keep {
		return d.last, d.err
	}
	last, err := d.ask(ctx)
	if ctx.Err() != nil {
		return last, err // a reader that gave up says nothing about Redis
	}
	d.last, d.err, d.read = last, err, d.now()
	return d.last, d.err
}

// counts are the commands for one queue.
type counts struct {
	pending, active, scheduled, retry, archived, completed, paused *redis.IntCmd
	oldest                                                         *redis.StringCmd
	directs                                                        *redis.StringSliceCmd
}

func (d *Depths) ask(ctx context.Context) (map[string]status.Depth, error) {
	pipe := d.client.Pipeline()
	all := make(map[string]counts, len(d.queues))
	for _, q := range d.queues {
		all[q] = counts{
			pending: pipe.LLen(ctx, pendingKey(q)), active: pipe.LLen(ctx, activeKey(q)),
			scheduled: pipe.ZCard(ctx, scheduledKey(q)), retry: pipe.ZCard(ctx, retryKey(q)),
			archived: pipe.ZCard(ctx, archivedKey(q)), completed: pipe.ZCard(ctx, completedKey(q)),
			paused: pipe.Exists(ctx, pausedKey(q)), oldest: pipe.LIndex(ctx, pendingKey(q), -1),
			directs: pipe.SMembers(ctx, directsKey(q)),
		}
	}
	_, _ = pipe.Exec(ctx) // each command's own error says more
	since, direct := d.more(ctx, all)
	depths := make(map[string]status.Depth, len(d.queues))
	failures := 0
	var failure error
	for q, c := range all {
		depth, err := c.depth()
		if err != nil {
			failures++
			failure = fmt.Errorf("read queue %s: %w", q, err)
			depths[q] = status.Depth{Err: failure}
			continue
		}
		depth.Pending += direct[q]
		if t := since[q]; depth.Pending > 0 && !t.IsZero() {
			depth.Latency = max(0, d.now().Sub(t))
		}
		depths[q] = depth
	}
	if failures == len(d.queues) && !isReply(failure) {
		return depths, failure
	}
	return depths, nil
}

func (c counts) depth() (status.Depth, error) {
	var err error
	value := func(cmd *redis.IntCmd) int64 {
		err = errors.Join(err, cmd.Err())
		return cmd.Val()
	}
	depth := status.Depth{
		Pending: value(c.pending), Active: value(c.active), Scheduled: value(c.scheduled), Retry: value(c.retry),
		Archived: value(c.archived), Completed: value(c.completed), Paused: value(c.paused) > 0,
	}
	return depth, err
}

// more asks what depends on the first answers: since when the oldest pending task of each queue has been waiting (it
// may start in between, and then has no such time), and how many tasks wait for named workers.
func (d *Depths) more(ctx context.Context, all map[string]counts) (since map[string]time.Time, direct map[string]int64) {
	pipe := d.client.Pipeline()
	oldest := make(map[string]*redis.StringCmd)
	lengths := make(map[string][]*redis.IntCmd)
	for q, c := range all {
		if id, err := c.oldest.Result(); err == nil {
			oldest[q] = pipe.HGet(ctx, taskKey(q, id), "pending_since")
		}
		for _, worker := range c.directs.Val() {
			lengths[q] = append(lengths[q], pipe.LLen(ctx, directKey(q, worker)))
		}
	}
	if pipe.Len() == 0 {
		return nil, nil
	}
	_, _ = pipe.Exec(ctx)
	since, direct = make(map[string]time.Time), make(map[string]int64)
	for q, cmd := range oldest {
		since[q] = unixNano(cmd.Val())
	}
	for q, cmds := range lengths {
		for _, cmd := range cmds {
			direct[q] += cmd.Val()
		}
	}
	return since, direct
}
