package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// exitSignal ends what a case has started: nothing that it would still do is of interest.
const exitSignal = syscall.SIGKILL

// bench is what all cases share.
type bench struct {
	root    string // of the checkout
	dir     string // of all cases; it goes when the bench ends
	self    string // this program
	program string // our worker
	python  string
	ports   programs.Ports
	keep    bool
	short   bool    // a case ends when it is decided
	slack   float64 // what limits are multiplied by
}

// prepare builds the worker, unless there is one.
func prepare(ctx context.Context, o options) (*bench, error) {
	b := &bench{root: o.root, program: o.program, python: o.python, keep: o.keep, short: o.quick, slack: o.slack}
	var err error
	if b.root, err = filepath.Abs(o.root); err != nil {
		return nil, fmt.Errorf("find the checkout: %w", err)
	}
	if _, err := os.Stat(b.scripts()); err != nil {
		return nil, fmt.Errorf("the bench runs in the root of the checkout: %w", err)
	}
	if b.self, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	// Short, since the paths of unix sockets are below it.
	if b.dir, err = os.MkdirTemp("", "hb"); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	if b.program != "" {
		if b.program, err = filepath.Abs(b.program); err != nil {
			return nil, fmt.Errorf("find the worker: %w", err)
		}
	} else {
		b.program = filepath.Join(b.dir, "runqy-worker")
		if err := programs.Build(ctx, b.root, b.program); err != nil {
			b.close()
			return nil, err
		}
	}
	return b, nil
}

func (b *bench) close() {
	if !b.keep {
		_ = os.RemoveAll(b.dir)
	}
}

// scripts is the folder of the Python side.
func (b *bench) scripts() string { return filepath.Join(b.root, "bench", "health", "python") }

// judgeAll does the cases, and writes what was found.
func (o options) judgeAll(ctx context.Context) error {
	b, err := prepare(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	chosen := o.choose()
	if len(chosen) == 0 {
		return errors.New("no case has that name")
	}
	r := &results{Machine: programs.Describe(ctx, o.python, o.command), Date: time.Now().UTC(), Parallel: o.parallel}
	r.Faults = describe(chosen)
	r.Records = b.doAll(ctx, chosen, o)
	r.Took = time.Since(r.Date).Round(time.Second).String()
	path := filepath.Join(o.results, "health-"+r.Date.Format("2006-01-02T1504")+".json")
	if err := r.save(path); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "the raw file is", path)
	if o.page != "" && ctx.Err() == nil {
		if err := writePage(o.page, r); err != nil {
			return err
		}
	}
	fmt.Println(r.closing())
	if n := r.ourFaults(); n > 0 {
		return fmt.Errorf("in %d cases our worker is not as it should be", n)
	}
	return ctx.Err()
}

// choose returns the faults that the options name.
func (o options) choose() (chosen []fault) {
	for _, f := range faults(o.quick) {
		if o.only.MatchString(f.name) && (f.quick || !o.quick) {
			chosen = append(chosen, f)
		}
	}
	return chosen
}

// job is one case with one system.
type job struct {
	fault  *fault
	system func() subject
}

func (o options) jobs(chosen []fault) (beside, alone []job) {
	for i := range chosen {
		f := &chosen[i]
		jobs := []job{{f, func() subject { return &ours{} }}}
		for _, peer := range f.peers {
			if o.peers != nil && o.peers.MatchString(peer) {
				jobs = append(jobs, job{f, peers[peer]})
			}
		}
		if f.alone {
			alone = append(alone, jobs...)
		} else {
			beside = append(beside, jobs...)
		}
	}
	return beside, alone
}

// doAll does the cases, some at once, those that take the whole machine after the others.
func (b *bench) doAll(ctx context.Context, chosen []fault, o options) []*record {
	beside, alone := o.jobs(chosen)
	var (
		mu      sync.Mutex
		records []*record
	)
	do := func(j job) {
		if ctx.Err() != nil {
			return
		}
		if missing := j.fault.missing(); missing != "" {
			fmt.Fprintf(os.Stderr, "%s is left out: %s\n", j.fault.name, missing)
			return
		}
		r := b.do(ctx, j.fault, j.system())
		mu.Lock()
		defer mu.Unlock()
		records = append(records, r)
		fmt.Fprintf(os.Stderr, "%3d/%d %s\n", len(records), len(beside)+len(alone), r.line())
	}
	queue := make(chan job)
	var running sync.WaitGroup
	for range max(1, o.parallel) {
		running.Go(func() {
			for j := range queue {
				do(j)
			}
		})
	}
	for _, j := range beside {
		queue <- j
	}
	close(queue)
	running.Wait()
	for _, j := range alone {
		do(j)
	}
	return records
}
