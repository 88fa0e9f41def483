package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/control"
	"github.com/runqy/runqy-worker/internal/status"
)

func newRestartCmd(a *app) *cobra.Command {
	var degraded, all bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "restart WORKER | --degraded | --all",
		Short: "Restart the Python process of a worker and wait for the outcome",
		Long: `Ask workers, through Redis, to restart their Python process, and wait until their heartbeats show the outcome. It
brings a degraded worker back. A healthy one lets its tasks finish for python.stop_timeout first. SIGHUP to the worker
does the same.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if chosen := len(args) + count(degraded) + count(all); chosen != 1 || len(args) > 1 {
				return errors.New("name one worker, or give --degraded or --all")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout,
				fmt.Errorf("no outcome within --timeout %v; its heartbeat goes on telling ('runqy-worker workers')", timeout))
			defer cancel()
			client, err := a.openRedis(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = client.Close() }()
			ids := args
			if len(args) == 0 {
				if ids, err = chooseWorkers(ctx, client, degraded); err != nil {
					return err
				}
				if len(ids) == 0 {
					_, err := fmt.Fprintln(a.out, "No worker to restart.")
					return err
				}
			}
			return a.restart(ctx, client, ids)
		},
	}
	cmd.Flags().BoolVar(&degraded, "degraded", false, "every worker that is degraded")
	cmd.Flags().BoolVar(&all, "all", false, "every worker that is alive")
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "how long to wait for the outcome")
	return cmd
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func chooseWorkers(ctx context.Context, client redis.UniversalClient, degraded bool) ([]string, error) {
	workers, err := heartbeat.List(ctx, client)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, w := range workers {
		if w.Alive && (!degraded || w.Beat.Status == status.Degraded) {
			ids = append(ids, w.ID)
		}
	}
	return ids, nil
}

// restartsAtOnce bounds how many workers are without their process at the same time.
const restartsAtOnce = 10

// restart restarts the workers, some at a time, and says of each what came of it.
func (a *app) restart(ctx context.Context, client redis.UniversalClient, ids []string) error {
	var (
		group  sync.WaitGroup
		mu     sync.Mutex // guards failed and the output
		failed int
		turns  = make(chan struct{}, restartsAtOnce)
	)
	for _, id := range ids {
		group.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			pid, err := control.RestartProcess(ctx, client, id)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
				fmt.Fprintf(a.errOut, "runqy-worker: %v\n", err)
				return
			}
			fmt.Fprintf(a.out, "%s: the Python process runs again (pid %d)\n", id, pid)
		})
	}
	group.Wait()
	if failed > 0 {
		return &exitError{code: exitFailure}
	}
	return nil
}
