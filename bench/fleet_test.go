package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/internal/rpc"
	"github.com/runqy/runqy-worker/internal/status"
)

// pongsVariable has this program be the simulated workers, so that what they cost does not count as the checker's.
const pongsVariable = "RUNQY_BENCH_PONGS"

func TestMain(m *testing.M) {
	if os.Getenv(pongsVariable) != "" {
		if err := servePongs(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// BenchmarkFleetRound asks simulated workers, each with an address and connections of its own, all at once: the first
// round, which opens the connections, and those after it. The CPU time is the checker's alone, of both directions of
// its connections, JSON and Redis included.
func BenchmarkFleetRound(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			const rounds = 5
			server := redistest.Start(b)
			enrol(b, server.Client, startPongs(b), n)
			client := redis.NewClient(&redis.Options{Addr: server.Addr, ContextTimeoutEnabled: true})
			defer client.Close()
			pinger, err := rpc.NewClient(rpc.ClientOptions{Timeout: time.Minute})
			if err != nil {
				b.Fatalf("make a client: %v", err)
			}
			defer pinger.Close()
			c := fleet.NewChecker(fleet.CheckerOptions{Registry: fleet.NewStore(client), Pinger: pinger, PingTimeout: time.Minute})
			round := func() time.Duration {
				began := time.Now()
				if _, err := c.Round(b.Context()); err != nil {
					b.Fatalf("a round of the checker: %v", err)
				}
				if free := c.Counts()["FREE"]; free != n {
					b.Fatalf("%d of %d workers are free: %+v", free, n, c.Workers()[0])
				}
				return time.Since(began)
			}
			first := round()
			commands, cpu := commandsOf(b, server.Client), cpuOf(b, os.Getpid())
			var took time.Duration
			for range rounds {
				took += round()
			}
			cpu = cpuOf(b, os.Getpid()) - cpu
			commands = commandsOf(b, server.Client) - commands - 1 // the INFO itself
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(milliseconds(first), "first-round-ms")
			b.ReportMetric(milliseconds(took)/rounds, "round-ms")
			b.ReportMetric(cpu.Seconds()/rounds, "cpu-s/round")
			b.ReportMetric(float64(commands)/rounds, "redis-commands/round")
		})
	}
}

// BenchmarkFleetCommand measures the real thing: `runqy-worker fleet` with its defaults, which besides the pings holds
// the role, remembers the workers and sweeps the queues.
func BenchmarkFleetCommand(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			const window, interval = 30 * time.Second, 5 * time.Second
			server := redistest.Start(b)
			enrol(b, server.Client, startPongs(b), n)
			pid, address := startFleet(b, server.URL)
			awaitFree(b, address, n)
			commands, cpu := commandsOf(b, server.Client), cpuOf(b, pid)
			time.Sleep(window)
			cpu = cpuOf(b, pid) - cpu
			commands = commandsOf(b, server.Client) - commands - 1
			awaitFree(b, address, n)
			rounds := float64(window / interval)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(cpu.Seconds()/rounds, "cpu-s/round")
			b.ReportMetric(100*cpu.Seconds()/window.Seconds(), "cpu-%")
			b.ReportMetric(float64(commands)/rounds, "redis-commands/round")
			b.ReportMetric(float64(residentOf(b, pid))/(1<<20), "resident-MiB")
		})
	}
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
func startPongs(b *testing.B) string {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), pongsVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatalf("open stdin of the answering process: %v", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatalf("open stdout of the answering process: %v", err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatalf("start the answering process: %v", err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			b.Errorf("the simulated workers: %v", err)
		}
	})
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatalf("the simulated workers do not start: %v", err)
	}
	return strings.TrimSpace(port)
}

// enrol registers workers whose heartbeats outlive the benchmark.
func enrol(b *testing.B, client *redis.Client, port string, n int) {
	b.Helper()
	ctx := b.Context()
	expiry := float64(time.Now().Add(time.Hour).Unix())
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
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
		b.Fatalf("enrol workers: %v", err)
	}
}

// startFleet runs the checker on its own and returns its process id and HTTP address.
func startFleet(b *testing.B, redisURL string) (pid int, address string) {
	b.Helper()
	dir := b.TempDir()
	program := filepath.Join(dir, "runqy-worker")
	if out, err := exec.Command("go", "build", "-o", program, "../cmd/runqy-worker").CombinedOutput(); err != nil {
		b.Fatalf("build the program: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatalf("find a free port: %v", err)
	}
	address = l.Addr().String()
	_ = l.Close()
	cmd := exec.Command(program, "fleet", "--redis", redisURL, "--listen", address)
	cmd.Env = append(os.Environ(), "RUNQY_HEALTH_SOCKET="+filepath.Join(dir, "s"))
	if err := cmd.Start(); err != nil {
		b.Fatalf("start the checker: %v", err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			b.Errorf("the checker: %v", err)
		}
	})
	return cmd.Process.Pid, address
}

// awaitFree waits until the checker counts so many free workers.
func awaitFree(b *testing.B, address string, n int) {
	b.Helper()
	want := fmt.Sprintf("runqy_fleet_workers{state=\"FREE\"} %v\n", float64(n))
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		var text []byte
		resp, err := http.Get("http://" + address + "/metrics")
		if err == nil {
			text, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		if err == nil && strings.Contains(string(text), want) {
			return
		}
		if time.Since(began) > time.Minute {
			b.Fatalf("there are not %d free workers after a minute: %v\n%s", n, err, text)
		}
	}
}

// commandsOf returns how many commands Redis has processed.
func commandsOf(b *testing.B, client *redis.Client) int {
	b.Helper()
	info, err := client.Info(b.Context(), "stats").Result()
	if err != nil {
		b.Fatalf("INFO stats: %v", err)
	}
	_, rest, _ := strings.Cut(info, "total_commands_processed:")
	number, _, _ := strings.Cut(rest, "\r\n")
	n, err := strconv.Atoi(number)
	if err != nil {
		b.Fatalf("read total_commands_processed: %v", err)
	}
	return n
}

// cpuOf returns what a process has used of the processors, to the hundredth of a second.
func cpuOf(b *testing.B, pid int) time.Duration {
	b.Helper()
	fields := statOf(b, pid)
	ticks := 0
	for _, f := range fields[11:13] { // utime and stime, counted from the state
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatalf("read the processor time: %v", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// residentOf returns a process's resident memory in bytes.
func residentOf(b *testing.B, pid int) int {
	b.Helper()
	n, err := strconv.Atoi(statOf(b, pid)[21])
	if err != nil {
		b.Fatalf("read the resident memory: %v", err)
	}
	return n * os.Getpagesize()
}

// statOf returns the fields of /proc/<pid>/stat from the third on, the state.
func statOf(b *testing.B, pid int) []string {
	b.Helper()
	if runtime.GOOS != "linux" {
		b.Skip("needs /proc")
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatalf("read the state of a process: %v", err)
	}
	return strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
}
