package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/runqy/runqy-worker/client"
	"github.com/runqy/runqy-worker/internal/taskfile"
)

// maxPayload bounds a payload that is read from standard input, in bytes.
const maxPayload = 128 << 20

// maxShownLines is how many bad lines of a file are named.
const maxShownLines = 20

// maxShownQueues is of how many queues of a file it is looked up who serves them.
const maxShownQueues = 10

type enqueueFlags struct {
	wait     bool
	fromFile string
	maxRetry int
	output   string
	task     client.Task
	worker   string // assign to this one
	anyFree  bool   // assign to one that is free
}

func newEnqueueCmd(a *app) *cobra.Command {
	var f enqueueFlags
	cmd := &cobra.Command{
		Use:   "enqueue QUEUE [TYPE] [JSON]",
		Short: "Put one task, or a file of tasks, on a queue",
		Long: `Put one task on a queue. JSON is its payload; - reads it from standard input,
and without it the payload is {}. --wait prints the result, or the error and
exits with 1.

With --from-file every line of the file (- is standard input) is one task:

  {"payload": {"n": 1}, "type": "resize", "queue": "q", "id": "a", "max_retry": 3,
   "timeout": "30s", "retention": "1h", "in": "5m", "headers": {"k": "v"}}

Only the payload is required; the rest comes from the command line. The tasks
keep the order of the lines. A bad line is named and skipped; the exit code is
then 1.

When no worker serves the queue, a warning on standard error says so: the task
is enqueued all the same, and the exit code stays 0.

--worker gives the task to one worker, which must be alive and well and serve
the queue; --any-free waits for one that is free. Should that worker die or
degrade before it takes the task, the task goes back to the queue.`,
		Example: `  runqy-worker enqueue inference_default resize '{"width": 80}' --wait
  runqy-worker enqueue inference_default resize --from-file tasks.ndjson`,
		Args: f.check,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			payload, err := a.payload(f, args)
			if err != nil {
				return err
			}
			f.task.Payload = payload
			if f.fromFile == "" {
				if err := f.task.Validate(); err != nil {
					return usageError(err)
				}
			}
			f.task.DiscardOldResult = f.wait
			rdb, err := a.openRedis(ctx)
			if err != nil {
				return err
			}
			defer rdb.Close()
			if f.worker != "" || f.anyFree {
				return a.assignOne(ctx, rdb, f)
			}
			c, err := client.NewFromRedis(rdb, client.Options{HeartbeatsOnly: true})
			if err != nil {
				return err
			}
			defer c.Close()
			if f.fromFile != "" {
				return a.enqueueFile(ctx, c, f)
			}
			return a.enqueueOne(ctx, c, f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.wait, "wait", false, "wait for the result and print it")
	flags.StringVar(&f.fromFile, "from-file", "", "enqueue every line of an NDJSON `file` (- is standard input)")
	flags.StringVar(&f.task.ID, "id", "", "task `id`, unique in its queue (default: random)")
	flags.IntVar(&f.maxRetry, "max-retry", 25, "how `many` times a failed task is tried again")
	flags.DurationVar(&f.task.Timeout, "timeout", 0, "how long one attempt may take (default 30m)")
	flags.DurationVar(&f.task.Retention, "retention", 0, "how long asynq keeps the finished task (default: not at all)")
	flags.DurationVar(&f.task.In, "in", 0, "not before so long from now")
	flags.StringVar(&f.worker, "worker", "", "give it to the worker with this `id`")
	flags.BoolVar(&f.anyFree, "any-free", false, "give it to a worker that is free, and wait for one")
	exclusiveFlags(cmd, [][2]string{
		{"worker", "any-free"}, {"worker", "in"}, {"worker", "from-file"}, {"any-free", "in"}, {"any-free", "from-file"},
	}...)
	outputFlag(cmd, &f.output, "text", "json")
	return cmd
}

// check reads the arguments and refuses flags that do not go together.
func (f *enqueueFlags) check(cmd *cobra.Command, args []string) error {
	if cmd.Flags().Changed("max-retry") {
		f.task.MaxRetry = &f.maxRetry
	}
	if f.fromFile != "" {
		if err := cobra.RangeArgs(1, 2)(cmd, args); err != nil {
			return fmt.Errorf("with --from-file: QUEUE [TYPE]: %w", err)
		}
		if f.wait || f.task.ID != "" {
			return errors.New("--wait and --id are for one task and do not go with --from-file")
		}
	} else if err := cobra.RangeArgs(2, 3)(cmd, args); err != nil {
		return fmt.Errorf("QUEUE TYPE [JSON]: %w", err)
	}
	f.task.Queue = args[0]
	if len(args) > 1 {
		f.task.Type = args[1]
	}
	probe := f.task // what is wrong for every line is told once
	probe.Payload = json.RawMessage("null")
	if probe.Type == "" && f.fromFile != "" {
		probe.Type = "line"
	}
	return probe.Validate()
}

func (a *app) payload(f enqueueFlags, args []string) (json.RawMessage, error) {
	switch {
	case f.fromFile != "":
		return nil, nil
	case len(args) < 3:
		return json.RawMessage("{}"), nil
	case args[2] != "-":
		return json.RawMessage(args[2]), nil
	}
	data, err := io.ReadAll(io.LimitReader(a.in, maxPayload+1))
	if err != nil {
		return nil, fmt.Errorf("read the payload from standard input: %w", err)
	}
	if len(data) > maxPayload {
		return nil, usageError(fmt.Errorf("the payload on standard input is larger than %d MiB", maxPayload>>20))
	}
	return data, nil
}

func (a *app) enqueueOne(ctx context.Context, c *client.Client, f enqueueFlags) error {
	info, err := c.Enqueue(ctx, f.task)
	if err != nil {
		return err
	}
	return a.printOrWait(ctx, c, f, info)
}

// printOrWait prints where the task is, and a warning when no worker takes it, or with --wait its result.
func (a *app) printOrWait(ctx context.Context, c *client.Client, f enqueueFlags, info client.TaskInfo) error {
	if !f.wait {
		err := a.printTask(info, f.output)
		a.printUnserved(ctx, c, info.Queue)
		return err
	}
	// Standard output is the result's alone.
	if isTerminal(a.errOut) {
		fmt.Fprintf(a.errOut, "task %s is %s in queue %s; waiting for its result\n", info.ID, info.State, info.Queue)
	}
	bar := newWaitBar(a.errOut)
	opts := client.WaitOptions{
		OnRetry: func(r client.Retry) {
			bar.clear()
			fmt.Fprintf(a.errOut, "attempt %d failed, trying again in %s (%d of %d retries left): %s\n", r.Retried,
				max(0, time.Until(r.Next)).Round(time.Second), r.MaxRetry-r.Retried+1, r.MaxRetry, r.Reason)
		},
		OnPending: func() {
			bar.clear()
			a.printPaused(ctx, c, info.Queue)
			a.printUnserved(ctx, c, info.Queue)
		},
	}
	if bar != nil {
		opts.OnProgress = bar.show
	}
	result, err := c.Wait(ctx, info.Queue, info.ID, opts)
	bar.clear()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s\n", result)
	return err
}

// printTask prints where the task is.
func (a *app) printTask(info client.TaskInfo, output string) error {
	if output == "json" {
		return json.NewEncoder(a.out).Encode(info)
	}
	_, err := fmt.Fprintf(a.out, "task %s is %s in queue %s\n", info.ID, info.State, info.Queue)
	return err
}

func (a *app) enqueueFile(ctx context.Context, c *client.Client, f enqueueFlags) error {
	in, size := a.in, int64(-1)
	if f.fromFile != "-" {
		file, err := os.Open(f.fromFile)
		if err != nil {
			return usageError(fmt.Errorf("--from-file: %w", err))
		}
		defer file.Close()
		if stat, err := file.Stat(); err == nil && stat.Mode().IsRegular() {
			size = stat.Size()
		}
		in = file
	}
	bar := a.progressBar(size)
	shown := 0
	summary, err := taskfile.Enqueue(ctx, c, in, f.task, taskfile.Report{
		Progress: func(bytes int64, tasks int) {
			bar.Describe(counted(tasks, "task") + " enqueued")
			_ = bar.Add64(bytes) // a bar that cannot be drawn stops nothing
		},
		BadLine: func(line int, err error) {
			if shown++; shown <= maxShownLines {
				_ = bar.Clear()
				fmt.Fprintf(a.errOut, "line %d: %v\n", line, err)
			}
		},
	})
	if err == nil {
		_ = bar.Finish()
	} else {
		_ = bar.Exit()
	}
	if shown > maxShownLines {
		fmt.Fprintf(a.errOut, "and %s not shown\n", counted(shown-maxShownLines, "more bad line"))
	}
	if werr := a.writeSummary(summary, f); werr != nil {
		return werr
	}
	for _, q := range summary.Queues[:min(len(summary.Queues), maxShownQueues)] {
		a.printUnserved(ctx, c, q)
	}
	switch {
	case err != nil && summary.Unknown > 0:
		return fmt.Errorf("the last %d tasks, up to line %d or so, may or may not be enqueued: %w", summary.Unknown, summary.LastLine, err)
	case err != nil:
		return fmt.Errorf("ended after line %d: %w", summary.LastLine, err)
	case summary.Bad > 0:
		return fmt.Errorf("%d of %d tasks were not enqueued", summary.Bad, summary.Bad+summary.Enqueued)
	}
	return nil
}

func (a *app) writeSummary(s taskfile.Summary, f enqueueFlags) error {
	if f.output == "json" {
		return json.NewEncoder(a.out).Encode(map[string]int{
			"enqueued": s.Enqueued, "bad": s.Bad, "unknown": s.Unknown, "last_line": s.LastLine,
		})
	}
	_, err := fmt.Fprintf(a.out, "%s enqueued, %s\n", counted(s.Enqueued, "task"), counted(s.Bad, "bad line"))
	return err
}

// counted is a number with its noun.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// progressBar fills with the bytes of the file, whose length is known; its words count the tasks.
func (a *app) progressBar(size int64) *progressbar.ProgressBar {
	return progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(a.errOut),
		progressbar.OptionSetVisibility(isTerminal(a.errOut)),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
}
