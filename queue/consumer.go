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
	Blocking redis.UniversalClient // opened with [NoRetry], at least two connections per queue
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
	MaxTaskCrashes  int            // a task that crashed the process this often is archived; 0: never
	ResultTTL       time.Duration  // of results and of the readable hashes
	Views           bool           // keep the views for redis-cli
	Cluster         bool           // the client is one of Redis Cluster
	BeatInterval    time.Duration  // how often the audit looks and the copied lists are refreshed
	BeatTTL         time.Duration  // how long the copied lists outlive their last refresh
	WaitLimit       time.Duration  // longest wait inside one dequeue call; 0: 5 s
	Observer        Observer
	Logger          *slog.Logger
}

// Observer is told what happens to tasks. Any field may be nil; the functions are called from several goroutines and
// must not block.
type Observer struct {
	Finished func(t *Task, took time.Duration, failed bool) // an attempt ended; not for one that did not run
	Fenced   func(queue string)                             // an acknowledgement came too late and was refused
}

func (o Observer) finished(t *Task, took time.Duration, failed bool) {
	if o.Finished != nil {
		o.Finished(t, took, failed)
	}
}

func (o Observer) fenced(queue string) {
	if o.Fenced != nil {
		o.Fenced(queue)
	}
}

const (
	defaultWaitLimit = 5 * time.Second
	// forwardEvery is how often asynq moves scheduled and retried tasks whose time has come to pending. asynq's default
	// of 5 s is latency for nothing; this costs two cheap commands a second and queue.
	forwardEvery = time.Second
	// quitAfter is asynq's own shutdown timeout. By then no attempt is left; it is a last way out, from commands that
	// Redis does not answer too.
	quitAfter = 5 * time.Second
)

// Consumer takes tasks from the queues and has them run. It is used once.
type Consumer struct {
	opts     Options
	clients  Clients
	handler  Handler
	log      *slog.Logger
	attempts *attempts
	broker   *broker
	runner   *runner
	auditor  *auditor
	views    *taskViews
	lists    *listViews
	watchers []*watcher
	stopping chan struct{} // closed when no task may be taken any more
}

// NewConsumer returns a consumer. It asks nothing of Redis before Run.
func NewConsumer(clients Clients, handler Handler, gate Gate, opts Options) (*Consumer, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	queues := slices.Sorted(maps.Keys(opts.Queues))
	c := &Consumer{
		opts: opts, clients: clients, handler: handler, log: opts.Logger.With("component", "queue"),
		attempts: newAttempts(opts.WorkerID, opts.Nonce, opts.Concurrency),
		stopping: make(chan struct{}),
	}
	scripts := newScripts()
	if opts.Views {
		c.views = newTaskViews(clients.Client, scripts.view, opts.ResultTTL, opts.WorkerID, c.log)
		if opts.Cluster {
			c.log.Info("list views unavailable", "reason", "on Redis Cluster asynq:<queue>:pending and :active do not exist")
		} else {
			c.lists = &listViews{
				client: clients.Client, scripts: scripts, queues: queues, worker: opts.WorkerID,
				interval: opts.BeatInterval, ttl: opts.BeatTTL, viewTTL: opts.ResultTTL, log: c.log,
				changed: wakeup.New(),
			}
			c.views.lists = c.lists
		}
	}
	c.auditor = &auditor{
		client: clients.Client, scripts: scripts, attempts: c.attempts, views: c.views, queues: queues,
		interval: opts.BeatInterval, log: c.log, requested: wakeup.New(),
		fenced: func(queue, taskID string) { c.fenced(queue, taskID, outcomeDropped) },
	}
	ready := wakeup.New()
	watchers := make(map[string][]*watcher, len(queues))
	for _, q := range queues {
		for _, key := range []string{pendingKey(q), directKey(q, opts.WorkerID)} {
			watchers[q] = append(watchers[q], newWatcher(key, clients.Blocking, ready))
		}
		c.watchers = append(c.watchers, watchers[q]...)
	}
	d := &dequeuer{
		client: clients.NoRetry, scripts: scripts, attempts: c.attempts, gate: gate, log: c.log, stopping: c.stopping,
		limit: opts.WaitLimit, requestAudit: c.auditor.request, watchers: watchers, ready: ready,
		worker: opts.WorkerID,
	}
	if d.limit == 0 {
		d.limit = defaultWaitLimit
	}
	if opts.StrictPriority {
		d.strict = ByPriority(opts.Queues)
	}
	c.broker = &broker{
		UniversalClient: clients.Client, noRetry: clients.NoRetry, dequeuer: d, attempts: c.attempts,
		acknowledged: c.views.acknowledged, fenced: c.fenced, requestAudit: c.auditor.request,
		guarded: make(map[string]*redis.Script),
	}
	c.runner = &runner{
		client: clients.NoRetry, scripts: scripts, attempts: c.attempts, handler: handler, views: c.views,
		results:  &results{client: clients.NoRetry, scripts: scripts, ttl: opts.ResultTTL, cluster: opts.Cluster},
		observer: opts.Observer, log: c.log, maxCrashes: opts.MaxTaskCrashes, requestAudit: c.auditor.request,
	}
	return c, nil
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
// ShutdownTimeout, and then calls abort, which must make every Process call return soon; what did not finish goes back
// to pending with its retry count untouched. It returns when nothing of it is left running.
func (c *Consumer) Run(ctx context.Context, abort func()) error {
	server := asynq.NewServerFromRedisClient(c.broker, asynq.Config{
		Concurrency:              c.opts.Concurrency,
		Queues:                   c.opts.Queues,
		StrictPriority:           c.opts.StrictPriority,
		TaskCheckInterval:        time.Millisecond, // the waiting is done inside the dequeue
		DelayedTaskCheckInterval: forwardEvery,
		RetryDelayFunc:           retryDelay,
		ShutdownTimeout:          quitAfter,
		Logger:                   asynqLogger{c.opts.Logger.With("component", "asynq")},
		ErrorHandler:             asynq.ErrorHandlerFunc(c.logFailure),
	})
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	for _, w := range c.watchers {
		running.Go(func() { w.run(background) })
	}
	running.Go(func() { c.auditor.run(background) })
	if c.views != nil {
		running.Go(func() { c.views.run(background) })
	}
	if c.lists != nil {
		running.Go(func() { c.lists.run(background) })
	}
	err := server.Start(c.runner)
	if err == nil {
		<-ctx.Done()
	}
	close(c.stopping)
	closeErr := c.clients.Blocking.Close()
	if err == nil {
		server.Stop()
		c.drain(abort)
		// What is left is tidying up, by one part after the other. A Redis that answers none of their commands is not
		// waited for: on a closed client they fail at once.
		overdue := time.AfterFunc(quitAfter, func() { _ = c.clients.Client.Close() })
		defer overdue.Stop()
		server.Shutdown()
	}
	stop()
	running.Wait()
	if err != nil {
		return fmt.Errorf("start asynq's server: %w", err)
	}
	if closeErr != nil {
		return fmt.Errorf("close the blocking connections: %w", closeErr)
	}
	return nil
}

// drain waits for the tasks in flight, and past the shutdown timeout has them aborted and waits for that. All slots are
// taken when it returns, so no task can begin any more.
func (c *Consumer) drain(abort func()) {
	if n := c.attempts.busy(); n > 0 {
		c.log.Info("drain started", "tasks", n, "timeout", c.opts.ShutdownTimeout)
	}
	timeout := time.NewTimer(c.opts.ShutdownTimeout)
	defer timeout.Stop()
	for range c.opts.Concurrency {
		select {
		case c.attempts.slots <- struct{}{}:
			continue
		case <-timeout.C:
		}
		c.log.Warn("drain timed out", "tasks", len(c.attempts.active()))
		abort()
		c.attempts.slots <- struct{}{}
	}
}

func (c *Consumer) fenced(queue, taskID string, out outcome) {
	c.opts.Observer.fenced(queue)
	c.log.Warn("late acknowledgement refused", "queue", queue, "task_id", taskID, "outcome", string(out))
}

func (c *Consumer) logFailure(ctx context.Context, t *asynq.Task, err error) {
	id, _ := asynq.GetTaskID(ctx)
	queue, _ := asynq.GetQueueName(ctx)
	retried, _ := asynq.GetRetryCount(ctx)
	most, _ := asynq.GetMaxRetry(ctx)
	c.log.Warn("task failed", "queue", queue, "task_id", id, "type", t.Type(), "retry_count", retried, "max_retry", most, "error", err)
}

// ActiveTask is a task that is being worked on.
type ActiveTask struct {
	ID, Queue, Type string
	Since           time.Time // when it was taken from the queue
	Started         time.Time // when it was given to the handler; zero before
	Progress        float64   // the share that its handler says is done, 0 to 1; negative: it has said nothing
	ProgressMessage string    // what the handler said with it; empty: nothing
	Payload         []byte    // not to be changed
}

// Active returns the tasks in flight, the longest-running first. It is safe to call at any time.
func (c *Consumer) Active() []ActiveTask {
	return c.attempts.activeTasks()
}

// Progress notes what the handler of a task has reported: the share that is done, clamped to at most 1 (negative or
// NaN: as before), and a message, which replaces the one before. It is shown by Active at once and in the task's
// readable hash within half a second or so. It does not block. For a task that is not with the handler it does nothing.
func (c *Consumer) Progress(taskID string, fraction float64, message string) {
	if p, ok := c.attempts.report(taskID, fraction, message); ok {
		c.views.progressed(taskID, p)
	}
}

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
