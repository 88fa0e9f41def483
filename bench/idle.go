package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/prometheus/procfs"

	"github.com/runqy/runqy-worker/bench/internal/programs"
	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/timer"
)

// idle measures what a system that has nothing to do asks of Redis, and what it uses.
func (b *bench) idle(ctx context.Context, sys *system, window time.Duration) (figures, error) {
	r, err := b.launch(ctx, sys, 1, 5)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	// What the tasks of the warm-up have left to do is over by then.
	if err := timer.Sleep(ctx, 2*time.Second); err != nil {
		return nil, err
	}
	before, err := r.site.info(ctx)
	if err != nil {
		return nil, err
	}
	used, began := usageOf(r.processes), time.Now()
	if err := timer.Sleep(ctx, window); err != nil {
		return nil, err
	}
	now, took := usageOf(r.processes), time.Since(began).Seconds()
	after, err := r.site.info(ctx)
	if err != nil {
		return nil, err
	}
	top, err := monitored(ctx, r.site.addr, window)
	if err != nil {
		return nil, err
	}
	own := float64(r.site.client.PoolStats().TotalConns)
	cpu := now.worker + now.python - used.worker - used.python
	f := figures{
		idleCommands: float64(top) / window.Seconds(), idleCalls: (after.calls - before.calls) / took,
		connections: after.clients - own, idleCPU: cpu.Seconds() * 1000 / took, pythonPeak: now.pythonPeak / (1 << 20),
	}
	if now.workerPeak > 0 {
		f[workerPeak] = now.workerPeak / (1 << 20)
	}
	return f, nil
}

// monitored counts the commands that MONITOR shows, without those inside scripts: what has been sent. INFO cannot tell
// them apart.
func monitored(ctx context.Context, addr string, window time.Duration) (int, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, fmt.Errorf("connect for MONITOR: %w", err)
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "MONITOR\r\n"); err != nil {
		return 0, fmt.Errorf("send MONITOR: %w", err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(window)); err != nil {
		return 0, fmt.Errorf("limit MONITOR: %w", err)
	}
	n := 0
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return n, ctx.Err()
		}
		if err != nil {
			return 0, fmt.Errorf("read MONITOR: %w", err)
		}
		if line != "+OK\r\n" && !strings.Contains(line, " lua]") {
			n++
		}
	}
}

// pushes has many idle workers on one queue, pushes one task now and then, and measures what that costs beyond what the
// workers cost while nothing comes.
func (b *bench) pushes(ctx context.Context, sys *system, workers, pushes int) (figures, error) {
	r, err := b.launch(ctx, sys, workers, 1)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	if err := awaitRegistered(ctx, r.site, r.processes); err != nil {
		return nil, err
	}
	if err := warm(ctx, r.site, r.dialect, 2*workers); err != nil {
		return nil, err
	}
	// What the tasks of the warm-up have left to do is over by then.
	if err := timer.Sleep(ctx, 2*time.Second); err != nil {
		return nil, err
	}
	quiet, err := r.rate(ctx, func() error { return timer.Sleep(ctx, 5*time.Second) })
	if err != nil {
		return nil, err
	}
	var waits []float64
	loud, err := r.rate(ctx, func() (err error) {
		waits, err = r.oneByOne(ctx, pushes, 200*time.Millisecond)
		return err
	})
	if err != nil {
		return nil, err
	}
	beyond := func(of func(load) float64) float64 {
		return (of(loud.load) - of(quiet.load)*loud.took/quiet.took) / float64(pushes)
	}
	return figures{
		pushPops:    beyond(func(l load) float64 { return l.pops }),
		pushScripts: beyond(func(l load) float64 { return l.scripts }),
		pushCPU:     beyond(func(l load) float64 { return float64(l.cpu.Microseconds()) }),
		latencyP50:  percentile(waits, 50), latencyP99: percentile(waits, 99),
		idleRedis: float64(quiet.load.cpu.Microseconds()) / quiet.took / float64(workers),
		idleCalls: quiet.load.calls / quiet.took / float64(workers),
	}, nil
}

// awaitRegistered waits until so many workers of ours have started.
func awaitRegistered(ctx context.Context, s *site, workers []*programs.Process) error {
	err := programs.Await(ctx, 5*time.Minute, 50*time.Millisecond, func() (bool, error) {
		for _, w := range workers {
			if err := w.Failed(); err != nil {
				return false, err
			}
		}
		return s.client.ZCard(ctx, heartbeat.RegistryKey).Val() >= int64(len(workers)), nil
	})
	if err != nil {
		return fmt.Errorf("not all workers have started: %w", err)
	}
	return nil
}

// span is what Redis has done in some seconds.
type span struct {
	load load
	took float64
}

func (r *running) rate(ctx context.Context, act func() error) (span, error) {
	before, err := r.site.info(ctx)
	if err != nil {
		return span{}, err
	}
	began := time.Now()
	if err := act(); err != nil {
		return span{}, err
	}
	took := time.Since(began).Seconds()
	after, err := r.site.info(ctx)
	if err != nil {
		return span{}, err
	}
	return span{load{
		pops: after.pops - before.pops, scripts: after.scripts - before.scripts, cpu: after.cpu - before.cpu,
		calls: after.calls - before.calls,
	}, took}, nil
}

// memoryFor says how many workers with their Python processes the memory carries, at most so many.
func memoryFor(most int) int {
	const each = 64 << 20
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return most
	}
	m, err := fs.Meminfo()
	if err != nil || m.MemAvailable == nil {
		return most
	}
	return min(most, int(*m.MemAvailable<<10/each))
}
