package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// workers are the worker itself, broken.
func workers() []fault {
	return []fault{
		{
			name: "worker-killed", title: "The worker is killed", truth: unable, peers: everybody(), inject: signalWorker(syscall.SIGKILL),
		},
		{
			name: "worker-stopped", title: "The worker is stopped (SIGSTOP)", truth: unable, peers: everybody(),
			inject: signalWorker(syscall.SIGSTOP), lift: signalWorker(syscall.SIGCONT),
		},
		{
			name: "worker-starved", title: "The worker gets 5 % of a processor", truth: asked, after: 2 * time.Second, inject: starve, peers: everybody(),
		},
		{
			name: "log-blocked-python-killed", title: "Nobody reads the worker's log, and Python is killed", truth: unable, quick: true,
			command: logIntoPipe, inject: func(ctx context.Context, d *bed) error {
				if err := blockLog(ctx, d); err != nil {
					return err
				}
				return signals(syscall.SIGKILL)(ctx, d)
			},
		},
		{
			name: "log-blocked", title: "Nobody reads the worker's log", truth: able, command: logIntoPipe, inject: blockLog,
		},
		{
			name: "disk-full", title: "The worker's disk is full", truth: able, needs: []string{"mount"}, command: onSmallDisk, inject: fillDisk,
		},
		{
			name: "disk-full-tasks", title: "The worker's disk is full, and every task needs it, with `max_consecutive_failures: 3`", truth: unable, needs: []string{"mount"},
			env: []string{"RUNQY_PYTHON_MAX_CONSECUTIVE_FAILURES=3"}, command: onSmallDisk, inject: fillDisk,
			probe: task{name: "needs_disk", payload: map[string]any{"file": "output"}}, feed: 250 * time.Millisecond,
		},
		{
			name: "port-taken", title: "The port of the worker's HTTP server is taken", truth: unable, never: true, prepare: takePort,
		},
	}
}

func signalWorker(s syscall.Signal) func(context.Context, *bed) error {
	return func(_ context.Context, d *bed) error {
		pid := d.workerPID()
		if err := syscall.Kill(pid, s); err != nil {
			return fmt.Errorf("send %v to %d: %w", s, pid, err)
		}
		return nil
	}
}

// workerPID is the process that takes tasks.
func (d *bed) workerPID() int { return d.subject.process().PID() }

// starve stops the worker for most of the time, as a scheduler does that has no time for it.
func starve(ctx context.Context, d *bed) error {
	const period, share = 500 * time.Millisecond, 20
	pid := d.workerPID()
	d.meanwhile(ctx, func(ctx context.Context) {
		for ctx.Err() == nil {
			_ = syscall.Kill(pid, syscall.SIGSTOP)
			pause(ctx, period-period/share)
			_ = syscall.Kill(pid, syscall.SIGCONT)
			pause(ctx, period/share)
		}
	})
	return nil
}

// logIntoPipe has the worker write its log into a pipe that nobody reads.
func logIntoPipe(_ context.Context, d *bed) (func(*exec.Cmd), error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	d.atEnd(func() { _, _ = r.Close(), w.Close() })
	d.log = w
	return func(cmd *exec.Cmd) { cmd.Stdout, cmd.Stderr = w, w }, nil
}

// blockLog fills the pipe of the log, and has the worker log something.
func blockLog(ctx context.Context, d *bed) error {
	fd := d.log.Fd()
	chunk := make([]byte, 4096) // what poll says that there is room for
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(fds, 0)
		if err != nil {
			return fmt.Errorf("look at the pipe: %w", err)
		}
		if n == 0 {
			break
		}
		if _, err := d.log.Write(chunk); err != nil {
			return fmt.Errorf("fill the pipe: %w", err)
		}
	}
	return d.run(ctx, task{name: "flood", payload: map[string]any{"seconds": 1}})
}

// onSmallDisk gives the worker a small disk to log on and to work in.
func onSmallDisk(ctx context.Context, d *bed) (func(*exec.Cmd), error) {
	disk := d.disk()
	if err := os.MkdirAll(disk, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of a disk: %w", err)
	}
	if _, err := programs.Output(exec.CommandContext(ctx, "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk)); err != nil {
		return nil, err
	}
	d.atEnd(func() { _ = exec.Command("umount", "-l", disk).Run() }) //nolint:noctx // also when the run was ended
	log, err := os.Create(filepath.Join(disk, "log"))
	if err != nil {
		return nil, fmt.Errorf("make a log: %w", err)
	}
	d.atEnd(func() { _ = log.Close() })
	return func(cmd *exec.Cmd) {
		cmd.Dir, cmd.Stdout, cmd.Stderr = disk, log, log
		cmd.Env = append(cmd.Env, "TMPDIR="+disk, "HEALTH_BENCH_DISK="+disk)
	}, nil
}

func (d *bed) disk() string { return filepath.Join(d.dir, "disk") }

func fillDisk(ctx context.Context, d *bed) error {
	f, err := os.Create(filepath.Join(d.disk(), "full"))
	if err != nil {
		return fmt.Errorf("fill a disk: %w", err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	return nil
}

// takePort listens where the worker is going to.
func takePort(_ context.Context, d *bed) error {
	address, err := d.port()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("take a port: %w", err)
	}
	d.atEnd(func() { _ = l.Close() })
	d.subject.(*ours).address = address
	return nil
}
