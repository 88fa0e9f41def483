package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

// One pipeline carries at most so many tasks and so many payload bytes (one task may be larger than that).
const (
	batchTasks = 500
	batchBytes = 4 << 20
)

// Outcome is what became of one task of [Client.EnqueueMany].
type Outcome struct {
	Info TaskInfo // names the task, if Err is nil
	// Err is nil for a task that is enqueued. Else it is an [*InvalidTaskError], wraps [ErrTaskExists] or [ErrNotSent],
	// is an [*UncertainError], or tells that Redis has refused the task.
	Err error
}

// ErrNotSent says that a task was not sent, because the call had failed before its turn.
var ErrNotSent = errors.New("the task was not sent")

// UncertainError says that a task was sent and no answer has come: it may or may not be enqueued.
type UncertainError struct {
	Err error // of the connection
}

// Error tells the error of the connection.
func (e *UncertainError) Error() string {
	return "the task may or may not be enqueued: " + e.Err.Error()
}

// Unwrap returns the error of the connection.
func (e *UncertainError) Unwrap() error { return e.Err }

// EnqueueMany puts tasks on their queues in the order of the list, and returns the outcome of each, in the same order.
// They travel in pipelines of up to 500 tasks or 4 MiB of payloads, one round trip each; the tasks are not one
// transaction. It blocks until the last pipeline is answered. Cut a list that does not fit in memory into pieces.
//
// A task that is invalid or whose ID exists does not stop the others: only its outcome tells. The error is not nil when
// Redis failed or ctx ended before every task was sent, and is the first such error; the outcomes then tell what is
// enqueued ([Outcome].Err is nil), what is not ([ErrNotSent]) and what is not known ([*UncertainError]).
func (c *Client) EnqueueMany(ctx context.Context, tasks []Task) ([]Outcome, error) {
	outcomes := make([]Outcome, len(tasks))
	for start := 0; start < len(tasks); {
		end := batchEnd(tasks, start)
		if err := c.enqueueBatch(ctx, tasks[start:end], outcomes[start:end]); err != nil {
			setNotSent(outcomes[end:], err)
			return outcomes, err
		}
		start = end
	}
	return outcomes, nil
}

// batchEnd returns where the pipeline ends that begins at start.
func batchEnd(tasks []Task, start int) int {
	size := 0
	for i := start; i < len(tasks); i++ {
		size += len(tasks[i].Payload)
		if size >= batchBytes || i+1-start == batchTasks {
			return i + 1
		}
	}
	return len(tasks)
}

func setNotSent(outcomes []Outcome, cause error) {
	for i := range outcomes {
		outcomes[i].Err = fmt.Errorf("%w: %s", ErrNotSent, cause.Error()) // not wrapped: it is another task's error
	}
}

// batch is the tasks of one pipeline.
type batch struct {
	entries []batchEntry
	calls   []scriptCall // one for each entry
}

type batchEntry struct {
	task      Task
	outcome   *Outcome
	generated bool // the ID is ours: a conflict means that a lost answer was a yes
}

// enqueueBatch sends the tasks as one pipeline and fills in their outcomes. An error is one that ends the whole call.
func (c *Client) enqueueBatch(ctx context.Context, tasks []Task, outcomes []Outcome) error {
	if ctx.Err() != nil {
		err := fmt.Errorf("enqueue: %w", context.Cause(ctx))
		setNotSent(outcomes, err)
		return err
	}
	var failed error
	var b batch
	for i, t := range tasks {
		err := c.addToBatch(ctx, &b, t, &outcomes[i])
		if err != nil && !isOnlyThisTask(err) {
			failed = err
			setNotSent(outcomes[i:], failed)
			break
		}
	}
	if len(b.entries) == 0 {
		return failed
	}
	pipe := c.redis.Pipeline()
	replies := make([]*redis.Cmd, len(b.calls))
	for i, call := range b.calls {
		replies[i] = pipe.EvalSha(ctx, call.sha, call.keys, call.args...)
	}
	_, _ = pipe.Exec(ctx) // the commands carry their errors
	var refused error
	for i, reply := range replies {
		if err := c.readReply(ctx, b.entries[i], reply); err != nil && refused == nil {
			refused = err
		}
	}
	if refused != nil {
		return refused
	}
	return failed
}

// isOnlyThisTask reports whether an error is one task's alone and does not stop the others.
func isOnlyThisTask(err error) bool {
	var invalid *InvalidTaskError
	return errors.As(err, &invalid) || errors.Is(err, ErrTaskExists)
}

// addToBatch encodes one task. An error is its outcome.
func (c *Client) addToBatch(ctx context.Context, b *batch, t Task, outcome *Outcome) error {
	if outcome.Err = t.Validate(); outcome.Err != nil {
		return outcome.Err
	}
	if outcome.Err = c.discardOldResult(ctx, t); outcome.Err != nil {
		return outcome.Err
	}
	entry := batchEntry{task: t, outcome: outcome, generated: t.ID == ""}
	if entry.generated {
		entry.task.ID = uuid.NewString()
	}
	recorded := len(b.calls)
	info, err := c.send(context.WithValue(ctx, recordedCalls{}, &b.calls), c.recording, entry.task)
	if err != nil {
		b.calls = b.calls[:recorded]
		return err
	}
	if n := len(b.calls) - recorded; n != 1 {
		b.calls = b.calls[:recorded]
		return fmt.Errorf("enqueueing made %d script calls where one was expected", n)
	}
	outcome.Info = info
	b.entries = append(b.entries, entry)
	return nil
}

// readReply fills in the outcome of one task that was sent. An error is one that ends the whole call.
func (c *Client) readReply(ctx context.Context, e batchEntry, reply *redis.Cmd) error {
	n, err := reply.Int64()
	if err != nil && (redis.HasErrorPrefix(err, "NOSCRIPT") || c.isTransient(err)) {
		// The server does not have the script (yet, or any more), which asynq sends then; or it took nothing at the
		// moment.
		if _, err = c.send(ctx, c.asynq, e.task); err == nil {
			n = 1
		} else if errors.Is(err, ErrTaskExists) {
			n, err = 0, nil
		}
	}
	switch {
	case err != nil:
		var refused redis.Error
		if !errors.As(err, &refused) {
			err = &UncertainError{Err: err}
		}
		*e.outcome = Outcome{Err: err}
		return err
	case n != 1 && !e.generated:
		*e.outcome = Outcome{Err: fmt.Errorf("id %q: %w", e.task.ID, ErrTaskExists)}
	}
	return nil
}

// recorder is a Redis client that keeps asynq's enqueueing scripts instead of sending them, and answers that they went
// well. Everything else passes. The calls are kept in the context's list, so it is safe for concurrent use.
type recorder struct{ redisClock }

// recordedCalls is the context's key of the *[]scriptCall that a recorder appends to.
type recordedCalls struct{}

type scriptCall struct {
	sha  string
	keys []string
	args []any
}

// EvalSha records the call; it answers what the scripts answer for a new task.
func (r recorder) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	calls, ok := ctx.Value(recordedCalls{}).(*[]scriptCall)
	if !ok {
		cmd.SetErr(errors.New("a script call that nobody records"))
		return cmd
	}
	*calls = append(*calls, scriptCall{sha: r.digest(sha, keys), keys: keys, args: args})
	cmd.SetVal(int64(1))
	return cmd
}
