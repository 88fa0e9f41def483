package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/demo"
)

func newDemoCmd(a *app) *cobra.Command {
	o := demo.Options{Program: programName(), Environ: a.env, Out: a.out, NewWorker: a.newWorker, RunWorker: a.runWorker}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole system on this machine; needs only Python 3 (and Go to build it)",
		Long: `Show the whole system on this machine: a Redis inside this process, on a loopback port that redis-cli can talk to, a
worker, and a Python process with sample tasks: fast, slow, failing and retrying ones. It prints what to open and
what to type, and runs until Ctrl-C.

With --redis (or the redis.url of a file given with -c) a real Redis takes the place of the embedded one; the demo then
uses a queue of its own, runqy_demo. Nothing else is taken from files or from RUNQY_ variables.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.Tasks < 1 || o.Tasks > demo.MaxTasks {
				return fmt.Errorf("--tasks %d is not between 1 and %d", o.Tasks, demo.MaxTasks)
			}
			return cobra.NoArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("log-level") && a.getenv("RUNQY_LOG_LEVEL", "") == "" {
				a.logLevel = "error" // the tasks that fail on purpose would be logged at warn
				if err := a.setLogger(); err != nil {
					return err
				}
			}
			a.queueLog()
			o.RedisURL, o.Colour = a.redisURL, a.colour(a.out)
			if o.RedisURL == "" && a.configFile != "" {
				cfg, err := a.loadElsewhere(nil)
				if err != nil {
					return err
				}
				o.RedisURL = cfg.Redis.URL
			}
			err := demo.Run(cmd.Context(), o)
			if wrong := new(config.Error); errors.As(err, &wrong) {
				return usageError(err)
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&o.Tasks, "tasks", 50, "how `many` sample tasks to enqueue")
	flags.BoolVar(&o.ExitWhenDone, "exit-when-done", false, "end when every task is done: with 0 if each ended as expected, else with 1")
	flags.StringVar(&o.Listen, "listen", "", "`address` of the HTTP server (default "+demo.DefaultListen+", or a free port if that is in use)")
	return cmd
}

// programName is how the user can call this program again.
func programName() string {
	if self, err := os.Executable(); err == nil && strings.Contains(self, "go-build") {
		return "go run ./cmd/runqy-worker"
	}
	return os.Args[0]
}
