package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/sdk"
	"github.com/runqy/runqy-worker/internal/worker"
	"github.com/runqy/runqy-worker/supervisor"
)

func newRunCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run the worker until SIGTERM or SIGINT",
		Long: `Run the worker: supervise one Python process and give it the tasks of the queues.

SIGTERM and SIGINT drain: no new task is taken, those in flight get worker.shutdown_timeout, the rest goes back to
pending. A second one, half a second later or more, ends the drain at once. SIGHUP restarts the Python process.

Exit codes: 0 after a drain, 1 failure, 2 wrong configuration, 70 when the Python process crashed under on_crash: exit.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.queueLog()
			cfg, err := a.load(nil)
			if err != nil {
				return err
			}
			w, err := a.newWorker(cfg)
			if err != nil {
				return err
			}
			return a.runWorker(cmd.Context(), w)
		},
	}
}

// newWorker builds a worker of this program. Its guardian is this program too.
func (a *app) newWorker(cfg *config.Config) (*worker.Worker, error) {
	sdkDir, err := sdk.Extract("")
	if err != nil {
		return nil, fmt.Errorf("unpack the Python SDK: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program for the guardian: %w", err)
	}
	return worker.New(worker.Options{
		Config: cfg, Version: readBuild().Version, SDK: sdkDir, Environ: a.env,
		Guardian: []string{self, guardianCommand}, Logger: a.log, LogLinesDropped: a.queue.Dropped,
	})
}

// runWorker runs a worker until ctx ends, passing signals on to it.
func (a *app) runWorker(ctx context.Context, w *worker.Worker) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	ended, end := context.WithCancel(context.WithoutCancel(ctx))
	var passing sync.WaitGroup
	defer passing.Wait()
	defer end()
	passing.Go(func() { a.passSignals(ctx, ended, signals, w) })

	err := w.Run(ctx)
	if errors.Is(err, worker.ErrCrashed) {
		return &exitError{code: exitDegraded, err: err}
	}
	return err
}

// sameSignal is how long further signals count as the first one: some senders (timeout(1), a terminal together with a
// service manager) signal the process and its group.
const sameSignal = 500 * time.Millisecond

// passSignals runs until ended is over. The first SIGINT or SIGTERM has ended ctx as well, so that the worker drains.
func (a *app) passSignals(ctx, ended context.Context, signals <-chan os.Signal, w *worker.Worker) {
	var first time.Time // of the stop signals
	for {
		select {
		case s := <-signals:
			if s == syscall.SIGHUP {
				if err := w.RestartProcess(ctx); err != nil {
					a.log.Error("restart failed", "component", "worker", "signal", "SIGHUP", "error", err)
				}
				continue
			}
			if first.IsZero() {
				first = time.Now()
			} else if time.Since(first) > sameSignal {
				a.log.Warn("drain aborted", "component", "worker", "reason", "second stop signal")
				w.Abort()
			}
		case <-ended.Done():
			return
		}
	}
}

// guardianCommand is hidden: only a worker starts it.
const guardianCommand = "guardian"

func newGuardianCmd() *cobra.Command {
	return &cobra.Command{
		Use:    guardianCommand,
		Short:  "Kill a worker's Python process when the worker itself is gone",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return supervisor.RunGuardian() },
	}
}
