package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// site is the redis-server of one measurement.
type site struct {
	addr   string // the server's own
	url    string // what the systems under test connect to: the server, or a proxy before it
	server *programs.Redis
	client *redis.Client
	own    *ownCommands // what client has sent
	close  []func()
}

// ownCommands counts what the bench itself asks of a server, to be left out of what the systems have asked.
type ownCommands struct{ calls, trips atomic.Int64 }

func (*ownCommands) DialHook(next redis.DialHook) redis.DialHook { return next }

func (o *ownCommands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		o.calls.Add(1)
		o.trips.Add(1)
		return next(ctx, cmd)
	}
}

func (o *ownCommands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		o.calls.Add(int64(len(cmds)))
		o.trips.Add(1)
		return next(ctx, cmds)
	}
}

// startRedis runs a redis-server, behind a proxy if there is to be a delay.
func (b *bench) startRedis(ctx context.Context, delay time.Duration) (*site, error) {
	server, err := programs.StartRedis(ctx, b.dir, programs.RedisOptions{Ports: &b.ports})
	if err != nil {
		return nil, err
	}
	s := &site{addr: server.Addr, url: "redis://" + server.Addr + "/0", server: server, client: server.Client, own: &ownCommands{}}
	s.client.AddHook(s.own)
	s.close = append(s.close, server.Close)
	if delay > 0 {
		proxy, err := programs.StartProxy(ctx, server.Addr, delay/2)
		if err != nil {
			s.stop()
			return nil, err
		}
		s.url = "redis://" + proxy.Addr + "/0"
		s.close = append(s.close, proxy.Stop)
	}
	return s, nil
}

// stop ends the server, the connection to it and the proxy.
func (s *site) stop() {
	for _, f := range s.close {
		f()
	}
}

// roundTrip is the median time of a PING through the proxy, in milliseconds.
func (s *site) roundTrip(ctx context.Context) float64 {
	options, err := redis.ParseURL(s.url)
	if err != nil {
		return 0
	}
	client := redis.NewClient(options)
	defer client.Close()
	var times []float64
	for range 20 {
		began := time.Now()
		if client.Ping(ctx).Err() == nil {
			times = append(times, float64(time.Since(began))/float64(time.Millisecond))
		}
	}
	return percentile(times[min(1, len(times)):], 50)
}

// load is what a server has done since it started.
type load struct {
	calls   float64 // commands, those inside scripts included
	scripts float64
	reads   float64 // reads from sockets
	pops    float64 // commands that take an element from a list
	cpu     time.Duration
	memory  float64
	clients float64
}

// info reads what the server has done for others than the bench.
func (s *site) info(ctx context.Context) (load, error) {
	text, err := s.client.Info(ctx, "everything").Result()
	if err != nil {
		return load{}, fmt.Errorf("INFO: %w", err)
	}
	l := parseInfo(text)
	l.calls -= float64(s.own.calls.Load())
	l.reads -= float64(s.own.trips.Load())
	return l, nil
}

func parseInfo(text string) load {
	var l load
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		if command, ok := strings.CutPrefix(name, "cmdstat_"); ok {
			calls, _, _ := strings.Cut(strings.TrimPrefix(value, "calls="), ",")
			n := number(calls)
			switch command {
			case "eval", "evalsha", "fcall":
				l.scripts += n
			case "lpop", "rpop", "rpoplpush", "lmove", "blmove", "brpop", "blpop", "brpoplpush":
				l.pops += n
			}
			continue
		}
		switch name {
		case "total_commands_processed":
			l.calls = number(value)
		case "total_reads_processed":
			l.reads = number(value)
		case "used_cpu_user", "used_cpu_sys":
			l.cpu += time.Duration(number(value) * float64(time.Second))
		case "used_memory":
			l.memory = number(value)
		case "connected_clients":
			l.clients = number(value)
		}
	}
	return l
}

// number reads a figure; what is none counts as 0.
func number(text string) float64 {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0
	}
	return n
}
