package enqueue

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// One pipeline carries at most so many tasks and so many payload bytes (one
// task may be larger than that).
const (
	batchTasks = 500
	batchBytes = 4 << 20
)

// Report hears how a bulk run goes. Both functions may be nil and are called
// from Bulk's own goroutine.
type Report struct {
	// Progress: so many more bytes of the input are dealt with, and so many
	// tasks are enqueued in all.
	Progress func(bytes int64, tasks int)
	BadLine  func(line int, err error) // a line that was not enqueued; counted from 1
}

// Summary is what a bulk run did.
type Summary struct {
	Enqueued int // tasks that are in Redis
	Bad      int // lines that were refused: not a task, or an id that exists
	Unknown  int // tasks of the pipeline that broke: perhaps in Redis, perhaps not
	LastLine int // the last line that was dealt with
}

// Bulk enqueues every line of an NDJSON stream in order, in pipelines. A line
// is {"payload": …} with optional type, queue, id, max_retry, timeout,
// retention, in and headers; what it leaves out comes from defaults. Blank
// lines are skipped. A bad line is reported and does not stop the others; an
// error means that the run ended before the stream did.
func (c *Client) Bulk(ctx context.Context, r io.Reader, defaults Task, report Report) (Summary, error) {
	b := &bulk{client: c, report: report, recorder: &recorder{UniversalClient: c.redis}}
	b.asynq = asynq.NewClientFromRedisClient(b.recorder)
	reader := bufio.NewReaderSize(r, 256<<10)
	for number := 1; ; number++ {
		if err := ctx.Err(); err != nil {
			err = errors.Join(err, b.flush(context.WithoutCancel(ctx)))
			return b.summary, err
		}
		data, n, err := readLine(reader)
		switch {
		case errors.Is(err, io.EOF):
			err := b.flush(ctx)
			return b.summary, err
		case errors.Is(err, errLineTooLong):
			b.bad(number, err)
		case err != nil:
			err = errors.Join(fmt.Errorf("read line %d: %w", number, err), b.flush(ctx))
			return b.summary, err
		case len(bytes.TrimSpace(data)) > 0:
			if err := b.add(ctx, number, data, defaults); err != nil {
				return b.summary, err
			}
		}
		b.bytes += n
		b.summary.LastLine = number
		if reader.Buffered() == 0 { // nothing may follow for a while
			if err := b.flush(ctx); err != nil {
				return b.summary, err
			}
		}
	}
}

// bulk is one run.
type bulk struct {
	client   *Client
	report   Report
	recorder *recorder
	asynq    *asynq.Client // over the recorder
	entries  []entry       // of the batch, as the recorder has them
	payload  int           // bytes of the batch
	bytes    int64         // read but not yet reported
	summary  Summary
}

type entry struct {
	line int
	task Task
	own  bool // the id is ours: a conflict means that a lost answer was a yes
}

func (b *bulk) bad(line int, err error) {
	b.summary.Bad++
	if b.report.BadLine != nil {
		b.report.BadLine(line, err)
	}
}

func (b *bulk) add(ctx context.Context, number int, data []byte, defaults Task) error {
	task, err := parseLine(data, defaults)
	if err != nil {
		b.bad(number, err)
		return nil
	}
	e := entry{line: number, task: task, own: task.ID == ""}
	if e.own {
		e.task.ID = uuid.NewString()
	}
	recorded := len(b.recorder.calls)
	if _, err := send(ctx, b.asynq, e.task); err != nil {
		return errors.Join(fmt.Errorf("line %d: %w", number, err), b.flush(context.WithoutCancel(ctx)))
	}
	if len(b.recorder.calls) != recorded+1 {
		return fmt.Errorf("line %d: enqueueing made %d script calls where one was expected", number, len(b.recorder.calls)-recorded)
	}
	b.entries = append(b.entries, e)
	b.payload += len(task.Payload)
	if len(b.entries) >= batchTasks || b.payload >= batchBytes {
		return b.flush(ctx)
	}
	return nil
}

// flush sends the batch as one pipeline and takes stock.
func (b *bulk) flush(ctx context.Context) error {
	entries, calls := b.entries, b.recorder.calls
	b.entries, b.recorder.calls, b.payload = b.entries[:0], nil, 0
	var broken error
	if len(entries) > 0 {
		pipe := b.client.redis.Pipeline()
		replies := make([]*redis.Cmd, len(calls))
		for i, call := range calls {
			replies[i] = pipe.EvalSha(ctx, call.sha, call.keys, call.args...)
		}
		_, _ = pipe.Exec(ctx) // the commands carry their errors
		for i, reply := range replies {
			if err := b.settle(ctx, entries[i], reply); err != nil && broken == nil {
				broken = fmt.Errorf("line %d: %w", entries[i].line, err)
			}
		}
	}
	if b.report.Progress != nil && b.bytes > 0 {
		b.report.Progress(b.bytes, b.summary.Enqueued)
	}
	b.bytes = 0
	return broken
}

// settle counts one task. An error is one that ends the run.
func (b *bulk) settle(ctx context.Context, e entry, reply *redis.Cmd) error {
	n, err := reply.Int64()
	if err != nil && (redis.HasErrorPrefix(err, "NOSCRIPT") || notNow(err)) {
		// The server does not have the script (yet, or any more), which asynq
		// sends then; or it took nothing at the moment.
		if _, err = send(ctx, b.client.asynq, e.task); err == nil {
			n = 1
		} else if errors.Is(err, ErrExists) {
			n, err = 0, nil
		}
	}
	switch {
	case err != nil:
		var refused redis.Error
		if errors.As(err, &refused) {
			b.bad(e.line, err)
		} else {
			b.summary.Unknown++
		}
		return err
	case n == 1 || e.own:
		b.summary.Enqueued++
	default:
		b.bad(e.line, fmt.Errorf("id %q: %w", e.task.ID, ErrExists))
	}
	return nil
}

// recorder is a Redis client that keeps asynq's enqueueing scripts instead of
// sending them, and says that they went well. Everything else passes.
type recorder struct {
	redis.UniversalClient
	calls []call
}

type call struct {
	sha  string
	keys []string
	args []any
}

// EvalSha records the call; it answers what the scripts answer for a new task.
func (r *recorder) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	r.calls = append(r.calls, call{sha: sha, keys: keys, args: args})
	cmd := redis.NewCmd(ctx)
	cmd.SetVal(int64(1))
	return cmd
}
