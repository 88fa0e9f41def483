// Package redistest starts real redis-server processes for tests and puts a misbehaving TCP proxy in front of them.
//
// A test that asks for a server on a machine without the redis-server binary is skipped with a message that says so;
// with RUNQY_TEST_REQUIRE=1 in the environment it fails instead, so that CI cannot pass by skipping.
package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// startTimeout bounds the wait for a server's first PONG. It is generous on purpose: a loaded machine is no reason to
// fail a test.
const startTimeout = 30 * time.Second

// Server is a redis-server process of one test. It is gone when the test ends.
type Server struct {
	// Addr is host:port on the loopback interface, or the path of the unix socket for a server without a TCP port.
	Addr string
	// URL is the redis:// (or rediss://, redis-socket://) form of the address, credentials included.
	URL string
	// Client is connected to the server and closed by the test's cleanup.
	Client *redis.Client
	// Dir is the server's working directory (its data files and its log).
	Dir string
	// CAFile, CertFile and KeyFile are set by StartTLS: the authority that signed the server's certificate, and a
	// client certificate.
	CAFile, CertFile, KeyFile string

	t    testing.TB
	args []string
	opts *redis.Options
	by   []string // the command that runs the server, if it is not run directly

	sentinelFile string // the whole configuration of a sentinel, which takes no args

	mu   sync.Mutex
	proc *process // guarded by mu; nil while stopped
}

// Start runs redis-server on a free loopback port, without persistence, with args appended to its command line
// ("--requirepass", "secret", …), and waits until it answers PING. It ends the test when that fails.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	password := argument(args, "--requirepass")
	for attempt := 1; ; attempt++ {
		port := FreePort(t)
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		s := &Server{
			Addr: addr,
			URL:  "redis://" + userinfo(password) + addr + "/0",
			args: append([]string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1"}, args...),
			opts: &redis.Options{Addr: addr, Password: password},
		}
		err := s.launch(t)
		if err == nil {
			return s
		}
		// Somebody else may have taken the port between the probe and the start.
		if attempt == 5 {
			t.Fatalf("redistest: %v", err)
		}
	}
}

// StartOn runs redis-server on a host of its own: by is the command that runs another one there, as "ip netns exec
// NAME" does, and must become that process rather than its parent. The server listens on host, port 6379, and everybody
// who reaches it may use it.
func StartOn(t testing.TB, by []string, host string, args ...string) *Server {
	t.Helper()
	addr := net.JoinHostPort(host, "6379")
	s := &Server{
		Addr: addr,
		URL:  "redis://" + addr + "/0",
		args: append([]string{"--port", "6379", "--bind", host, "--protected-mode", "no"}, args...),
		opts: &redis.Options{Addr: addr},
		by:   by,
	}
	if err := s.launch(t); err != nil {
		t.Fatalf("redistest: %v", err)
	}
	return s
}

// StartUnix is Start for a server that listens on a unix socket only.
func StartUnix(t testing.TB, args ...string) *Server {
	t.Helper()
	// Not t.TempDir: a long test name makes a path longer than sockets allow.
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "redis.sock")
	password := argument(args, "--requirepass")
	s := &Server{
		Addr: path,
		URL:  "redis-socket://" + userinfo(password) + path + "?db=0",
		args: append([]string{"--port", "0", "--unixsocket", path}, args...),
		opts: &redis.Options{Network: "unix", Addr: path, Password: password},
	}
	if err := s.launch(t); err != nil {
		t.Fatalf("redistest: %v", err)
	}
	return s
}

// launch fills in what every kind of server shares, starts the process and registers the cleanup. On an error nothing
// is left running.
func (s *Server) launch(t testing.TB) error {
	t.Helper()
	requireBinary(t)
	s.t = t
	if s.Dir == "" {
		s.Dir = t.TempDir()
	}
	if err := s.start(); err != nil {
		return err
	}
	s.Client = redis.NewClient(s.opts)
	t.Cleanup(func() {
		s.Client.Close()
		s.Kill()
		if t.Failed() {
			t.Logf("redistest: last lines of redis-server %s:\n%s", s.Addr, s.logTail())
		}
	})
	return nil
}

// PID is the process id of the running server, 0 while it is stopped.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return 0
	}
	return s.proc.cmd.Process.Pid
}

// Kill ends the server with SIGKILL and waits until it is gone. What it held is lost, unless args turned persistence
// on. Killing twice does nothing.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return
	}
	s.proc.kill()
	s.proc = nil
}

// Restart starts a killed (or still running: it is killed first) server again on the same address and waits for its
// PONG.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	if err := s.start(); err != nil {
		s.t.Fatalf("redistest: restart: %v", err)
	}
}

// Freeze stops the process with SIGSTOP: connections stay open and nobody answers. Thaw lets it go on; a frozen server
// is still killed by the cleanup.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		s.t.Fatalf("redistest: signal %v for a server that is not running", sig)
	}
	if err := s.proc.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("redistest: signal %v: %v", sig, err)
	}
}

func (s *Server) start() error {
	logfile, err := os.Create(filepath.Join(s.Dir, "redis.log"))
	if err != nil {
		return err
	}
	defer logfile.Close()
	args := append([]string{"--save", "", "--appendonly", "no", "--dir", s.Dir, "--daemonize", "no"}, s.args...)
	if s.sentinelFile != "" {
		args = []string{s.sentinelFile, "--sentinel"}
	}
	p, err := startProcess(append(s.by[:len(s.by):len(s.by)], "redis-server"), args, logfile)
	if err != nil {
		return err
	}
	if err := s.waitReady(p); err != nil {
		p.kill()
		return err
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	return nil
}

func (s *Server) waitReady(p *process) error {
	opts := *s.opts
	opts.MaxRetries = -1
	opts.DialerRetries = 1
	probe := redis.NewClient(&opts)
	defer probe.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := probe.Ping(ctx).Err()
		if err == nil && s.owned(ctx, probe, p) {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("redis-server %q ended at start: %w\n%s", s.args, p.err, s.logTail())
		case <-ctx.Done():
			return fmt.Errorf("redis-server %q does not answer PING after %v: %w\n%s", s.args, startTimeout, err, s.logTail())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// owned tells whether the answering server is p and not another process that took the same free port in the same
// moment.
func (s *Server) owned(ctx context.Context, client *redis.Client, p *process) bool {
	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		return false
	}
	return strings.Contains(info, "process_id:"+strconv.Itoa(p.cmd.Process.Pid)+"\r\n")
}

func (s *Server) logTail() string {
	data, err := os.ReadFile(filepath.Join(s.Dir, "redis.log"))
	if err != nil {
		return err.Error()
	}
	if len(data) > 2000 {
		data = data[len(data)-2000:]
	}
	return string(data)
}

// process is one run of redis-server. A goroutine that is locked to its thread starts it and waits for it: the death
// signal that Linux sends to the server when the test binary dies is tied to the thread that forked.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has been waited for
	err  error         // what Wait said; readable after done
}

func startProcess(command, args []string, output *os.File) (*process, error) {
	p := &process{cmd: exec.Command(command[0], append(command[1:], args...)...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = output, output
	p.cmd.SysProcAttr = dieWithParent()
	started := make(chan error, 1)
	go func() { // ends when the process ends; kill waits for it through done
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	return p, nil
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error means that it is already gone
	<-p.done
}

// FreePort returns a loopback TCP port that nobody listens on at the moment.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func requireBinary(t testing.TB) {
	t.Helper()
	requireProgram(t, "redis-server")
}

// requireProgram ends the test when a program is missing, whose name is that of its package in Debian.
func requireProgram(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		message := "redistest: " + name + " is not on PATH; install it (Debian: apt-get install " + name + ")"
		if os.Getenv("RUNQY_TEST_REQUIRE") == "1" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
}

func argument(args []string, name string) string {
	for i := 0; i+1 < len(args); i++ {
		if args[i] == name {
			return args[i+1]
		}
	}
	return ""
}

func userinfo(password string) string {
	if password == "" {
		return ""
	}
	return ":" + password + "@"
}
