package programs

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis is a redis-server without persistence, on a free port of the loopback interface.
type Redis struct {
	Addr   string
	Client *redis.Client // a connection for the bench

	dir  string
	args []string
	proc *Process
}

// RedisOptions is how a server is started.
type RedisOptions struct {
	Args        []string      // further ones of redis-server
	Ports       *Ports        // where it gets its port from
	Host        string        // the address to listen on; empty: the loopback interface
	Name        string        // of the client's connections
	Connections int           // how many the client has, from the start and at most; 0: as it likes
	Wait        time.Duration // how long the client waits for an answer; 0: a minute
}

// StartRedis starts a server and waits until it answers. Its files are in dir.
func StartRedis(ctx context.Context, dir string, o RedisOptions) (*Redis, error) {
	port, err := o.Ports.Free()
	if err != nil {
		return nil, err
	}
	host := o.Host
	if host == "" {
		host = "127.0.0.1"
	}
	wait := o.Wait
	if wait == 0 {
		wait = time.Minute
	}
	r := &Redis{Addr: net.JoinHostPort(host, strconv.Itoa(port)), dir: dir}
	r.args = append([]string{"--bind", host, "--port", strconv.Itoa(port), "--protected-mode", "no", "--save", "", "--appendonly", "no", "--dir", dir}, o.Args...)
	r.Client = redis.NewClient(&redis.Options{
		Addr: r.Addr, ReadTimeout: wait, ContextTimeoutEnabled: true, ClientName: o.Name, PoolSize: o.Connections, MinIdleConns: o.Connections,
	})
	if err := r.Restart(ctx); err != nil {
		_ = r.Client.Close()
		return nil, err
	}
	return r, nil
}

// Restart starts the server, after it has killed the one that runs.
func (r *Redis) Restart(ctx context.Context) error {
	r.Kill()
	proc, err := Start(ctx, r.dir, "redis", exec.CommandContext(ctx, "redis-server", r.args...))
	if err != nil {
		return err
	}
	r.proc = proc
	if err := Await(ctx, 10*time.Second, time.Millisecond, func() (bool, error) {
		return r.Client.Ping(ctx).Err() == nil, proc.Failed()
	}); err != nil {
		r.Kill()
		return fmt.Errorf("redis-server does not answer: %w", err)
	}
	return nil
}

// Kill ends the server and loses what it holds.
func (r *Redis) Kill() {
	if r.proc != nil {
		r.proc.Stop(syscall.SIGKILL)
		r.proc = nil
	}
}

// Signal sends a signal to the server.
func (r *Redis) Signal(s syscall.Signal) error { return r.proc.Signal(s) }

// Process is the server that runs now.
func (r *Redis) Process() *Process { return r.proc }

// Close ends the server and the connection to it.
func (r *Redis) Close() {
	_ = r.Client.Close()
	r.Kill()
}
