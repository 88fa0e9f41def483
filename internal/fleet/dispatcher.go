package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/runqy/runqy-worker/internal/enqueue"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/queue"
)

// Roster is what a [Dispatcher] sees of the fleet; a [Checker] is one.
type Roster interface {
	// Round judges every worker afresh.
	Round(ctx context.Context) ([]Worker, error)
	// Inspect classifies one worker afresh; false means that it is not registered.
	Inspect(ctx context.Context, id string) (Worker, bool, error)
}

// Sender puts tasks on queues; enqueue.Client is one.
type Sender interface {
	Enqueue(ctx context.Context, t enqueue.Task) (enqueue.Info, error)
}

// Assigner moves a scheduled task to one worker; queue.Directs is one.
type Assigner interface {
	Assign(ctx context.Context, queue, taskID, workerID string) error
}

// DispatcherOptions say what a [Dispatcher] works with.
type DispatcherOptions struct {
	Roster   Roster
	Sender   Sender
	Assigner Assigner
	Interval time.Duration // between two looks at the fleet; default 5 s
	Logger   *slog.Logger  // default: none
}

// Dispatcher gives tasks to workers by name. It never gives one to a worker that does not answer: each is asked again
// at the moment of the assignment. It is safe for concurrent use.
type Dispatcher struct {
	opts DispatcherOptions
	free chan Worker
}

// ErrNoWorker says that no worker with this id is registered.
var ErrNoWorker = errors.New("no such worker")

// NotFreeError refuses an assignment to a worker that would not run the task.
type NotFreeError struct {
	Worker Worker
	Why    string
}

func (e *NotFreeError) Error() string {
	return fmt.Sprintf("worker %s takes no such task now: %s", e.Worker.ID, e.Why)
}

// reserve is how long a task that is being assigned lies in scheduled, where it is nobody's yet. A dispatcher that dies
// between its two steps leaves a task that anybody may run after this.
const reserve = time.Minute

// NewDispatcher returns a Dispatcher. Free offers workers while Run runs; Assign needs no Run.
func NewDispatcher(opts DispatcherOptions) *Dispatcher {
	if opts.Interval <= 0 {
		opts.Interval = 5 * time.Second
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Dispatcher{opts: opts, free: make(chan Worker)}
}

// Free is the channel on which free workers are offered, each at most once per look at the fleet. Nothing is buffered:
// an offer that nobody takes is withdrawn at the next look. It is never closed.
func (d *Dispatcher) Free() <-chan Worker { return d.free }

// Run offers free workers until ctx ends, and then returns nil.
func (d *Dispatcher) Run(ctx context.Context) error {
	failing := false
	for ctx.Err() == nil {
		round, cancel := context.WithTimeout(ctx, d.opts.Interval)
		workers, err := d.opts.Roster.Round(ctx)
		if failed := err != nil && ctx.Err() == nil; failed != failing {
			failing = failed
			d.opts.Logger.Warn("the dispatcher's sight of the fleet has changed", "blind", failing, "error", err)
		}
		d.offer(round, workers)
		<-round.Done()
		cancel()
	}
	return nil
}

// offer stands with the free workers at the channel until all are taken or ctx ends.
func (d *Dispatcher) offer(ctx context.Context, workers []Worker) {
	for _, w := range workers {
		if w.State != status.Free {
			continue
		}
		select {
		case d.free <- w:
		case <-ctx.Done():
			return
		}
	}
}

// Assign puts a task on the direct list of one worker, which takes it before any other. The worker must be alive and
// well and serve the task's queue, or it is a *NotFreeError; one whose slots are all taken keeps the task waiting until
// one is free. Should the worker die or degrade before it has taken the task, the checker returns it to the queue.
//
// The task is never lost: after any error it either was not enqueued or will be run by any worker within about a
// minute; the error says which.
func (d *Dispatcher) Assign(ctx context.Context, workerID string, t enqueue.Task) (enqueue.Info, error) {
	if t.In > 0 {
		return enqueue.Info{}, errors.New("a task for one worker cannot be for later: its worker may be gone by then")
	}
	w, known, err := d.opts.Roster.Inspect(ctx, workerID)
	switch {
	case err != nil:
		return enqueue.Info{}, fmt.Errorf("ask worker %s: %w", workerID, err)
	case !known:
		return enqueue.Info{}, fmt.Errorf("%w: %s", ErrNoWorker, workerID)
	}
	if why := unfit(w, t.Queue); why != "" {
		return enqueue.Info{}, &NotFreeError{Worker: w, Why: why}
	}
	t.In = reserve
	info, err := d.opts.Sender.Enqueue(ctx, t)
	if err != nil {
		return info, err
	}
	if err := d.opts.Assigner.Assign(ctx, info.Queue, info.ID, workerID); err != nil {
		return info, fmt.Errorf("task %s is enqueued, and any worker runs it within a minute: %w", info.ID, err)
	}
	info.State = "pending"
	return info, nil
}

// AssignAny assigns a task to the first worker offered that is free and serves its queue, and returns which. It needs
// Run, and waits for such a worker until ctx ends.
func (d *Dispatcher) AssignAny(ctx context.Context, t enqueue.Task) (enqueue.Info, string, error) {
	for {
		select {
		case w := <-d.free:
			if !slices.Contains(w.Beat.Queues, t.Queue) {
				continue
			}
			info, err := d.Assign(ctx, w.ID, t)
			var gone *NotFreeError
			if errors.As(err, &gone) || errors.Is(err, ErrNoWorker) {
				continue // it was free when it was offered
			}
			return info, w.ID, err
		case <-ctx.Done():
			return enqueue.Info{}, "", fmt.Errorf("wait for a free worker of queue %s: %w", t.Queue, context.Cause(ctx))
		}
	}
}

// usable tells whether tasks may be given to wait for a worker: it is alive and takes tasks, if not at this moment.
func usable(w Worker) bool {
	return w.State == status.Free || w.State == status.Busy && w.Alive && w.Beat.Healthy && w.Beat.Status == status.Running
}

// unfit says why a worker would not run a task of the queue, or nothing.
func unfit(w Worker, queueName string) string {
	switch {
	case w.State == status.Dead:
		return "it is DEAD: " + w.Reason
	case !usable(w):
		return fmt.Sprintf("its status is %s: %s", w.Beat.Status, w.Reason)
	case !slices.Contains(w.Beat.Queues, queueName):
		return fmt.Sprintf("it serves %v, not %s", w.Beat.Queues, queueName)
	}
	return ""
}

var _ Assigner = (*queue.Directs)(nil)
