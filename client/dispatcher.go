package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/control"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/queue"
)

// DispatcherOptions configure a [Dispatcher]. The zero value is right for most programs.
type DispatcherOptions struct {
	// Queues are the queues whose workers are offered: a worker that serves none of them is not. Empty: every free
	// worker is offered, whatever it serves.
	Queues []string
	// Interval is how long the free workers are offered before the fleet is checked again. Not more than 0: 5 s.
	Interval time.Duration
	// Logger is told when the workers cannot be listed, and when they can again. Nil: nobody is told.
	Logger *slog.Logger
}

// Dispatcher gives tasks to chosen workers. It never gives one to a worker that is dead, degraded, starting or
// draining: each worker is asked again at the moment of the assignment. It is safe for concurrent use.
type Dispatcher struct {
	opts    DispatcherOptions
	workers workerSource
	tasks   taskSender
	directs taskAssigner
	free    chan Worker
}

// workerSource is what a Dispatcher learns about workers from.
type workerSource interface {
	// Round returns every registered worker, asked just now.
	Round(ctx context.Context) ([]Worker, error)
	// Inspect returns one worker, asked just now; false means that it is not registered.
	Inspect(ctx context.Context, id string) (Worker, bool, error)
}

// taskSender puts tasks on queues; a Client is one.
type taskSender interface {
	Enqueue(ctx context.Context, t Task) (TaskInfo, error)
}

// taskAssigner moves a scheduled task to one worker.
type taskAssigner interface {
	Assign(ctx context.Context, queue, taskID, workerID string) error
}

// announcer is the real taskAssigner: it tells the worker, too.
type announcer struct {
	directs *queue.Directs
	redis   redis.UniversalClient
}

// Assign implements taskAssigner.
func (a announcer) Assign(ctx context.Context, queue, taskID, workerID string) error {
	if err := a.directs.Assign(ctx, queue, taskID, workerID); err != nil {
		return err
	}
	// The worker finds the task by itself too, only later.
	_ = control.AnnounceAssigned(ctx, a.redis, workerID, queue)
	return nil
}

// fleetWorkers is a checker as a workerSource.
type fleetWorkers struct{ checker *fleet.Checker }

func (f fleetWorkers) Round(ctx context.Context) ([]Worker, error) {
	workers, err := f.checker.Round(ctx)
	return newWorkers(workers, nil), err
}

func (f fleetWorkers) Inspect(ctx context.Context, id string) (Worker, bool, error) {
	w, known, err := f.checker.Inspect(ctx, id)
	return newWorker(w), known, err
}

// NewDispatcher returns a Dispatcher. It does nothing by itself: [Dispatcher.Free] offers workers while
// [Dispatcher.Run] runs, and [Dispatcher.Assign] needs no Run.
func (c *Client) NewDispatcher(opts DispatcherOptions) *Dispatcher {
	return newDispatcher(opts, fleetWorkers{fleet.NewChecker(c.registry)}, c, announcer{queue.NewDirects(c.redis), c.redis})
}

func newDispatcher(opts DispatcherOptions, workers workerSource, tasks taskSender, directs taskAssigner) *Dispatcher {
	if opts.Interval <= 0 {
		opts.Interval = 5 * time.Second
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	opts.Logger = opts.Logger.With("component", "dispatcher")
	return &Dispatcher{opts: opts, workers: workers, tasks: tasks, directs: directs, free: make(chan Worker)}
}

// Run offers free workers on [Dispatcher.Free] until ctx ends, and then returns nil. Call it once, usually in a
// goroutine of its own. While Redis does not answer it offers nobody and goes on.
func (d *Dispatcher) Run(ctx context.Context) error {
	failing := false
	for ctx.Err() == nil {
		workers, err := d.workers.Round(ctx)
		switch {
		case err != nil && ctx.Err() == nil && !failing:
			d.opts.Logger.Warn("worker list unavailable", "error", err)
			failing = true
		case err == nil && failing:
			d.opts.Logger.Warn("worker list available again")
			failing = false
		}
		interval, cancel := context.WithTimeout(ctx, d.opts.Interval)
		d.offer(interval, workers)
		<-interval.Done()
		cancel()
	}
	return nil
}

// offer stands with the free workers at the channel until all are taken or ctx ends.
func (d *Dispatcher) offer(ctx context.Context, workers []Worker) {
	for _, w := range workers {
		if w.State != Free || len(d.opts.Queues) > 0 && !slices.ContainsFunc(d.opts.Queues, w.Serves) {
			continue
		}
		select {
		case d.free <- w:
		case <-ctx.Done():
			return
		}
	}
}

// Free returns the channel on which free workers are offered while [Dispatcher.Run] runs, each at most once per
// interval, and only those that serve one of [DispatcherOptions].Queues. Nothing is buffered: an offer that nobody
// takes is withdrawn at the end of the interval. Its State was true when the fleet was checked; [Dispatcher.Assign]
// asks the worker again. The channel is never closed: select on the context that ends Run too.
func (d *Dispatcher) Free() <-chan Worker { return d.free }

// ErrNoWorker says that no worker with this ID is registered.
var ErrNoWorker = errors.New("no such worker")

// UnavailableError refuses an assignment to a worker that would not run the task: it is dead, degraded, starting,
// draining or not healthy, or it does not serve the task's queue. Nothing was enqueued.
type UnavailableError struct {
	Worker Worker // as it was found at the assignment
	Why    string // for people
}

// Error names the worker and tells why.
func (e *UnavailableError) Error() string {
	return fmt.Sprintf("worker %s takes no such task now: %s", e.Worker.ID, e.Why)
}

// NotAssignedError says that a task was enqueued and could not be given to its worker: any worker runs it within about
// a minute.
type NotAssignedError struct {
	Task TaskInfo
	Err  error
}

// Error names the task.
func (e *NotAssignedError) Error() string {
	return fmt.Sprintf("task %s is enqueued, and any worker runs it within a minute: %v", e.Task.ID, e.Err)
}

// Unwrap returns why the task could not be assigned.
func (e *NotAssignedError) Unwrap() error { return e.Err }

// reserve is how long a task that is being assigned lies in scheduled, where no worker takes it yet. A dispatcher that
// dies between its two steps leaves a task that any worker may run after this.
const reserve = time.Minute

// Assign gives a task to the worker with an ID, which takes it before any other and when it has a free slot: a busy
// worker may be given tasks too. Should the worker die or degrade before it has taken the task, the fleet's checker
// returns the task to its queue. Assign blocks for a ping of the worker and five round trips to Redis, six for the
// Client's first task of a queue.
//
// A worker that would not run the task is an [*UnavailableError]; one that is not registered wraps [ErrNoWorker]. A
// task that is not valid, or for later (Task.In), is an [*InvalidTaskError]; an ID that exists wraps [ErrTaskExists].
// Nothing is enqueued then. A [*NotAssignedError] comes with a task that is enqueued and not assigned. After any other
// error it is not known whether the task is enqueued. The task is never lost: if it is enqueued, a worker of its queue
// runs it.
func (d *Dispatcher) Assign(ctx context.Context, workerID string, t Task) (TaskInfo, error) {
	if err := validateForWorker(t); err != nil {
		return TaskInfo{}, err
	}
	w, known, err := d.workers.Inspect(ctx, workerID)
	switch {
	case err != nil:
		return TaskInfo{}, fmt.Errorf("ask worker %s: %w", workerID, err)
	case !known:
		return TaskInfo{}, fmt.Errorf("%w: %s", ErrNoWorker, workerID)
	}
	if why := w.refuses(t.Queue); why != "" {
		return TaskInfo{}, &UnavailableError{Worker: w, Why: why}
	}
	t.In = reserve
	info, err := d.tasks.Enqueue(ctx, t)
	if err != nil {
		return info, err
	}
	if err := d.directs.Assign(ctx, info.Queue, info.ID, workerID); err != nil {
		return info, &NotAssignedError{Task: info, Err: err}
	}
	info.State = TaskPending
	return info, nil
}

// validateForWorker returns nil for a task that can be assigned.
func validateForWorker(t Task) error {
	if t.In > 0 {
		return &InvalidTaskError{Problem: "a task for one worker cannot be for later: its worker may be gone by then"}
	}
	return t.Validate()
}

// AssignAny assigns a task to the first free worker offered that serves the task's queue, and returns the worker's ID.
// It needs [Dispatcher.Run] and blocks until there is such a worker or ctx ends; the error then wraps the cause of ctx,
// the worker's ID is empty and nothing is enqueued. The other errors are those of [Dispatcher.Assign]. It receives from
// [Dispatcher.Free]: a worker that it takes off the channel and cannot use is not offered again in the same interval.
func (d *Dispatcher) AssignAny(ctx context.Context, t Task) (task TaskInfo, workerID string, err error) {
	if err := validateForWorker(t); err != nil {
		return TaskInfo{}, "", err
	}
	for {
		select {
		case w := <-d.free:
			if !w.Serves(t.Queue) {
				continue
			}
			info, err := d.Assign(ctx, w.ID, t)
			var unavailable *UnavailableError
			if errors.As(err, &unavailable) || errors.Is(err, ErrNoWorker) {
				continue // it was free when it was offered
			}
			return info, w.ID, err
		case <-ctx.Done():
			return TaskInfo{}, "", fmt.Errorf("wait for a free worker of queue %s: %w", t.Queue, context.Cause(ctx))
		}
	}
}

// refuses returns why the worker would not run a task of the queue, or nothing.
func (w Worker) refuses(queueName string) string {
	switch {
	case w.State == Dead:
		return "it is DEAD: " + w.Reason
	case !w.TakesTasks():
		return fmt.Sprintf("its status is %s: %s", w.Status, w.Reason)
	case !w.Serves(queueName):
		return fmt.Sprintf("it serves [%s], not %s", strings.Join(w.Queues, " "), queueName)
	}
	return ""
}
