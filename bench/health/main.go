package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

func main() {
	redis.SetLogger(mute{}) // of what it says while servers are broken nothing is news
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:])
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

// mute drops what the Redis client logs.
type mute struct{}

// Printf implements the Redis client's logger.
func (mute) Printf(context.Context, string, ...any) {}

// run does what the first argument says: a role that the bench gives to a process of its own, or the bench.
func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == roleAsynq {
		return serveAsynq(ctx, args[1:])
	}
	o, err := parseOptions(args)
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if o.report != "" {
		return o.writeAgain()
	}
	return o.judgeAll(ctx)
}

// options is what the command line says.
type options struct {
	only     *regexp.Regexp
	peers    *regexp.Regexp
	parallel int
	quick    bool
	program  string
	python   string
	results  string
	page     string
	report   string
	keep     bool
	root     string  // of the checkout
	slack    float64 // what limits are multiplied by
	command  string
}

func parseOptions(args []string) (options, error) {
	o := options{command: "make health-bench", root: ".", slack: 1}
	f := flag.NewFlagSet("health", flag.ContinueOnError)
	only := f.String("only", "", "the cases to do, a regular expression for their names; docs/health-benchmark.md stays as it is")
	peers := f.String("peers", "celery|rq|asynq", "the other systems to judge, a regular expression; empty: none, and docs/health-benchmark.md stays as it is")
	f.IntVar(&o.parallel, "parallel", 6, "how many cases run at once")
	f.BoolVar(&o.quick, "quick", false, "only the cases that are part of make test")
	f.StringVar(&o.program, "program", "", "the worker to judge; empty: it is built from this checkout")
	f.StringVar(&o.python, "python", "/usr/bin/python3", "the interpreter of every system; for peers it must have celery, rq and redis")
	f.StringVar(&o.results, "results", filepath.Join("bench", "results"), "the folder for the raw file")
	f.StringVar(&o.page, "page", filepath.Join("docs", "health-benchmark.md"), "the page to write")
	f.StringVar(&o.report, "report", "", "only write the page again, from this raw file")
	f.BoolVar(&o.keep, "keep", false, "keep the directories of the cases, with their logs")
	if err := f.Parse(args); err != nil {
		return o, fmt.Errorf("read the flags: %w", err)
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q is no flag", f.Arg(0))
	}
	var err error
	if o.only, err = regexp.Compile("^(?:" + *only + ")$"); err != nil {
		return o, fmt.Errorf("read -only: %w", err)
	}
	if *only == "" {
		o.only = regexp.MustCompile("")
	}
	if *peers != "" {
		if o.peers, err = regexp.Compile("^(?:" + *peers + ")$"); err != nil {
			return o, fmt.Errorf("read -peers: %w", err)
		}
	}
	partly := *only != "" || *peers != f.Lookup("peers").DefValue || o.quick
	if partly || o.program != "" {
		o.command = "go run ./bench/health " + strings.Join(args, " ")
	}
	if partly && o.report == "" {
		o.page, o.results = "", filepath.Join(".cache", "bench", "results")
	}
	return o, nil
}
