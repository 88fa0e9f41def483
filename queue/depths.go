package queue

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/status"
)

//go:embed lua/depth.lua
var depthLua string

// oldestLooks is at how many ids of a list the search for its oldest task looks.
const oldestLooks = 10

// groupLooks is of how many groups of a queue the tasks are counted.
const groupLooks = 100

// Depths reads the depths of some queues at a cost that does not depend on how deep they are (asynq's Inspector walks
// whole queues). What it read is kept for a moment, so that any number of probes and scrapes costs Redis the same. It is safe for concurrent use.
type Depths struct {
	client redis.UniversalClient
	script *redis.Script
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
	return &Depths{
		client: client, script: redis.NewScript(depthLua), queues: queues, keep: keep, now: time.Now, reading: make(chan struct{}, 1),
	}
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

// ask reads all queues in one round trip, or in two when a server does not know the script yet.
func (d *Depths) ask(ctx context.Context) (map[string]status.Depth, error) {
	cmds := d.send(ctx, d.queues, d.script.EvalSha)
	var unknown []string
	for q, cmd := range cmds {
		if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
			unknown = append(unknown, q)
		}
	}
	if len(unknown) > 0 {
		maps.Copy(cmds, d.send(ctx, unknown, d.script.Eval))
	}
	depths := make(map[string]status.Depth, len(cmds))
	failures := 0
	var failure error
	for q, cmd := range cmds {
		depth, err := depthOf(cmd)
		if err != nil {
			failures++
			failure = fmt.Errorf("read queue %s: %w", q, err)
			depth = status.Depth{Err: failure}
		}
		depths[q] = depth
	}
	if failures == len(d.queues) && !isReply(failure) {
		return depths, failure
	}
	return depths, nil
}

// send runs the script for these queues in one pipeline.
func (d *Depths) send(
	ctx context.Context, queues []string, eval func(context.Context, redis.Scripter, []string, ...any) *redis.Cmd,
) map[string]*redis.Cmd {
	pipe := d.client.Pipeline()
	cmds := make(map[string]*redis.Cmd, len(queues))
	for _, q := range queues {
		keys := []string{
			pendingKey(q), activeKey(q), scheduledKey(q), retryKey(q), archivedKey(q), completedKey(q), pausedKey(q), directsKey(q),
			groupsKey(q),
		}
		cmds[q] = eval(ctx, pipe, keys, taskKeyPrefix(q), directKey(q, ""), oldestLooks, groupKeyPrefix(q), groupLooks)
	}
	_, _ = pipe.Exec(ctx) // each command's own error says more
	return cmds
}

// depthOf is what the script said of one queue.
func depthOf(cmd *redis.Cmd) (status.Depth, error) {
	n, err := cmd.Int64Slice()
	if err != nil {
		return status.Depth{}, err
	}
	if len(n) != 11 {
		return status.Depth{}, unexpectedReply("depth", n)
	}
	return status.Depth{
		Pending: n[0], Active: n[1], Scheduled: n[2], Retry: n[3], Archived: n[4], Completed: n[5], Paused: n[6] > 0,
		Latency: time.Duration(n[7]) * time.Microsecond, Due: n[8], Groups: n[9], Aggregating: n[10],
	}, nil
}
