package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/runqy/runqy-worker/internal/backoff"
	"github.com/runqy/runqy-worker/internal/timer"
)

// brokenTries is how often a cycle is sent whose answer nobody understands.
const brokenTries = 5

// cycler carries out the cycles of one queue, one after the other, on its own goroutine, so that the loop never waits
// for Redis. A cycle that Redis has not answered is sent again unchanged: the script knows it by its number.
type cycler struct {
	cycles   cycles
	queue    *queueState
	inbox    *inbox
	loop     *loop
	log      *slog.Logger
	requests chan cycleRequest // one at most: the loop asks for a cycle only when none is under way
	archive  func(ctx context.Context, queue, id, owner string, cause error)
}

// cycleResult is what a cycle has brought.
type cycleResult struct {
	reply cycleReply
	taken []*attempt // reply.taken, but for what cannot be read
	took  time.Duration
	err   error // ctx was over before Redis answered
	// recalled is set for a cycle behind a claim whose answer was lost: it was asked again what it took, and nothing else.
	recalled bool
}

// run carries out cycles until ctx is over.
func (c *cycler) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-c.requests:
			c.inbox.put(event{kind: eventCycled, queue: c.queue, cycle: c.carryOut(ctx, r)})
		}
	}
}

// carryOut sends a cycle until Redis answers or ctx is over.
func (c *cycler) carryOut(ctx context.Context, r cycleRequest) cycleResult {
	delays := backoff.Policy{First: 5 * time.Millisecond, Max: time.Second, Jitter: 0.5}
	for try := 1; ; try++ {
		begun := time.Now()
		reply, err := c.cycles.run(ctx, r)
		if err == nil {
			if try > 1 {
				c.log.Info("dequeue resumed", "queue", c.queue.name, "failures", try-1)
			}
			return cycleResult{reply: reply, taken: c.attempts(ctx, reply), took: time.Since(begun)}
		}
		if ctx.Err() != nil || errors.Is(err, errStale) {
			return cycleResult{err: err}
		}
		c.loop.receipts.refuse(c.queue.name, begun, err)
		if try == 1 {
			c.log.Warn("dequeue failed", "queue", c.queue.name, "error", err)
		}
		if timer.Sleep(ctx, delays.Delay(try)) != nil {
			return cycleResult{err: err}
		}
		// A script that broke off has left a record that says too little. The outcomes go out again under another number;
		// those that were applied are refused then.
		if errors.Is(err, errUnexpected) && try >= brokenTries {
			return cycleResult{err: err}
		}
	}
}

// attempts turns what was taken into attempts. What cannot be read is archived: nobody could ever run it.
func (c *cycler) attempts(ctx context.Context, reply cycleReply) []*attempt {
	taken := make([]*attempt, 0, len(reply.taken))
	now := time.Now()
	for i := range reply.taken {
		a, err := newAttempt(c.loop, c.queue.name, &reply.taken[i], reply.now, now)
		if err != nil {
			c.archive(ctx, c.queue.name, reply.taken[i].id, reply.taken[i].owner, err)
			continue
		}
		taken = append(taken, a)
	}
	return taken
}

// newAttempt makes an attempt of a taken task, or says why its message cannot be read. It was taken at redisNow by Redis'
// clock, by which its age counts, and at now by ours.
func newAttempt(l *loop, queue string, t *takenTask, redisNow, now time.Time) (*attempt, error) {
	m, err := decodeMessage(t.message)
	if err != nil {
		return nil, err
	}
	if m.ID != t.id || m.Queue != queue {
		return nil, fmt.Errorf("the message is of task %q in queue %q", m.ID, m.Queue)
	}
	task := &Task{
		ID: m.ID, Queue: queue, Type: m.Type, Payload: m.Payload, Headers: m.Headers,
		RetryCount: m.Retried, MaxRetry: m.MaxRetry, Timeout: m.Timeout, Retention: m.Retention, Deadline: m.Deadline,
		Crashes: t.crashes, Suspicions: t.suspicions, Recoveries: t.recoveries,
		Enqueued: unixNano(t.since), uniqueKey: m.UniqueKey, timeoutSeconds: m.TimeoutSeconds, deadlineUnix: m.DeadlineUnix,
	}
	if task.timeoutSeconds == 0 && task.deadlineUnix == 0 {
		task.Timeout = defaultTimeout
	}
	return &attempt{
		loop: l, task: task, raw: t.message, owner: t.owner, taken: now, waited: max(0, redisNow.Sub(task.Enqueued)),
		postponed: t.postponed, heapIndex: -1,
	}, nil
}

// unixNano reads a time in nanoseconds; what is not one is the zero time.
func unixNano(s string) time.Time {
	ns, err := strconv.ParseInt(s, 10, 64)
	if err != nil || ns <= 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}
