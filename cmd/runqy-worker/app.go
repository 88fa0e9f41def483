package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/logging"
	"github.com/runqy/runqy-worker/internal/redisclient"
)

// app is what every command shares: its environment, its streams and the flags of the root command.
type app struct {
	env         []string
	in          io.Reader
	out, errOut io.Writer
	redisLog    *redisLogger // may be nil
	// setDefaultLog brings into a log what libraries write by themselves; nil: it goes to standard error.
	setDefaultLog func(*slog.Logger)

	configFile, redisURL, logFormat, logLevel string

	started bool // the command line was accepted and a command runs
	format  logging.Format
	queue   *logging.Log // nil: the log is written directly
	log     *slog.Logger
}

// flagNames are how configuration errors call the flags that set a key.
var flagNames = map[string]string{"redis.url": "--redis", "health.listen": "--listen"}

// load reads the configuration with the root's flags and those of a command (by dotted key) on top. Warnings are
// logged; the error has exit code 2.
func (a *app) load(flags map[string]string) (*config.Config, error) {
	return a.loadWith(a.configOptions(flags))
}

// loadElsewhere is load for a command that starts no worker of the configuration.
func (a *app) loadElsewhere(flags map[string]string) (*config.Config, error) {
	o := a.configOptions(flags)
	o.Elsewhere = true
	return a.loadWith(o)
}

func (a *app) loadWith(o config.Options) (*config.Config, error) {
	c, warnings, err := config.Load(o)
	for _, w := range warnings {
		a.log.Warn("configuration warning", "component", "config", "warning", w)
	}
	if err != nil {
		return nil, usageError(err)
	}
	return c, nil
}

func (a *app) configOptions(flags map[string]string) config.Options {
	all := make(map[string]string, len(flags)+1)
	for key, value := range flags {
		all[key] = value
	}
	if a.redisURL != "" {
		all["redis.url"] = a.redisURL
	}
	return config.Options{File: a.configFile, Env: a.env, Flags: all, FlagNames: flagNames}
}

// openRedis connects a command that only talks to Redis. The caller closes the client.
func (a *app) openRedis(ctx context.Context) (redis.UniversalClient, error) {
	c, err := a.loadElsewhere(nil)
	if err != nil {
		return nil, err
	}
	return connect(ctx, c)
}

// connect returns a client of the configured Redis once that has answered. The caller closes it.
func connect(ctx context.Context, c *config.Config) (redis.UniversalClient, error) {
	target, err := redisclient.Parse(c.Redis.URL)
	if err != nil {
		return nil, usageError(fmt.Errorf("redis.url: %w", err))
	}
	client := target.Open()
	if err := redisclient.CheckServer(ctx, client); err != nil {
		client.Close()
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("redis at %s: %w; is Redis running there? -c FILE, --redis URL or RUNQY_REDIS_URL name another", target, err)
		}
		return nil, fmt.Errorf("redis at %s: %w", target, err)
	}
	return client, nil
}

// getenv is the value of an environment variable that is set and not empty.
func (a *app) getenv(name, fallback string) string {
	for _, entry := range a.env {
		if value, ok := strings.CutPrefix(entry, name+"="); ok && value != "" {
			return value
		}
	}
	return fallback
}

func (a *app) setLogger() error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return usageError(fmt.Errorf("--log-level (or RUNQY_LOG_LEVEL) %q is none of debug, info, warn, error", a.logLevel))
	}
	options := &slog.HandlerOptions{Level: level}
	switch a.logFormat {
	case "text":
		a.format = func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, options) }
	case "json":
		a.format = func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, options) }
	default:
		return usageError(fmt.Errorf("--log-format (or RUNQY_LOG_FORMAT) %q is neither text nor json", a.logFormat))
	}
	a.logTo(a.format(a.errOut))
	return nil
}

func (a *app) logTo(h slog.Handler) {
	a.log = slog.New(h)
	if a.redisLog != nil {
		a.redisLog.target.Store(a.log)
	}
}

// flushTimeout bounds how long the end of the program waits for a log that nobody reads.
const flushTimeout = time.Second

// queueLog is for a command that works until it is stopped, and must not wait for whoever reads its standard error: from
// now on one goroutine writes there, and what it cannot write is dropped. closeLog ends it.
func (a *app) queueLog() {
	// A reader that is gone ends no worker: the write fails, and its lines count as dropped.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	a.queue = logging.Start(a.errOut, a.format)
	a.errOut = a.queue
	a.logTo(a.queue.Handler())
	if a.setDefaultLog != nil {
		a.setDefaultLog(a.log.With("component", "library"))
	}
}

// closeLog has what is queued written.
func (a *app) closeLog() {
	if a.queue != nil {
		a.queue.Close(flushTimeout)
	}
}

// redisLogger logs the messages of the Redis client, which has one logger for the whole process. What it logs is
// returned as errors too, so it is logged at debug; before there is a logger it is dropped.
type redisLogger struct{ target atomic.Pointer[slog.Logger] }

// Printf is the Redis client's interface of a logger.
func (l *redisLogger) Printf(ctx context.Context, format string, args ...any) {
	if log := l.target.Load(); log != nil && log.Enabled(ctx, slog.LevelDebug) {
		log.DebugContext(ctx, "redis client", "component", "redis", "detail", fmt.Sprintf(format, args...))
	}
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colour reports whether w shows colours and the user has not declined them.
func (a *app) colour(w io.Writer) bool {
	return isTerminal(w) && a.getenv("NO_COLOR", "") == "" && a.getenv("TERM", "") != "dumb"
}

// exclusiveFlags has the command refuse each pair of flags. The check runs with that of the arguments, so that it is an
// error of usage too.
func exclusiveFlags(cmd *cobra.Command, pairs ...[2]string) {
	check := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		for _, pair := range pairs {
			if cmd.Flags().Changed(pair[0]) && cmd.Flags().Changed(pair[1]) {
				return fmt.Errorf("--%s and --%s do not go together", pair[0], pair[1])
			}
		}
		if check == nil {
			return nil
		}
		return check(cmd, args)
	}
}

// fileNeedsFlag has a command without arguments say how a configuration file is given.
func fileNeedsFlag(cmd *cobra.Command) *cobra.Command {
	check := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 && (strings.HasSuffix(args[0], ".yaml") || strings.HasSuffix(args[0], ".yml")) {
			return fmt.Errorf("give the file with -c: %s -c %s", cmd.CommandPath(), args[0])
		}
		return check(cmd, args)
	}
	return cmd
}

// outputFlag adds -o with the first choice as its default.
func outputFlag(cmd *cobra.Command, p *string, choices ...string) {
	cmd.Flags().StringVarP(p, "output", "o", choices[0], strings.Join(choices, " or "))
	check := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(choices, *p) {
			return fmt.Errorf("-o %q is none of %s", *p, strings.Join(choices, ", "))
		}
		if check == nil {
			return nil
		}
		return check(cmd, args)
	}
}
