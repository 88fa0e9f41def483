package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// window is how many tasks the bare pipe has under way, as a worker with that concurrency does.
const window = 100

// barePipe writes tasks to the SDK and reads its answers, with no queue and no Redis: the limit of what a worker can do.
// It writes as many lines as answers have come, in one write.
func (b *bench) barePipe(ctx context.Context, async bool, taskType, payload string, tasks int) (figures, error) {
	c, err := startChild(ctx, b.python, b.root, programs.Environ("BENCH_HANDLERS="+handlersName(async)))
	if err != nil {
		return nil, err
	}
	tree := func() time.Duration {
		var sum time.Duration
		for _, m := range programs.Descendants(c.cmd.Process.Pid) {
			sum += m.CPU
		}
		return sum
	}
	f, err := pump(c, tree, taskType, payload, tasks)
	return f, errors.Join(err, c.stop())
}

func pump(c *child, python func() time.Duration, taskType, payload string, tasks int) (figures, error) {
	template, err := json.Marshal(request{
		TaskID: nilID, Type: taskType, Payload: json.RawMessage(payload), MaxRetry: 25, Queue: queueName, Headers: map[string]string{},
	})
	if err != nil {
		return nil, fmt.Errorf("encode a task: %w", err)
	}
	template = append(template, '\n')
	var lines []byte
	sent, done := 0, 0
	send := func(n int) error {
		lines = lines[:0]
		for range min(n, tasks-sent) {
			lines = append(lines, bytes.Replace(template, []byte(nilID), []byte(taskID(seriesFill, sent)), 1)...)
			sent++
		}
		if _, err := c.in.Write(lines); err != nil {
			return fmt.Errorf("write tasks: %w", err)
		}
		return nil
	}
	if err := send(window); err != nil {
		return nil, err
	}
	var began time.Time
	var first int
	var own, child time.Duration
	for done < tasks {
		n := 0
		for n == 0 || c.out.Buffered() > 0 {
			line, err := c.out.ReadSlice('\n')
			if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				return nil, fmt.Errorf("read answers: %w", err)
			}
			if bytes.Contains(line[:min(len(line), 200)], []byte(`"error":"`)) {
				return nil, fmt.Errorf("a task has failed: %s", line)
			}
			if err == nil && bytes.Contains(line[:min(len(line), 80)], []byte(`"task_id"`)) {
				n++
			}
		}
		if done += n; began.IsZero() {
			began, first, own, child = time.Now(), done, ownCPU(), python()
		}
		if err := send(n); err != nil {
			return nil, err
		}
	}
	took := time.Since(began)
	counted := float64(done - first)
	if counted <= 0 {
		return nil, errTooFew
	}
	f := figures{taskCount: counted, tasksPerSecond: counted / took.Seconds()}
	f[workerCPU] = float64((ownCPU() - own).Microseconds()) / counted
	f[pythonCPU] = float64((python() - child).Microseconds()) / counted
	f[totalCPU] = f[workerCPU] + f[pythonCPU]
	return f, nil
}

// bareLoop calls a handler in a loop of Python's, with nothing around it.
func (b *bench) bareLoop(ctx context.Context, taskType, payload string, tasks int) (figures, error) {
	text, err := programs.Output(exec.CommandContext(ctx, b.python, filepath.Join(b.scripts(), "loop.py"), taskType, payload, strconv.Itoa(tasks)))
	if err != nil {
		return nil, err
	}
	return figures{tasksPerSecond: number(text), taskCount: float64(tasks)}, nil
}
