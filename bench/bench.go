package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
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
	rates    map[string]float64 // tasks a second of the last measurement, by workload and system

	revision, baselineRevision string
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
	if err := build(ctx, b.root, b.program); err != nil {
		return nil, err
	}
	b.revision, _ = output(exec.CommandContext(ctx, "git", "describe", "--always", "--dirty"))
	if o.baseline != "" {
		if err := b.buildBaseline(ctx); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *bench) close() { _ = os.RemoveAll(b.dir) }

// build compiles the worker as a release is compiled.
func build(ctx context.Context, dir, program string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./cmd/runqy-worker")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the worker in %s: %w\n%s", dir, err, text)
	}
	return nil
}

// buildBaseline compiles the worker of another revision in a worktree that is there for that alone, and keeps the
// program in .cache for the next time.
func (b *bench) buildBaseline(ctx context.Context) error {
	var err error
	if b.baselineRevision, err = output(exec.CommandContext(ctx, "git", "rev-parse", "--short", b.options.baseline+"^{commit}")); err != nil {
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
	if _, err := output(exec.CommandContext(ctx, "git", "worktree", "add", "--detach", tree, b.baselineRevision)); err != nil {
		return fmt.Errorf("check the baseline out: %w", err)
	}
	defer func() {
		_, _ = output(exec.CommandContext(context.WithoutCancel(ctx), "git", "worktree", "remove", "--force", tree))
	}()
	if err := build(ctx, tree, kept); err != nil {
		return err
	}
	b.baseline = kept
	return nil
}

// machine says where the figures come from.
type machine struct {
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Memory   string            `json:"memory"`
	Kernel   string            `json:"kernel"`
	Load     float64           `json:"load"` // of the minute before the start
	Versions map[string]string `json:"versions"`
	Revision string            `json:"revision"`
	Baseline string            `json:"baseline"` // empty: none was measured
	Command  string            `json:"command"`
}

// describe looks at the machine and the versions of all that is measured.
func (b *bench) describe(ctx context.Context) machine {
	m := machine{
		Cores: runtime.NumCPU(), Revision: b.revision, Baseline: b.baselineRevision, Command: b.options.command,
		Versions: map[string]string{"Go": strings.TrimPrefix(runtime.Version(), "go")},
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(text), "model name")
		name, _, _ := strings.Cut(rest, "\n")
		m.CPU = strings.Trim(name, "\t :")
	}
	if fs, err := procfs.NewDefaultFS(); err == nil {
		if memory, err := fs.Meminfo(); err == nil && memory.MemTotal != nil {
			m.Memory = strconv.FormatUint(*memory.MemTotal>>20, 10) + " GiB"
		}
		if load, err := fs.LoadAvg(); err == nil {
			m.Load = load.Load1
		}
	}
	m.Kernel, _ = output(exec.CommandContext(ctx, "uname", "-sr"))
	if text, err := output(exec.CommandContext(ctx, "redis-server", "--version")); err == nil {
		_, rest, _ := strings.Cut(text, "v=")
		m.Versions["Redis"], _, _ = strings.Cut(rest, " ")
	}
	const ask = "import platform,celery,rq,redis;print(platform.python_version(),celery.__version__,rq.VERSION,redis.__version__)"
	if text, err := output(exec.CommandContext(ctx, b.python, "-c", ask)); err == nil {
		for i, name := range []string{"Python", "Celery", "RQ", "redis-py"} {
			if fields := strings.Fields(text); i < len(fields) {
				m.Versions[name] = fields[i]
			}
		}
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/hibiken/asynq" {
				m.Versions["asynq"] = strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	return m
}
