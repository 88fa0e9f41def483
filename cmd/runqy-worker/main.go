// Command runqy-worker supervises one Python process and feeds it the tasks of asynq queues. `runqy-worker help` lists
// what else it does.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
)

// Exit codes; users' scripts and service managers rely on them.
const (
	exitFailure  = 1
	exitUsage    = 2 // wrong usage or wrong configuration
	exitDegraded = 70
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// The first signal cancels ctx; a second one ends the process, unless the command catches it.
	context.AfterFunc(ctx, stop)
	a := &app{
		env: os.Environ(), in: os.Stdin, out: os.Stdout, errOut: os.Stderr,
		redisLog: new(redisLogger), setDefaultLog: slog.SetDefault,
	}
	redis.SetLogger(a.redisLog)
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// run is the whole program but for the process around it; it returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	defer a.closeLog()
	root := newRootCmd(a)
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.errOut)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	var exit *exitError
	switch {
	case errors.As(err, &exit):
	case !a.started: // cobra refused the command line before any command ran
		exit = usageError(fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath()))
	default:
		exit = &exitError{code: exitFailure, err: err}
	}
	if exit.err != nil {
		fmt.Fprintln(a.errOut, "runqy-worker: "+exit.err.Error())
	}
	return exit.code
}

func newRootCmd(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "runqy-worker",
		Short:         "Run the tasks of asynq queues in a supervised Python process",
		SilenceErrors: true, // run prints them, once
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			a.started = true
			return a.setLogger()
		},
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&a.configFile, "config", "c", "", "configuration `file` (default: $RUNQY_CONFIG, or none)")
	flags.StringVar(&a.redisURL, "redis", "", "Redis `url`, instead of redis.url")
	flags.StringVar(&a.logFormat, "log-format", a.getenv("RUNQY_LOG_FORMAT", "text"), "text or json")
	flags.StringVar(&a.logLevel, "log-level", a.getenv("RUNQY_LOG_LEVEL", "info"), "debug, info, warn or error")
	root.AddCommand(
		fileNeedsFlag(newRunCmd(a)),
		fileNeedsFlag(newDemoCmd(a)),
		newRestartCmd(a),
		newStackCmd(a),
		fileNeedsFlag(newHealthcheckCmd(a)),
		newGuardianCmd(),
		newEnqueueCmd(a),
		fileNeedsFlag(newWorkersCmd(a)),
		fileNeedsFlag(newFleetCmd(a)),
		fileNeedsFlag(newCheckConfigCmd(a)),
		newVersionCmd(a),
	)
	return root
}

// exitError ends the program with a code of its own.
type exitError struct {
	code int
	err  error // printed; nil when everything has been printed already
}

// Error is the message without the code.
func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

// Unwrap is the cause.
func (e *exitError) Unwrap() error { return e.err }

func usageError(err error) *exitError { return &exitError{code: exitUsage, err: err} }
