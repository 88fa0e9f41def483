package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// bed is what one system has for one case: a Redis and a directory of its own, and everything that is broken.
type bed struct {
	*bench
	fault   *fault
	subject subject
	dir     string
	redis   *programs.Redis
	proxy   *programs.Proxy // nil without fault.proxied
	net     *namespace      // nil: the system is on the same host as everybody
	host    string          // where the system listens
	url     string          // of Redis, for the system
	word    string          // the file that python/faults.py reads

	env      []string        // further variables of our worker
	log      *os.File        // the pipe that our worker logs into, if it does
	database *programs.Proxy // before the database, if there is one

	closing []func()
	running sync.WaitGroup // what faults do meanwhile

	mu   sync.Mutex
	must []string // guarded by mu; tasks that have to be done if the system can work, beside the probe
}

// newBed makes the surroundings of a case. close has to be called also after an error.
func (b *bench) newBed(ctx context.Context, f *fault, s subject) (*bed, error) {
	d := &bed{bench: b, fault: f, subject: s, host: "127.0.0.1"}
	var err error
	if d.dir, err = os.MkdirTemp(b.dir, "c"); err != nil {
		return d, fmt.Errorf("make the directory of a case: %w", err)
	}
	d.word = filepath.Join(d.dir, "switch")
	listen := ""
	if f.apart {
		if d.net, err = newNamespace(ctx); err != nil {
			return d, err
		}
		d.atEnd(d.net.remove)
		d.host, listen = d.net.inside(), d.net.outside()
	}
	d.redis, err = programs.StartRedis(ctx, d.dir, programs.RedisOptions{
		Ports: &d.ports,
		Args:  []string{"--enable-protected-configs", "yes"}, Host: listen, Name: redisName, Connections: 4, Wait: askTimeout})
	if err != nil {
		return d, err
	}
	d.atEnd(d.redis.Close)
	addr, login := d.redis.Addr, ""
	if f.password {
		login = "worker:secret@"
		if err := d.redis.Client.Do(ctx, "ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all").Err(); err != nil {
			return d, fmt.Errorf("make a user: %w", err)
		}
	}
	if f.proxied {
		if d.proxy, err = programs.StartProxy(ctx, addr, 0); err != nil {
			return d, err
		}
		d.atEnd(d.proxy.Stop)
		addr = d.proxy.Addr
	}
	d.url = "redis://" + login + addr + "/0"
	if f.prepare != nil {
		if err := f.prepare(ctx, d); err != nil {
			return d, fmt.Errorf("prepare %s: %w", f.name, err)
		}
	}
	return d, nil
}

// atEnd has close call what ends something, the last one first.
func (d *bed) atEnd(end func()) { d.closing = append(d.closing, end) }

// close ends everything.
func (d *bed) close() {
	for _, end := range slices.Backward(d.closing) {
		end()
	}
	d.running.Wait()
	if !d.keep {
		_ = os.RemoveAll(d.dir)
	}
}

// setSwitch tells every process of the case how to behave.
func (d *bed) setSwitch(word string) error {
	if err := os.WriteFile(d.word, []byte(word), 0o644); err != nil {
		return fmt.Errorf("set the switch: %w", err)
	}
	return nil
}

// run enqueues a task that is part of the fault.
func (d *bed) run(ctx context.Context, t task) error {
	_, err := d.subject.enqueue(ctx, d, t)
	return err
}

// runAll enqueues tasks that have to be done if the system can work.
func (d *bed) runAll(ctx context.Context, tasks ...task) error {
	for _, t := range tasks {
		id, err := d.subject.enqueue(ctx, d, t)
		if err != nil {
			return err
		}
		d.mustDo(id)
	}
	return nil
}

// mustDo names tasks that have to be done if the system can work.
func (d *bed) mustDo(ids ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.must = append(d.must, ids...)
}

// do runs commands of Redis.
func (d *bed) do(ctx context.Context, commands ...[]any) error {
	for _, c := range commands {
		if err := d.redis.Client.Do(ctx, c...).Err(); err != nil {
			return fmt.Errorf("%v: %w", c, err)
		}
	}
	return nil
}

// meanwhile runs something beside the case until it is closed.
func (d *bed) meanwhile(ctx context.Context, f func(context.Context)) {
	ctx, cancel := context.WithCancel(ctx)
	d.atEnd(cancel)
	d.running.Go(func() { f(ctx) })
}

// redisName is the name of the bench's own connections to Redis.
const redisName = "health-bench"

// strangers returns the connections to Redis that are not the bench's own.
func (d *bed) strangers(ctx context.Context) (ids []string, own int, err error) {
	list, err := d.redis.Client.ClientList(ctx).Result()
	if err != nil {
		return nil, 0, fmt.Errorf("CLIENT LIST: %w", err)
	}
	for _, line := range splitLines(list) {
		fields := clientFields(line)
		if fields["name"] == redisName {
			own++
		} else {
			ids = append(ids, fields["id"])
		}
	}
	return ids, own, nil
}

// cutStrangers closes the system's connections to Redis.
func (d *bed) cutStrangers(ctx context.Context) error {
	ids, _, err := d.strangers(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := d.redis.Client.ClientKillByFilter(ctx, "ID", id).Err(); err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("CLIENT KILL: %w", err)
		}
	}
	return nil
}

// port finds one for the system to listen on.
func (d *bed) port() (string, error) {
	port, err := d.ports.Free()
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(d.host, strconv.Itoa(port)), nil
}

// pause waits, unless the run ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
