package queue

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/backoff"
	"github.com/runqy/runqy-worker/internal/wakeup"
)

const (
	leaseFor   = 30 * time.Second // asynq's rdb.LeaseDuration
	pausedPoll = time.Second      // how often a paused queue is asked whether it still is
	mostGhosts = 100              // ids without a task that one call drops before it comes up for air
)

// dequeuer answers asynq's dequeue calls. asynq has one goroutine that makes them, queue after queue in the order of
// their priority: the fields of the last block belong to it.
type dequeuer struct {
	client   redis.UniversalClient // does not retry by itself: a second try would pop a second task
	scripts  scripts
	attempts *attempts
	gate     Gate
	log      *slog.Logger
	stopping <-chan struct{} // closed when no task may be taken any more
	limit    time.Duration   // longest wait inside one call
	worker   string
	watchers map[string][]*watcher // by queue: of its pending list and of that for this worker
	ready    wakeup.Signal         // from the watchers
	strict   []string              // the queues in order, under strict priority

	requestAudit func() // something may be stamped ours that nobody holds

	swept  []string // the queues of the present sweep that had nothing, in asynq's order
	paused []string // those of them that are paused
	losses int      // races lost in a row
	errors int      // errors in a row
}

// popped is what one try at one queue brought.
type popped int

const (
	poppedNothing popped = iota
	poppedTask
	poppedPaused // the queue is paused, or has only what cannot run yet
	poppedError  // Redis did not answer
)

// dequeue takes the next task of a queue. When this is the last queue of a sweep in which none had a task, it waits
// inside the call for one in any of them: answering nothing would make asynq sleep. It never returns an error, which
// would make asynq try again without a pause.
func (d *dequeuer) dequeue(ctx context.Context, queue string) *redis.Cmd {
	until := time.Now().Add(d.limit)
	if slices.Contains(d.swept, queue) {
		d.endSweep()
	}
	// A slot is taken before Redis is asked, so that no task is popped that has nowhere to run.
	if !d.admitted(until) {
		d.endSweep()
		return nilCmd(ctx)
	}
	reply, got := d.try(ctx, queue)
	if got == poppedNothing || got == poppedPaused {
		d.swept = append(d.swept, queue)
		if got == poppedPaused {
			d.paused = append(d.paused, queue)
		}
		if len(d.swept) == len(d.watchers) {
			reply, got = d.waitAndTry(ctx, until)
			d.endSweep()
		}
	}
	if got == poppedTask {
		d.endSweep()
		return reply
	}
	<-d.attempts.slots
	if got == poppedError {
		d.endSweep()
		pause(d.stopping, errorDelays().Delay(d.errors+1))
	}
	return nilCmd(ctx)
}

func (d *dequeuer) endSweep() {
	d.swept = d.swept[:0]
	d.paused = d.paused[:0]
}

// waitAndTry waits for a task in any queue and takes it, until the time is up.
func (d *dequeuer) waitAndTry(ctx context.Context, until time.Time) (*redis.Cmd, popped) {
	order := d.swept
	if d.strict != nil {
		order = d.strict
	}
	for d.wait(until) {
		for _, queue := range order {
			reply, got := d.try(ctx, queue)
			if got == poppedTask || got == poppedError {
				return reply, got
			}
		}
		// One push wakes every idle worker of the queue, and one of them gets it.
		d.losses++
		pause(d.stopping, lossDelays().Delay(d.losses+1))
	}
	return nil, poppedNothing
}

// admitted waits until the gate is open and a slot is free, which the caller then holds. Nothing is asked of Redis
// meanwhile.
func (d *dequeuer) admitted(until time.Time) bool {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	for {
		changed := d.gate.Changed()
		if d.gate.Open() {
			break
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		case <-d.stopping:
			return false
		}
	}
	if isDone(d.stopping) {
		return false
	}
	select {
	case d.attempts.slots <- struct{}{}:
	case <-timer.C:
		return false
	case <-d.stopping:
		return false
	}
	if !d.gate.Open() { // it may have closed while this waited for the slot
		<-d.attempts.slots
		return false
	}
	return true
}

// wait blocks until one of the queues seems to have a task. It reports false when the call should end without one.
func (d *dequeuer) wait(until time.Time) bool {
	limit := time.Until(until)
	if len(d.paused) > 0 {
		limit = min(limit, pausedPoll)
	}
	changed := d.gate.Changed()
	if limit <= 0 || !d.gate.Open() || isDone(d.stopping) {
		return false
	}
	d.ready.Clear() // of an earlier wait; an element that is still there is signalled again
	for queue, watchers := range d.watchers {
		if slices.Contains(d.paused, queue) { // one that holds tasks would never block
			continue
		}
		for _, w := range watchers {
			w.arm()
			defer w.disarm()
		}
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-d.ready.C():
		return true
	case <-timer.C:
		d.losses = 0
	case <-changed:
	case <-d.stopping:
	}
	return false
}

// try asks Redis once for a task of the queue. On poppedTask the caller's slot belongs to the attempt.
func (d *dequeuer) try(ctx context.Context, queue string) (*redis.Cmd, popped) {
	keys := []string{pendingKey(queue), pausedKey(queue), activeKey(queue), leaseKey(queue), directKey(queue, d.worker)}
	for range mostGhosts {
		number, owner := d.attempts.ask()
		// asynq computed a lease time before its call, which may have waited for long: each try has its own.
		now := time.Now()
		reply, err := d.scripts.dequeue.Run(ctx, d.client, keys, now.Add(leaseFor).Unix(), taskKeyPrefix(queue), owner).Slice()
		if err != nil {
			d.attempts.answered(number, nil)
			d.failed(queue, err)
			return nil, poppedError
		}
		d.answered(queue)
		fields, err := texts(reply)
		if err != nil {
			d.attempts.answered(number, nil)
			d.failed(queue, unexpectedReply("dequeue", reply))
			return nil, poppedError
		}
		switch kind := fields[0]; {
		case kind == "task" && len(fields) == 5:
			if d.twin(queue, fields[1]) {
				d.postpone(ctx, queue, fields[1], owner)
				d.attempts.answered(number, nil)
				return nil, poppedPaused
			}
			a, err := newAttempt(queue, owner, number, fields, now)
			d.attempts.answered(number, a)
			if err != nil {
				d.archiveUnreadable(ctx, queue, fields[1], owner, err)
				continue
			}
			d.losses = 0
			cmd := redis.NewCmd(ctx)
			cmd.SetVal(fields[2])
			return cmd, poppedTask
		case kind == "ghost" && len(fields) == 2:
			d.attempts.answered(number, nil)
			d.log.Warn("pending id without task dropped", "queue", queue, "task_id", fields[1])
		case kind == "paused":
			d.attempts.answered(number, nil)
			return nil, poppedPaused
		default:
			d.attempts.answered(number, nil)
			return nil, poppedNothing
		}
	}
	return nil, poppedNothing
}

// twin reports whether a task of another queue with the same id is in flight here. asynq keeps a server's leases by id
// alone: of two such tasks at once it would let one's lapse, and both would run again.
func (d *dequeuer) twin(queue, id string) bool {
	for other := range d.watchers {
		if other != queue && d.attempts.inFlight(taskKey(other, id)) {
			return true
		}
	}
	return false
}

// postpone requeues a task for later, behind all others.
func (d *dequeuer) postpone(ctx context.Context, queue, id, owner string) {
	ctx, cancel := context.WithTimeout(ctx, requeueTimeout)
	defer cancel()
	if _, err := requeue(ctx, d.client, d.scripts.requeue, queue, id, owner, atTheEnd); err != nil {
		d.requestAudit()
		d.log.Warn("task requeue failed", "queue", queue, "task_id", id, "error", err)
	}
}

// archiveUnreadable archives a task that asynq could not read either. It would drop it and leave it in active for ever.
func (d *dequeuer) archiveUnreadable(ctx context.Context, queue, id, owner string, cause error) {
	keys := []string{taskKey(queue, id), activeKey(queue), leaseKey(queue), archivedKey(queue)}
	if err := d.scripts.archiveUnreadable.Run(ctx, d.client, keys, id, owner).Err(); err != nil {
		d.requestAudit()
		d.log.Error("unreadable task not archived", "queue", queue, "task_id", id, "error", err)
		return
	}
	d.log.Error("unreadable task archived", "queue", queue, "task_id", id, "error", cause)
}

// failed records that Redis did not answer a dequeue: the task it may have popped is found by the audit.
func (d *dequeuer) failed(queue string, err error) {
	d.requestAudit()
	if d.errors == 0 {
		d.log.Warn("dequeue failed", "queue", queue, "error", err)
	}
	d.errors++
}

func (d *dequeuer) answered(queue string) {
	if d.errors > 0 {
		d.log.Info("dequeue resumed", "queue", queue, "failures", d.errors)
		d.errors = 0
	}
}

// newAttempt turns the dequeue script's answer into an attempt, or says why the message cannot be read.
func newAttempt(queue, owner string, number uint64, fields []string, now time.Time) (*attempt, error) {
	id := fields[1]
	m, err := decodeMessage([]byte(fields[2]))
	if err != nil {
		return nil, err
	}
	if m.ID != id || m.Queue != queue {
		return nil, fmt.Errorf("the message is of task %q in queue %q", m.ID, m.Queue)
	}
	t := &Task{
		ID: id, Queue: queue, Type: m.Type, Payload: m.Payload, Headers: m.Headers,
		RetryCount: m.Retried, MaxRetry: m.MaxRetry, Timeout: m.Timeout, Retention: m.Retention, Deadline: m.Deadline,
	}
	if t.Timeout > 0 && (t.Deadline.IsZero() || now.Add(t.Timeout).Before(t.Deadline)) {
		t.Deadline = now.Add(t.Timeout)
	}
	t.Enqueued = unixNano(fields[3])
	t.Crashes, _ = strconv.Atoi(fields[4])
	return &attempt{task: t, key: taskKey(queue, id), owner: owner, number: number, taken: now, gone: make(chan struct{})}, nil
}

// unixNano reads a time in nanoseconds; what is not one is the zero time.
func unixNano(s string) time.Time {
	ns, err := strconv.ParseInt(s, 10, 64)
	if err != nil || ns <= 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// texts turns a script's answer into strings.
func texts(reply []any) ([]string, error) {
	out := make([]string, len(reply))
	for i, v := range reply {
		s, ok := v.(string)
		if !ok {
			return nil, unexpectedReply("Lua", reply)
		}
		out[i] = s
	}
	if len(out) == 0 {
		return nil, unexpectedReply("Lua", reply)
	}
	return out, nil
}

// lossDelays are the waits after races for a task that another worker has won.
func lossDelays() backoff.Policy {
	return backoff.Policy{First: 5 * time.Millisecond, Max: 500 * time.Millisecond, Jitter: 0.5}
}

// errorDelays are the waits after dequeues that Redis has not answered.
func errorDelays() backoff.Policy {
	return backoff.Policy{First: 50 * time.Millisecond, Max: 2 * time.Second, Jitter: 0.5}
}

// pause waits for d or until done is closed.
func pause(done <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
