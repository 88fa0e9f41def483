// Package taskfile enqueues the tasks of an NDJSON stream, one JSON object per line.
package taskfile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/client"
)

// So many lines, or so many payload bytes, are collected before they are sent. They fill one pipeline of the client.
const (
	batchLines = 500
	batchBytes = 4 << 20
	maxQueues  = 100 // that a summary names
)

// Report is told how a run goes. Both functions may be nil and are called from Enqueue's own goroutine.
type Report struct {
	// Progress: so many more bytes of the input are dealt with, and so many tasks are enqueued in all.
	Progress func(bytes int64, tasks int)
	BadLine  func(line int, err error) // a line that was not enqueued; counted from 1
}

// Summary is what a run did.
type Summary struct {
	Enqueued int      // tasks that are in Redis
	Bad      int      // lines that were refused: not a task, or an id that exists
	Unknown  int      // tasks of the pipeline that broke: perhaps in Redis, perhaps not
	LastLine int      // the last line that was dealt with
	Queues   []string // that got tasks, in their order; the first hundred
}

// Enqueue enqueues every line of the stream in order, many at a time. A line is {"payload": …} with optional type,
// queue, id, max_retry, timeout, retention, in and headers; what it leaves out comes from defaults. Blank lines are
// skipped. A bad line is reported and does not stop the others; an error means that the run ended before the stream
// did.
func Enqueue(ctx context.Context, c *client.Client, r io.Reader, defaults client.Task, report Report) (Summary, error) {
	f := &run{client: c, report: report}
	reader := bufio.NewReaderSize(r, 256<<10)
	for number := 1; ; number++ {
		if err := ctx.Err(); err != nil {
			err = errors.Join(err, f.flush(context.WithoutCancel(ctx)))
			return f.summary, err
		}
		data, n, err := readLine(reader)
		switch {
		case errors.Is(err, io.EOF):
			err := f.flush(ctx)
			return f.summary, err
		case errors.Is(err, errLineTooLong):
			f.bad(number, err)
		case err != nil:
			err = errors.Join(fmt.Errorf("read line %d: %w", number, err), f.flush(ctx))
			return f.summary, err
		case len(bytes.TrimSpace(data)) > 0:
			f.add(number, data, defaults)
		}
		f.bytes += n
		f.summary.LastLine = number
		// An empty buffer: nothing may follow for a while.
		if len(f.tasks) >= batchLines || f.payload >= batchBytes || reader.Buffered() == 0 {
			if err := f.flush(ctx); err != nil {
				return f.summary, err
			}
		}
	}
}

// run is one run of Enqueue.
type run struct {
	client  *client.Client
	report  Report
	tasks   []client.Task // read and not yet sent
	lines   []int         // of the tasks
	payload int           // bytes of the tasks
	bytes   int64         // read and not yet reported
	summary Summary
}

func (f *run) bad(line int, err error) {
	f.summary.Bad++
	if f.report.BadLine != nil {
		f.report.BadLine(line, err)
	}
}

func (f *run) add(number int, data []byte, defaults client.Task) {
	task, err := parseLine(data, defaults)
	if err != nil {
		f.bad(number, err)
		return
	}
	f.tasks, f.lines = append(f.tasks, task), append(f.lines, number)
	f.payload += len(task.Payload)
}

// flush sends the tasks that were read and counts their outcomes. An error ends the run.
func (f *run) flush(ctx context.Context) error {
	var failed error
	if len(f.tasks) > 0 {
		outcomes, err := f.client.EnqueueMany(ctx, f.tasks)
		for i, outcome := range outcomes {
			cause := f.count(f.lines[i], outcome.Err)
			if q := f.tasks[i].Queue; outcome.Err == nil && len(f.summary.Queues) < maxQueues && !slices.Contains(f.summary.Queues, q) {
				f.summary.Queues = append(f.summary.Queues, q)
			}
			if errors.Is(cause, client.ErrNotSent) {
				cause = err // why it was not sent
			}
			if cause != nil && failed == nil {
				failed = fmt.Errorf("line %d: %w", f.lines[i], cause)
			}
		}
		if failed == nil {
			failed = err
		}
	}
	f.tasks, f.lines, f.payload = f.tasks[:0], f.lines[:0], 0
	if f.report.Progress != nil && f.bytes > 0 {
		f.report.Progress(f.bytes, f.summary.Enqueued)
	}
	f.bytes = 0
	return failed
}

// count counts one task's outcome. It returns the error if it is one that ends the run.
func (f *run) count(line int, err error) error {
	var (
		uncertain *client.UncertainError
		invalid   *client.InvalidTaskError
		refused   redis.Error
	)
	switch {
	case err == nil:
		f.summary.Enqueued++
	case errors.Is(err, client.ErrTaskExists), errors.As(err, &invalid):
		f.bad(line, err)
	case errors.As(err, &uncertain):
		f.summary.Unknown++
		return uncertain.Err
	case errors.Is(err, client.ErrNotSent):
		f.summary.LastLine = min(f.summary.LastLine, line-1)
		return err
	case errors.As(err, &refused):
		f.bad(line, err)
		return err
	default:
		return err
	}
	return nil
}
