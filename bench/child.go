package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// child is the Python process with the tasks of the bench, spoken to directly.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startChild starts the process and waits until it is ready. BENCH_HANDLERS in env chooses the handlers.
func startChild(ctx context.Context, python, root string, env []string) (*child, error) {
	scripts := filepath.Join(root, "bench", "python")
	cmd := exec.CommandContext(ctx, python, filepath.Join(scripts, "tasks.py"))
	cmd.Dir = scripts
	cmd.Env = append(slices.Clone(env), "PYTHONPATH="+filepath.Join(root, "python"))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = programs.DieWithParent()
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("pipe to Python: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("pipe from Python: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start Python: %w", err)
	}
	c := &child{cmd: cmd, in: in, out: bufio.NewReaderSize(out, 1<<20)}
	for {
		line, err := c.out.ReadString('\n')
		if err != nil {
			return nil, errors.Join(fmt.Errorf("the Python process does not get ready: %w", err), c.stop())
		}
		if strings.Contains(line, `"ready"`) {
			return c, nil
		}
	}
}

// stop ends the process by closing its input.
func (c *child) stop() error {
	_ = c.in.Close()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("the Python process: %w", err)
	}
	return nil
}

// request is the line of a task.
type request struct {
	TaskID     string            `json:"task_id"`
	Type       string            `json:"type"`
	Payload    json.RawMessage   `json:"payload"`
	RetryCount int               `json:"retry_count"`
	MaxRetry   int               `json:"max_retry"`
	Queue      string            `json:"queue"`
	Headers    map[string]string `json:"headers"`
}

// reply is the answer to a task. A line without a task id is none.
type reply struct {
	TaskID string          `json:"task_id"`
	Result json.RawMessage `json:"result"`
	Error  *string         `json:"error"`
}
