package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/bench/internal/programs"
	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/internal/timer"
)

const (
	// rolePongs has this program be the simulated workers, so that what they cost does not count as the checker's.
	rolePongs = "pongs"
	// fleetInterval is the checker's default.
	fleetInterval = 5 * time.Second
)

// checker measures `runqy-worker fleet` with so many simulated workers.
func (b *bench) checker(ctx context.Context, workers int, window time.Duration) (figures, error) {
	s, err := b.startRedis(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	port, stop, err := b.startPongs(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := enrol(ctx, s, port, workers); err != nil {
		return nil, err
	}
	listen, err := b.ports.Free()
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(listen))
	cmd := exec.CommandContext(ctx, b.program, "fleet", "--redis", s.url, "--listen", address)
	cmd.Env = programs.Environ("RUNQY_HEALTH_SOCKET="+filepath.Join(b.dir, "s"+strconv.Itoa(listen)), "RUNQY_LOG_LEVEL=warn")
	began := time.Now()
	p, err := programs.Start(ctx, b.dir, "fleet", cmd)
	if err != nil {
		return nil, err
	}
	defer p.Stop(syscall.SIGTERM)
	if err := awaitFree(ctx, p, address, workers); err != nil {
		return nil, err
	}
	found := time.Since(began)
	before, err := s.info(ctx)
	if err != nil {
		return nil, err
	}
	used := usageOf([]*programs.Process{p})
	if err := timer.Sleep(ctx, window); err != nil {
		return nil, err
	}
	now := usageOf([]*programs.Process{p})
	after, err := s.info(ctx)
	if err != nil {
		return nil, err
	}
	rounds := float64(window) / float64(fleetInterval)
	return figures{
		foundTime: float64(found.Milliseconds()), roundCPU: float64((now.worker - used.worker).Milliseconds()) / rounds,
		roundCommands: (after.calls - before.calls) / rounds, workerPeak: now.workerPeak / (1 << 20),
	}, awaitFree(ctx, p, address, workers)
}

// simulated is the worker at an address, which names it: the n-th has 127.1.n/200.n%200+1.
func simulated(host string) string { return "sim-" + host }

func hostOf(n int) string { return fmt.Sprintf("127.1.%d.%d", n/200, n%200+1) }

// servePongs answers pings at every loopback address as a free worker until in ends, and says its port.
func servePongs(in io.Reader, out io.Writer) error {
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		return fmt.Errorf("serve pongs: %w", err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.Host)
		pong := rpc.Pong{WorkerID: simulated(host), Nonce: "n", State: status.Free, Queues: []string{"q"}, Concurrency: 1, Status: "running", Healthy: true}
		for path, h := range rpc.Handlers(rpc.Sources{Ping: func() rpc.Pong { return pong }}) {
			if strings.HasPrefix(r.URL.Path, path) {
				h.ServeHTTP(w, r)
				return
			}
		}
		http.NotFound(w, r)
	})}
	if _, err := fmt.Fprintln(out, l.Addr().(*net.TCPAddr).Port); err != nil {
		return fmt.Errorf("say the port: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	_, _ = io.Copy(io.Discard, in)
	_ = server.Close()
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve pongs: %w", err)
	}
	return nil
}

// startPongs runs this program again as the simulated workers and returns their port.
func (b *bench) startPongs(ctx context.Context) (port string, stop func(), err error) {
	cmd := exec.CommandContext(ctx, b.self, rolePongs)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = programs.DieWithParent()
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, fmt.Errorf("pipe to the simulated workers: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, fmt.Errorf("pipe from the simulated workers: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("start the simulated workers: %w", err)
	}
	stop = func() {
		_ = in.Close()
		_ = cmd.Wait()
	}
	if port, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		stop()
		return "", nil, fmt.Errorf("the simulated workers do not start: %w", err)
	}
	return strings.TrimSpace(port), stop, nil
}

// enrol registers workers whose heartbeats outlive the measurement.
func enrol(ctx context.Context, s *site, port string, n int) error {
	expiry := float64(time.Now().Add(time.Hour).Unix())
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range n {
			host := hostOf(i)
			id := simulated(host)
			p.HSet(ctx, heartbeat.Key(id), "nonce", "n", "address", net.JoinHostPort(host, port), "status", "running",
				"state", "FREE", "healthy", "true", "queue", "q", "active_task", "", "active_tasks", "[]", "concurrency", "1",
				"started", time.Now().UTC().Format(time.RFC3339), "interval_seconds", "1200", "ttl_seconds", "3600")
			p.Expire(ctx, heartbeat.Key(id), time.Hour)
			p.ZAdd(ctx, heartbeat.RegistryKey, redis.Z{Score: expiry, Member: id})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("register simulated workers: %w", err)
	}
	return nil
}

// awaitFree waits until the checker counts so many free workers.
func awaitFree(ctx context.Context, p *programs.Process, address string, n int) error {
	want := fmt.Sprintf("runqy_fleet_workers{state=\"FREE\"} %v\n", float64(n))
	err := programs.Await(ctx, time.Minute, 20*time.Millisecond, func() (bool, error) {
		text, _, err := scrape(ctx, address)
		return err == nil && strings.Contains(text, want), p.Failed()
	})
	if err != nil {
		return fmt.Errorf("there are not %d free workers: %w", n, err)
	}
	return nil
}
