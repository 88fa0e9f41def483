package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// commands returns a step of a case: commands of Redis.
func commands(all ...[]any) func(context.Context, *bed) error {
	return func(ctx context.Context, d *bed) error { return d.do(ctx, all...) }
}

func config(key, value string) []any { return []any{"CONFIG", "SET", key, value} }

func setUser(rules ...any) []any { return append([]any{"ACL", "SETUSER", "worker"}, rules...) }

// refusals are Redis answering, and refusing what the work needs.
func refusals() []fault {
	return []fault{
		{
			name: "redis-readonly", title: "READONLY: Redis has become a replica (`REPLICAOF`)", truth: unable, quick: true, peers: everybody(),
			inject: commands([]any{"REPLICAOF", "127.0.0.1", "1"}), lift: commands([]any{"REPLICAOF", "NO", "ONE"}),
		},
		{
			name: "redis-noperm", title: "NOPERM: its user may run no script and take from no list (ACL)", truth: unable, password: true, peers: everybody(),
			inject: func(ctx context.Context, d *bed) error { // who waits for a task already would still get one
				return errors.Join(d.do(ctx, setUser("-@scripting", "-@blocking", "-lpop", "-rpop", "-lmove", "-rpoplpush")), d.cutStrangers(ctx))
			},
			lift: commands(setUser("+@all")),
		},
		{
			name: "redis-noperm-evalsha", title: "NOPERM: its user may not call scripts (`ACL SETUSER … -evalsha`)", truth: unable, password: true,
			inject: commands(setUser("-evalsha")), lift: commands(setUser("+@all")),
		},
		{
			name: "redis-noperm-results", title: "NOPERM: its user may not write results", truth: unable, password: true,
			// Every name but asynq:result:…
			inject: commands(setUser("resetkeys", "~asynq:{*", "~asynq:[^r]*", "~runqy:*")), lift: commands(setUser("allkeys")),
		},
		{
			name: "redis-oom", title: "OOM: Redis has no memory left (`maxmemory`)", truth: unable, peers: everybody(),
			inject: commands(config("maxmemory", "1")), lift: commands(config("maxmemory", "0")),
		},
		{
			name: "redis-misconf", title: "MISCONF: Redis cannot save", truth: unable, peers: everybody(),
			inject: cannotSave, lift: commands(config("stop-writes-on-bgsave-error", "no")),
		},
		{
			name: "redis-noreplicas", title: "NOREPLICAS: too few replicas (`min-replicas-to-write`)", truth: unable, peers: everybody(),
			inject: commands(config("min-replicas-to-write", "1")), lift: commands(config("min-replicas-to-write", "0")),
		},
		{
			name: "redis-busy", title: "BUSY: a script does not end", truth: unable, peers: everybody(),
			prepare: commands(config("busy-reply-threshold", "500")), inject: endlessScript, lift: killScript,
		},
		{
			name: "redis-noauth", title: "NOAUTH: Redis wants a password from now on", truth: unable, peers: everybody(),
			inject: func(ctx context.Context, d *bed) error {
				return errors.Join(d.do(ctx, config("requirepass", "new")), d.cutStrangers(ctx))
			},
			lift: commands(config("requirepass", "")),
		},
		{
			name: "redis-wrongtype", title: "WRONGTYPE: somebody has written another value over the list of waiting tasks", truth: unable, peers: everybody(),
			inject: func(ctx context.Context, d *bed) error { return d.do(ctx, []any{"SET", d.subject.pending(), "x"}) },
			lift:   func(ctx context.Context, d *bed) error { return d.do(ctx, []any{"DEL", d.subject.pending()}) },
		},
	}
}

// cannotSave has a snapshot fail: its file is a directory.
func cannotSave(ctx context.Context, d *bed) error {
	if err := os.MkdirAll(filepath.Join(d.dir, "taken", "by"), 0o755); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	if err := d.do(ctx, config("dbfilename", "taken"), config("save", "3600 100000"), []any{"BGSAVE"}); err != nil {
		return err
	}
	for ctx.Err() == nil {
		info, err := d.redis.Client.Info(ctx, "persistence").Result()
		if err != nil {
			return fmt.Errorf("INFO: %w", err)
		}
		for _, line := range splitLines(info) {
			if line == "rdb_last_bgsave_status:err\r" {
				return nil
			}
		}
		pause(ctx, 20*time.Millisecond)
	}
	return ctx.Err()
}

// endlessScript runs one that only SCRIPT KILL ends.
func endlessScript(ctx context.Context, d *bed) error {
	d.evalBeside(ctx, "while true do end")
	// It has to be under way: from then on nobody is answered as usual.
	return programs.Await(ctx, askTimeout, 10*time.Millisecond, func() (bool, error) {
		limited, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		return d.redis.Client.Ping(limited).Err() != nil, nil
	})
}

// killScript ends it. While Redis is busy, a client cannot even say how it wants to be spoken to, so this is none.
func killScript(ctx context.Context, d *bed) error {
	conn, err := d.dial(ctx)
	if err != nil {
		return fmt.Errorf("SCRIPT KILL: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(askTimeout))
	if _, err := conn.Write([]byte("SCRIPT KILL\r\n")); err != nil {
		return fmt.Errorf("SCRIPT KILL: %w", err)
	}
	answer := make([]byte, 256)
	n, err := conn.Read(answer)
	if err != nil || string(answer[:n]) != "+OK\r\n" {
		return fmt.Errorf("SCRIPT KILL: %q (%w)", answer[:n], err)
	}
	return nil
}

// dial opens a connection to Redis that no client manages.
func (d *bed) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: askTimeout}
	return dialer.DialContext(ctx, "tcp", d.redis.Addr)
}

// evalBeside runs a script on a connection of its own and does not wait for it.
func (d *bed) evalBeside(ctx context.Context, script string, args ...any) {
	client := redis.NewClient(&redis.Options{Addr: d.redis.Addr, ClientName: redisName, ReadTimeout: time.Minute, MaxRetries: -1})
	d.meanwhile(ctx, func(ctx context.Context) {
		defer client.Close()
		_ = client.Eval(ctx, script, nil, args...).Err() // it is killed in the end
	})
	d.atEnd(d.redis.Kill) // it may wait for an answer that never comes
}

// outages are Redis not answering, or not as before.
func outages() []fault {
	all := []fault{
		{
			name: "redis-frozen", title: "Redis stands still (SIGSTOP)", truth: unable, peers: everybody(),
			inject: signalRedis(syscall.SIGSTOP), lift: signalRedis(syscall.SIGCONT),
		},
		{
			name: "redis-pause-all", title: "`CLIENT PAUSE` for all commands", truth: unable, peers: everybody(),
			lasts: true, inject: func(ctx context.Context, d *bed) error {
				return d.do(ctx, []any{"CLIENT", "PAUSE", (d.length() + askTimeout).Milliseconds(), "ALL"})
			},
			lift: redisAnswers, // nobody can end it early
		},
		{
			name: "redis-pause-write", title: "`CLIENT PAUSE … WRITE`", truth: unable, peers: everybody(),
			inject: commands([]any{"CLIENT", "PAUSE", time.Minute.Milliseconds(), "WRITE"}), lift: commands([]any{"CLIENT", "UNPAUSE"}),
		},
		{
			name: "redis-blocked", title: "Redis is blocked by a script, and refuses nothing", truth: unable, peers: everybody(),
			prepare: commands(config("busy-reply-threshold", "600000")), inject: longScript, lasts: true,
			lift: redisAnswers, // the script ends by itself
		},
		{
			name: "redis-killed", title: "Redis is killed, and comes back empty", truth: unable, peers: everybody(),
			inject: func(_ context.Context, d *bed) error { d.redis.Kill(); return nil },
			lift:   func(ctx context.Context, d *bed) error { return d.redis.Restart(ctx) },
		},
		{
			name: "redis-refuses", title: "Redis cannot be reached: connections are refused", truth: unable, proxied: true, peers: everybody(),
			inject: func(_ context.Context, d *bed) error { d.proxy.Refuse(); return nil },
			lift:   func(ctx context.Context, d *bed) error { return d.proxy.Resume(ctx) },
		},
		{
			name: "redis-maxclients", title: "Redis has no connection left (`maxclients`)", truth: unable, peers: everybody(),
			inject: takeConnections, lift: commands(config("maxclients", "10000")),
		},
		{
			name: "redis-slow", title: "Each answer of Redis takes 2 s", truth: asked, proxied: true, peers: everybody(), after: 10 * time.Second,
			inject: func(_ context.Context, d *bed) error { d.proxy.SetDelay(time.Second); return nil },
			lift:   func(_ context.Context, d *bed) error { d.proxy.SetDelay(0); return nil },
		},
		{
			name: "redis-hangs", title: "Connections to Redis are taken, and nothing passes", truth: unable, proxied: true, peers: everybody(),
			inject: func(_ context.Context, d *bed) error { d.proxy.Freeze(); return nil },
			lift:   func(_ context.Context, d *bed) error { d.proxy.Thaw(); return nil },
		},
		{
			name: "redis-absent", title: "Redis cannot be reached from the start", truth: unable, proxied: true, never: true,
			prepare: func(_ context.Context, d *bed) error { d.proxy.Refuse(); return nil },
			lift:    func(ctx context.Context, d *bed) error { return d.proxy.Resume(ctx) },
		},
	}
	return append(all, halfOpen())
}

func signalRedis(s syscall.Signal) func(context.Context, *bed) error {
	return func(_ context.Context, d *bed) error { return d.redis.Signal(s) }
}

// redisAnswers waits until it does.
func redisAnswers(ctx context.Context, d *bed) error {
	return programs.Await(ctx, 2*d.length(), 50*time.Millisecond, func() (bool, error) { return d.redis.Client.Ping(ctx).Err() == nil, nil })
}

// longScript blocks Redis until a little after the watch ends.
func longScript(ctx context.Context, d *bed) error {
	d.evalBeside(ctx, `local function now() local t = redis.call("TIME") return t[1] + t[2] / 1000000 end
		local last = now() + ARGV[1]
		while now() < last do end`, (d.length() + askTimeout).Seconds())
	pause(ctx, 100*time.Millisecond)
	return nil
}

// takeConnections closes the system's connections to Redis, and takes every other.
func takeConnections(ctx context.Context, d *bed) error {
	filler, err := d.dial(ctx)
	if err != nil {
		return fmt.Errorf("take a connection: %w", err)
	}
	d.atEnd(func() { _ = filler.Close() })
	if _, err := fmt.Fprintf(filler, "CLIENT SETNAME %s\r\n", redisName); err != nil {
		return fmt.Errorf("take a connection: %w", err)
	}
	if _, err := filler.Read(make([]byte, 64)); err != nil {
		return fmt.Errorf("take a connection: %w", err)
	}
	_, own, err := d.strangers(ctx)
	if err != nil {
		return err
	}
	if err := d.do(ctx, config("maxclients", fmt.Sprint(own))); err != nil {
		return err
	}
	return d.cutStrangers(ctx)
}
