package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// bench is what all measurements share.
type bench struct {
	options  options
	root     string // of the checkout
	dir      string // for sockets, logs and programs; it goes when the bench ends
	self     string // this program
	program  string // the worker of this checkout
	baseline string // the worker of another revision; empty: there is none
	python   string
	ports    programs.Ports
	rates    map[string]float64 // tasks a second of the last measurement, by workload and system

	baselineRevision string
}

// prepare builds the programs.
func prepare(ctx context.Context, o options) (*bench, error) {
	b := &bench{options: o, python: o.python, rates: map[string]float64{}}
	var err error
	if b.root, err = os.Getwd(); err != nil {
		return nil, fmt.Errorf("find the checkout: %w", err)
	}
	if _, err := os.Stat(filepath.Join(b.root, "bench", "python")); err != nil {
		return nil, fmt.Errorf("the bench runs in the root of the checkout: %w", err)
	}
	if b.self, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	if b.dir, err = os.MkdirTemp("", "runqy-bench-"); err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	b.program = filepath.Join(b.dir, "runqy-worker")
	if err := programs.Build(ctx, b.root, b.program); err != nil {
		return nil, err
	}
	if o.baseline != "" {
		if err := b.buildBaseline(ctx); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *bench) close() { _ = os.RemoveAll(b.dir) }

// buildBaseline compiles the worker of another revision in a worktree that is there for that alone, and keeps the
// program in .cache for the next time.
func (b *bench) buildBaseline(ctx context.Context) error {
	var err error
	if b.baselineRevision, err = programs.Output(exec.CommandContext(ctx, "git", "rev-parse", "--short", b.options.baseline+"^{commit}")); err != nil {
		return fmt.Errorf("find the revision of the baseline: %w", err)
	}
	kept := filepath.Join(b.root, ".cache", "bench", "baseline-"+b.baselineRevision)
	if _, err := os.Stat(kept); err == nil {
		b.baseline = kept
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
		return fmt.Errorf("keep the baseline: %w", err)
	}
	tree := filepath.Join(b.dir, "baseline")
	if _, err := programs.Output(exec.CommandContext(ctx, "git", "worktree", "add", "--detach", tree, b.baselineRevision)); err != nil {
		return fmt.Errorf("check the baseline out: %w", err)
	}
	defer func() {
		_, _ = programs.Output(exec.CommandContext(context.WithoutCancel(ctx), "git", "worktree", "remove", "--force", tree))
	}()
	if err := programs.Build(ctx, tree, kept); err != nil {
		return err
	}
	b.baseline = kept
	return nil
}

// machine says where the figures come from.
type machine struct {
	programs.Machine

	Baseline string `json:"baseline"` // empty: none was measured
}

// describe looks at the machine and the versions of all that is measured.
func (b *bench) describe(ctx context.Context) machine {
	return machine{Machine: programs.Describe(ctx, b.python, b.options.command), Baseline: b.baselineRevision}
}
