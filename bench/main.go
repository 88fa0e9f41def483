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
	"time"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run does what the first argument says: a role that the bench gives to a process of its own, or the bench.
func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == roleAsynq {
		return serveAsynq(ctx, args[1:])
	}
	if len(args) > 0 && args[0] == rolePongs {
		return servePongs(os.Stdin, os.Stdout)
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
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer cancel()
	return measure(ctx, o)
}

// options is what the command line says.
type options struct {
	rounds   int
	seconds  float64
	quick    bool
	only     *regexp.Regexp
	systems  *regexp.Regexp
	baseline string
	python   string
	results  string
	page     string
	report   string
	command  string
}

func parseOptions(args []string) (options, error) {
	o := options{command: "make bench"}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.BoolVar(&o.quick, "quick", false, "one round with few tasks, for at most 3 minutes; docs/benchmarks.md stays as it is")
	f.IntVar(&o.rounds, "rounds", 0, "how often each system does each workload (5; with -quick 1)")
	f.Float64Var(&o.seconds, "seconds", 0, "how long one measurement should take, about (1; with -quick 0.5)")
	only := f.String("only", "", "the workloads to do, a regular expression; docs/benchmarks.md stays as it is")
	systems := f.String("systems", "", "the systems to measure, a regular expression; docs/benchmarks.md stays as it is")
	f.StringVar(&o.baseline, "baseline", "fe82c54", "the revision to measure beside this checkout; empty: none")
	f.StringVar(&o.python, "python", "/usr/bin/python3", "the interpreter of every system; it must have celery, rq and redis")
	f.StringVar(&o.results, "results", filepath.Join("bench", "results"), "the folder for the raw file")
	f.StringVar(&o.page, "page", filepath.Join("docs", "benchmarks.md"), "the page to write")
	f.StringVar(&o.report, "report", "", "only write the page again, from this raw file")
	if err := f.Parse(args); err != nil {
		return o, fmt.Errorf("read the flags: %w", err)
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q is no flag", f.Arg(0))
	}
	if o.quick {
		o.command = "make bench-quick"
	}
	if o.rounds > 0 || o.seconds > 0 || *only != "" || *systems != "" {
		o.command = "go run ./bench " + strings.Join(args, " ")
	}
	o.rounds = orDefault(o.rounds, o.quick, 1, 5)
	o.seconds = orDefault(o.seconds, o.quick, 0.5, 1)
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("read -only: %w", err)
	}
	if o.systems, err = regexp.Compile(*systems); err != nil {
		return o, fmt.Errorf("read -systems: %w", err)
	}
	if o.quick || *only != "" || *systems != "" {
		o.page = ""
		o.results = filepath.Join(".cache", "bench", "results")
	}
	return o, nil
}

func orDefault[T int | float64](value T, quick bool, small, usual T) T {
	switch {
	case value > 0:
		return value
	case quick:
		return small
	default:
		return usual
	}
}

// measure does the workloads and writes what was found.
func measure(ctx context.Context, o options) error {
	b, err := prepare(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	result := results{Machine: b.describe(ctx), Rounds: o.rounds, Seconds: o.seconds, Quick: o.quick, Date: time.Now().UTC()}
	failed := b.rounds(ctx, &result)
	path := filepath.Join(o.results, result.Date.Format("2006-01-02T1504")+".json")
	if err := result.save(path); err != nil {
		return err
	}
	if err := printResults(os.Stdout, &result); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "the raw file is", path)
	if o.page != "" && ctx.Err() == nil {
		if err := writePage(o.page, &result); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d measurements have failed; the raw file has their errors", failed)
	}
	return ctx.Err()
}

// writeAgain makes the page from a raw file.
func (o options) writeAgain() error {
	r, err := loadResults(o.report)
	if err != nil {
		return err
	}
	if err := printResults(os.Stdout, r); err != nil {
		return err
	}
	if o.page == "" {
		return nil
	}
	return writePage(o.page, r)
}
