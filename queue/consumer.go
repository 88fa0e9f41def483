package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/wakeup"
)

// Clients are the connections a consumer works with. The caller closes Client and NoRetry after Run has returned;
// Blocking is closed by Run, since nothing else interrupts a blocked command, and Client too when Redis does not answer
// at the end.
type Clients struct {
	Client   redis.UniversalClient // for all that may be sent twice
	NoRetry  redis.UniversalClient // opened with [NoRetry]: for what may not
	Blocking redis.UniversalClient // opened with [Blocking], at least one connection per queue
}

// NoRetry prepares the options of a client that sends no command twice by itself. A cluster client would, under the
// name of a redirect, so it follows none: it learns where the slot is now, and the caller sends the command again.
func NoRetry(o *redis.UniversalOptions) { o.MaxRetries, o.MaxRedirects = -1, -1 }

// Options say what a consumer consumes and how.
type Options struct {
	WorkerID        string
	Nonce           string         // of this process: a later one with the same id has another
	Queues          map[string]int // weights, at least 1
	StrictPriority  bool           // a queue is served only while all of greater weight are empty
	Concurrency     int            // tasks with the handler at once, at least 1
	ShutdownTimeout time.Duration  // how long tasks in flight may take once Run's context is over
	SettleTimeout   time.Duration  // how much longer than that Redis may take for the last outcomes; 0: quitAfter
	// Running returns how much of the time between two moments this process was running: a pause of the whole process is no
	// fault of what was due in it. nil: all of it.
	Running        func(since, now time.Time) time.Duration
	ConsumeTimeout time.Duration // how long tasks may wait beside a free slot before that is a hindrance; 0: without end
	MaxTaskCrashes int           // a task that crashed the process this often is archived, one suspected so often runs alone; 0: never
	ResultTTL      time.Duration // of results and of the readable hashes
	Views          bool          // keep the views for redis-cli
	Cluster        bool          // the client is one of Redis Cluster
	BeatInterval   time.Duration // how often the audit looks and the copied lists are refreshed
	BeatTTL        time.Duration // how long the copied lists outlive their last refresh
	Observer       Observer
	Logger         *slog.Logger
}

// Observer is told what happens to tasks. Any field may be nil; the functions are called by the consumer's loop and must
// not block.
type Observer struct {
	Began        func(t *Task, waited time.Duration)            // its handler began, so long after it was enqueued or due
	Finished     func(t *Task, took time.Duration, failed bool) // an attempt ended; took is negative if it never began
	Retried      func(queue string)
	Archived     func(queue string)
	Fenced       func(queue string)        // an acknowledgement came too late and was refused
	Lost         func(queue string, n int) // ids whose tasks were gone were dropped
	ViewsDropped func(n int)               // readable hashes that could not be written
}

func (o Observer) began(t *Task, waited time.Duration) {
	if o.Began != nil {
		o.Began(t, waited)
	}
}

func (o Observer) finished(t *Task, took time.Duration, failed bool) {
	if o.Finished != nil {
		o.Finished(t, took, failed)
	}
}

func (o Observer) retried(queue string) {
	if o.Retried != nil {
		o.Retried(queue)
	}
}

func (o Observer) archived(queue string) {
	if o.Archived != nil {
		o.Archived(queue)
	}
}

func (o Observer) fenced(queue string) {
	if o.Fenced != nil {
		o.Fenced(queue)
	}
}

func (o Observer) lost(queue string, n int) {
	if o.Lost != nil {
		o.Lost(queue, n)
	}
}

func (o Observer) viewsDropped(n int) {
	if n > 0 && o.ViewsDropped != nil {
		o.ViewsDropped(n)
	}
}

const (
	// forwardEvery is how often asynq moves scheduled and retried tasks whose time has come to pending. asynq's default
	// of 5 s is latency for nothing; this costs two cheap commands a second and queue.
	forwardEvery = time.Second
	// quitAfter bounds what is left to do when no task is with the handler any more: sending the outcomes, and the end of
	// asynq's server. A Redis that answers nothing is not waited for.
	quitAfter = 5 * time.Second
	// quitAtLeast is what it gets however little is left of the two timeouts.
	quitAtLeast = 500 * time.Millisecond
)

// Consumer takes tasks from the queues and has them run. It is used once.
type Consumer struct {
	opts     Options
	clients  Clients
	log      *slog.Logger
	loop     *loop
	broker   *broker
	auditor  *auditor
	renewer  *renewer
	lists    *listViews
	directs  *Directs
	stopping chan struct{} // closed when no task may be taken any more
}

// NewConsumer returns a consumer. It asks nothing of Redis before Run.
func NewConsumer(clients Clients, handler Handler, gate Gate, opts Options) (*Consumer, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	c := &Consumer{
		opts: opts, clients: clients, log: opts.Logger.With("component", "queue"),
		directs: NewDirects(clients.Client), stopping: make(chan struct{}),
	}
	scripts := newScripts()
	names := ByPriority(opts.Queues)
	if opts.Views {
		if opts.Cluster {
			c.log.Info("list views unavailable", "reason", "on Redis Cluster asynq:<queue>:pending and :active do not exist")
		} else {
			c.lists = &listViews{
				client: clients.Client, scripts: scripts, queues: names, worker: opts.WorkerID,
				interval: opts.BeatInterval, ttl: opts.BeatTTL, log: c.log,
				changed: wakeup.New(),
			}
		}
	}
	table := newAttemptTable(opts.WorkerID, opts.Nonce)
	c.auditor = &auditor{
		client: clients.NoRetry, scripts: scripts, table: table, queues: names,
		interval: opts.BeatInterval, log: c.log, requested: wakeup.New(),
	}
	c.loop = &loop{
		opts: opts, handler: handler, gate: gate, log: c.log, observer: opts.Observer, inbox: newInbox(), table: table,
		lists: c.lists, audit: c.auditor.request, receipts: newReceipts(names, opts.ConsumeTimeout, opts.Running), accepted: make(map[string]*attempt),
		idle: make(chan struct{}), flushed: make(chan struct{}),
	}
	for _, name := range names {
		c.loop.queues = append(c.loop.queues, c.newQueue(name, scripts))
	}
	c.renewer = &renewer{client: clients.Client, scripts: scripts, table: table, inbox: c.loop.inbox, log: c.log}
	c.broker = &broker{
		UniversalClient: clients.Client, stopping: c.stopping, active: table.active, lapsed: scripts.lapsed,
		silent:    newNoChannel(),
		rewritten: make(map[string]*redis.Script),
	}
	return c, nil
}

func (c *Consumer) newQueue(name string, scripts scripts) *queueState {
	q := &queueState{name: name, weight: c.opts.Queues[name], mostStuck: c.opts.Concurrency}
	q.cycler = &cycler{
		cycles: cycles{
			client: c.clients.NoRetry, scripts: scripts, queue: name, worker: c.opts.WorkerID, nonce: c.opts.Nonce,
			resultTTL: c.opts.ResultTTL, views: c.opts.Views, cluster: c.opts.Cluster,
			checksums: newDumpChecksums(), heard: func() { c.loop.receipts.hear(name, time.Now()) },
		},
		queue: q, inbox: c.loop.inbox, loop: c.loop, log: c.log, requests: make(chan cycleRequest, 1),
		archive: c.archiveUnreadable,
	}
	q.watcher = newWatcher(name, c.opts.WorkerID, c.clients.Blocking, q.cycler)
	return q
}

// archiveUnreadable archives a task that asynq could not read either.
func (c *Consumer) archiveUnreadable(ctx context.Context, queue, id, owner string, cause error) {
	keys := []string{taskKey(queue, id), activeKey(queue), leaseKey(queue), archivedKey(queue)}
	if err := newScripts().archiveUnreadable.Run(ctx, c.clients.Client, keys, id, owner).Err(); err != nil {
		c.auditor.request()
		c.log.Error("unreadable task not archived", "queue", queue, "task_id", id, "error", err)
		return
	}
	c.log.Error("unreadable task archived", "queue", queue, "task_id", id, "error", cause)
}

func (o Options) check() error {
	switch {
	case o.WorkerID == "" || o.Nonce == "":
		return errors.New("queue: a consumer needs a worker id and a nonce")
	case len(o.Queues) == 0:
		return errors.New("queue: a consumer needs at least one queue")
	case o.Concurrency < 1:
		return fmt.Errorf("queue: concurrency is %d, and must be at least 1", o.Concurrency)
	case o.BeatInterval <= 0 || o.ResultTTL <= 0 || o.BeatTTL <= 0:
		return errors.New("queue: the beat interval, its time to live and that of results must be positive")
	case o.Logger == nil:
		return errors.New("queue: a consumer needs a logger")
	}
	for q, weight := range o.Queues {
		if q == "" || weight < 1 {
			return fmt.Errorf("queue: queue %q has weight %d, and needs a name and at least 1", q, weight)
		}
	}
	return nil
}

// ByPriority returns queue names by falling weight, equal weights by name.
func ByPriority(queues map[string]int) []string {
	names := slices.Sorted(maps.Keys(queues))
	slices.SortStableFunc(names, func(a, b string) int { return queues[b] - queues[a] })
	return names
}

// Run processes tasks until ctx is over, then drains: it takes no more, lets those in flight finish for up to
// ShutdownTimeout, and then calls abort, which must make every attempt end soon; what did not finish goes back
// to pending with its retry count untouched. It returns when nothing of it is left running.
func (c *Consumer) Run(ctx context.Context, abort func()) error {
	server := asynq.NewServerFromRedisClient(c.broker, asynq.Config{
		Concurrency:              c.opts.Concurrency,
		Queues:                   c.opts.Queues,
		StrictPriority:           c.opts.StrictPriority,
		TaskCheckInterval:        time.Millisecond, // its dequeue returns once, at the end
		DelayedTaskCheckInterval: forwardEvery,
		ShutdownTimeout:          quitAfter,
		Logger:                   asynqLogger{c.opts.Logger.With("component", "asynq")},
	})
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if err := server.Start(asynq.NotFoundHandler()); err != nil {
		return fmt.Errorf("start asynq's server: %w", err)
	}
	c.loop.receipts.begin(time.Now())
	var running sync.WaitGroup
	for _, q := range c.loop.queues {
		running.Go(func() { q.cycler.run(background) })
		running.Go(func() { q.watcher.run(background) })
	}
	running.Go(func() { c.loop.run(background) })
	running.Go(func() { c.auditor.run(background) })
	running.Go(func() { c.renewer.run(background) })
	if c.lists != nil {
		running.Go(func() { c.lists.run(background) })
	}
	<-ctx.Done()
	told := time.Now()
	closeErr := c.clients.Blocking.Close()
	c.loop.inbox.put(event{kind: eventDrain})
	c.drain(abort)
	// What is left is tidying up, by one part after the other. A Redis that answers none of their commands is not
	// waited for: on a closed client they fail at once.
	limit := c.opts.quitLimit(time.Since(told))
	overdue := time.AfterFunc(limit, func() {
		_ = c.clients.Client.Close()
		_ = c.clients.NoRetry.Close()
	})
	defer overdue.Stop()
	select {
	case <-c.loop.flushed:
	case <-time.After(limit):
		c.log.Warn("drain incomplete", "reason", "redis does not take the outcomes")
	}
	stop()
	running.Wait()
	c.leave(ctx)
	close(c.stopping)
	server.Shutdown()
	c.broker.silent.close()
	if closeErr != nil {
		return fmt.Errorf("close the blocking connections: %w", closeErr)
	}
	return nil
}

// quitLimit is how long Redis may take for the last outcomes when the tasks have ended so long after the stop.
func (o Options) quitLimit(since time.Duration) time.Duration {
	if o.SettleTimeout <= 0 {
		return quitAfter
	}
	return max(min(quitAfter, o.ShutdownTimeout+o.SettleTimeout-since), quitAtLeast)
}

// leave closes this worker's own lists and removes the records of its cycles: its blocked connection can claim nothing
// more, and no cycle can write their names again.
func (c *Consumer) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), quitAfter)
	defer cancel()
	for _, q := range c.loop.queues {
		if _, err := c.directs.Leave(ctx, q.name, c.opts.WorkerID, c.opts.Nonce); err != nil {
			c.log.Warn("direct list not closed", "queue", q.name, "error", err)
			return // the others would fail in the same way; the fleet closes what is left
		}
	}
}

// drain waits for the tasks with the handler, and past the shutdown timeout has them aborted and waits for that.
func (c *Consumer) drain(abort func()) {
	if n := len(c.Active()); n > 0 {
		c.log.Info("drain started", "tasks", n, "timeout", c.opts.ShutdownTimeout)
	}
	timeout := time.NewTimer(c.opts.ShutdownTimeout)
	defer timeout.Stop()
	select {
	case <-c.loop.idle:
	case <-timeout.C:
		c.log.Warn("drain timed out", "tasks", len(c.Active()))
		abort()
		<-c.loop.idle
	}
}

// Drained returns a channel that is closed when a drain has seen the last task end: nothing more is given to the
// handler. Redis may not have the last outcomes yet; Run returns when it has, or does not answer.
func (c *Consumer) Drained() <-chan struct{} { return c.loop.idle }

// Wake has every queue asked soon: there may be room again, or a task for this worker. It does not block.
func (c *Consumer) Wake() { c.loop.inbox.put(event{kind: eventWake}) }

// Cancel has a task cancelled that is with the handler, or waits for it; for another it does nothing. It does not block.
func (c *Consumer) Cancel(taskID string) {
	c.loop.inbox.put(event{kind: eventCancel, taskID: taskID})
}

// Free reports whether a task would begin now. It is safe to call at any time.
func (c *Consumer) Free() bool {
	return !c.loop.alone.Load() && c.loop.handler.Room().Idle && c.loop.gate.Open()
}

// Consumption says when Redis last answered what, and what hinders the work now. It never waits for Redis and is safe to call
// at any time.
func (c *Consumer) Consumption() Consumption { return c.loop.receipts.judge(time.Now()) }

// ConsumptionChanged returns a channel that is closed when something next works that did not, or that had not been asked.
// What ceases to work is seen by asking for the Consumption again and again. Take it before calling Consumption.
func (c *Consumer) ConsumptionChanged() <-chan struct{} { return c.loop.receipts.changed.Next() }

// ActiveTask is a task that is with the handler.
type ActiveTask struct {
	ID, Queue, Type string
	Since           time.Time // when it was taken from the queue
	Started         time.Time // when its handler began; zero before
	Progress        float64   // the share that its handler says is done, 0 to 1; negative: it has said nothing
	ProgressMessage string    // what the handler said with it; empty: nothing
	Payload         []byte    // not to be changed
	deadline        time.Time
}

// Active returns the tasks that are with the handler, the longest-running first; those that wait for their turn there come
// last. It is safe to call at any time.
func (c *Consumer) Active() []ActiveTask { return c.loop.table.active() }

// ActiveCount returns how many tasks are with the handler. It is cheap and safe to call at any time.
func (c *Consumer) ActiveCount() int { return c.loop.table.count() }

// asynqLogger brings asynq's own log lines into ours, with their text as the message. What asynq logs in normal running
// is for debugging.
type asynqLogger struct{ log *slog.Logger }

func (l asynqLogger) line(level slog.Level, args []any) {
	l.log.Log(context.Background(), level, fmt.Sprint(args...)) //nolint:sloglint // what asynq says
}

func (l asynqLogger) Debug(args ...any) { l.line(slog.LevelDebug, args) }
func (l asynqLogger) Info(args ...any)  { l.line(slog.LevelDebug, args) }
func (l asynqLogger) Warn(args ...any)  { l.line(slog.LevelWarn, args) }
func (l asynqLogger) Error(args ...any) { l.line(slog.LevelError, args) }
func (l asynqLogger) Fatal(args ...any) { l.line(slog.LevelError, args) }
