package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// system is one that takes tasks from Redis and runs them.
type system struct {
	name    string
	queues  int // 0: one
	tasks   func(queues int) dialect
	start   func(ctx context.Context, s *site) (*programs.Process, error)
	signal  os.Signal // stops it
	metrics string    // the address of /metrics while it runs, if it has one
}

func (s *system) dialect() dialect { return s.tasks(s.queueCount()) }

func (s *system) queueCount() int { return max(1, s.queues) }

// workerOptions is how a worker is started.
type workerOptions struct {
	concurrency int
	async       bool
	queues      int
	settings    []string // environment variables of its configuration
}

// worker is a build of this worker.
func (b *bench) worker(program, name string, o workerOptions) *system {
	suffix := ""
	if o.async {
		suffix = " async"
	}
	sys := &system{name: fmt.Sprintf("%s c%d%s", name, o.concurrency, suffix), queues: o.queues, signal: syscall.SIGTERM}
	sys.tasks = func(queues int) dialect { return newAsynqTasks(queues) }
	sys.start = func(ctx context.Context, s *site) (*programs.Process, error) {
		port, err := b.ports.Free()
		if err != nil {
			return nil, err
		}
		sys.metrics = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		cmd := exec.CommandContext(ctx, program, "run", "--redis", s.url)
		cmd.Env = programs.Environ("RUNQY_QUEUES="+strings.Join(newAsynqTasks(sys.queueCount()).queues, ","),
			"RUNQY_CONCURRENCY="+strconv.Itoa(o.concurrency), "RUNQY_PYTHON_DIR="+b.scripts(),
			"RUNQY_PYTHON_COMMAND="+b.python+" tasks.py", "RUNQY_HEALTH_LISTEN="+sys.metrics,
			"RUNQY_HEALTH_SOCKET="+filepath.Join(b.dir, "s"+strconv.Itoa(port)), "RUNQY_LOG_LEVEL=warn",
			"BENCH_HANDLERS="+handlersName(o.async))
		cmd.Env = append(cmd.Env, o.settings...)
		return programs.Start(ctx, b.dir, "worker", cmd)
	}
	return sys
}

// ours is the worker of this checkout; before is the one of the baseline's revision.
func (b *bench) ours(o workerOptions) *system { return b.worker(b.program, "worker", o) }

// before returns nothing when there is no baseline.
func (b *bench) before(o workerOptions) []*system {
	if b.baseline == "" {
		return nil
	}
	return []*system{b.worker(b.baseline, "baseline", o)}
}

func handlersName(async bool) string {
	if async {
		return "async"
	}
	return "sync"
}

// plainAsynq is asynq's own server with a pipe to the Python process, a role of this program.
func (b *bench) plainAsynq(concurrency int, async bool) *system {
	name := fmt.Sprintf("asynq + pipe c%d", concurrency)
	if async {
		name += " async"
	}
	return &system{
		name: name, signal: syscall.SIGKILL, // its shutdown takes seconds
		tasks: func(queues int) dialect { return newAsynqTasks(queues) },
		start: func(ctx context.Context, s *site) (*programs.Process, error) {
			cmd := exec.CommandContext(ctx, b.self, roleAsynq, s.url, strconv.Itoa(concurrency), b.python, b.root)
			cmd.Env = programs.Environ("BENCH_HANDLERS=" + handlersName(async))
			return programs.Start(ctx, b.dir, "asynq", cmd)
		},
	}
}

// celery is Celery's worker, with a pool of its own and further options.
func (b *bench) celery(name string, options ...string) *system {
	return &system{
		name: "Celery " + name, signal: syscall.SIGKILL,
		tasks: func(int) dialect { return &celeryTasks{python: b.python, dir: b.scripts()} },
		start: func(ctx context.Context, s *site) (*programs.Process, error) {
			args := append([]string{"-m", "celery", "-A", "celery_app", "worker", "-l", "warning"}, options...)
			return b.startPython(ctx, s, "celery", args...)
		},
	}
}

// rq is one of RQ's workers: Worker forks for each job, SimpleWorker does not.
func (b *bench) rq(class string) *system {
	return &system{
		name: "RQ " + class, signal: syscall.SIGKILL,
		tasks: func(int) dialect { return &rqTasks{python: b.python, dir: b.scripts()} },
		start: func(ctx context.Context, s *site) (*programs.Process, error) {
			return b.startPython(ctx, s, "rq", "-m", "rq.cli", "worker", "--quiet", "--url", s.url, "--worker-class", "rq.worker."+class)
		},
	}
}

func (b *bench) startPython(ctx context.Context, s *site, name string, args ...string) (*programs.Process, error) {
	cmd := exec.CommandContext(ctx, b.python, args...)
	cmd.Dir = b.scripts()
	cmd.Env = programs.Environ("BENCH_REDIS="+s.url, "PYTHONPATH="+b.scripts())
	return programs.Start(ctx, b.dir, name, cmd)
}

// scripts is the folder of the Python side.
func (b *bench) scripts() string { return filepath.Join(b.root, "bench", "python") }

// further are systems that a quick run leaves out.
func (b *bench) further(systems ...*system) []*system {
	if b.options.quick {
		return nil
	}
	return systems
}
