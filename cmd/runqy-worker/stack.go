package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/rpc"
)

// stackTimeout leaves a worker that is short of CPU time to answer; it asks its process for half a second.
const stackTimeout = 10 * time.Second

func newStackCmd(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "stack WORKER [TASK]",
		Short: "Show where the Python process of a worker is now",
		Long: `Ask a worker where its Python process is: the innermost line of a handler first, then the stacks of all threads and
asyncio tasks, and what the kernel says of the process. It answers also when the process hangs, loads, or holds Python's
lock in C code; the tasks go on. With TASK the stack of that task comes first.

A worker on this machine that belongs to the same user is asked through its unix socket; any other one at its address, as
fleet.client of the configuration says, where only the users of its health.web_config may ask.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			task := ""
			if len(args) == 2 {
				task = args[1]
			}
			cfg, err := a.loadElsewhere(nil)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), stackTimeout)
			defer cancel()
			stack, err := findStack(ctx, cfg, args[0], task)
			if err != nil {
				return err
			}
			return a.printStack(stack, output)
		},
	}
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

// findStack asks the worker through a unix socket of this machine, else at the address of its heartbeat.
func findStack(ctx context.Context, cfg *config.Config, id, task string) (rpc.Stack, error) {
	for _, socket := range cfg.SocketPaths(id) {
		stack, err := rpc.StackAt(ctx, socket, id, task)
		if err == nil {
			return stack, nil
		}
		others := errors.Is(err, rpc.ErrOtherWorker) || errors.Is(err, fs.ErrPermission)
		if nobodys := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED); !others && !nobodys {
			return rpc.Stack{}, err
		}
	}
	rdb, err := connect(ctx, cfg)
	if err != nil {
		return rpc.Stack{}, fmt.Errorf("no unix socket of this machine is the worker's, and its address is not known: %w", err)
	}
	defer func() { _ = rdb.Close() }()
	workers, err := heartbeat.List(ctx, rdb)
	if err != nil {
		return rpc.Stack{}, err
	}
	for _, w := range workers {
		if w.ID != id {
			continue
		}
		if w.Beat.Address == "" {
			return rpc.Stack{}, fmt.Errorf("worker %s has no address (health.listen is empty): ask on its machine, as its user", id)
		}
		return stackAt(ctx, cfg, w.Beat.Address, id, task)
	}
	return rpc.Stack{}, fmt.Errorf("no worker %s is registered; 'runqy-worker workers' lists them", id)
}

func stackAt(ctx context.Context, cfg *config.Config, address, id, task string) (rpc.Stack, error) {
	options, err := rpc.OptionsFrom(cfg)
	if err != nil {
		return rpc.Stack{}, usageError(err)
	}
	client, err := rpc.NewClient(options)
	if err != nil {
		return rpc.Stack{}, usageError(err)
	}
	defer client.Close()
	return client.Stack(ctx, address, id, task)
}

// printStack prints where the process is. What comes from it may hold anything: nothing of it reaches a terminal as a
// control character.
func (a *app) printStack(stack rpc.Stack, output string) error {
	if output == "json" {
		line, err := json.Marshal(struct {
			WorkerID string `json:"worker_id"`
			PID      int    `json:"pid"`
			Where    string `json:"where"`
			Text     string `json:"text"`
		}(stack))
		if err != nil {
			return fmt.Errorf("print the stacks: %w", err)
		}
		_, err = fmt.Fprintf(a.out, "%s\n", line)
		return err
	}
	where := stack.Where
	if where == "" {
		where = "no handler runs, or the process does not say"
	}
	text := strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, where+"\n\n"+stack.Text)
	_, err := fmt.Fprintln(a.out, strings.TrimSuffix(text, "\n"))
	return err
}
