package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/rpc"
)

// Options say how a [Client] reaches the workers, for [Client.Workers] and [Dispatcher]. The zero value is right for
// workers without TLS and passwords. What enqueues or waits needs Redis alone and none of this.
type Options struct {
	// HeartbeatsOnly judges the workers by their heartbeats in Redis and pings none: for a machine that cannot reach
	// their addresses. The state of a worker is then as old as its last heartbeat, and a dead worker is noticed when
	// two heartbeats are missing.
	HeartbeatsOnly bool

	// TLS says that the workers speak HTTPS. There is no fallback to plain text.
	TLS bool
	// CAFile is a PEM file with the authorities that sign the workers' certificates. It implies TLS. Empty: the
	// system's authorities. It is the key fleet.client.ca_file of a worker's configuration, which errors name.
	CAFile string
	// Username and PasswordFile are for the basic authentication of the workers' ports. The file holds the password
	// alone, on one line. It is the key fleet.client.password_file, which errors name. Empty: none.
	Username, PasswordFile string
	// PingTimeout bounds how long one worker may take to answer, its connection included. Not more than 0: 3 s.
	PingTimeout time.Duration
}

// Client talks to the queues and workers of one Redis. It is safe for concurrent use. Make one with [New] or
// [NewFromRedis] and keep it: it holds connections.
type Client struct {
	redis     redis.UniversalClient
	ownsRedis bool // Close closes it
	asynq     *asynq.Client
	recording *asynq.Client // over a recorder: it encodes tasks and sends none
	inspector *asynq.Inspector

	store       *fleet.Store
	registry    fleet.CheckerOptions // how the workers are asked
	checker     *fleet.Checker       // of Workers; it remembers the last heartbeat of each worker
	round       chan struct{}        // capacity 1; holds an element while Workers uses the checker
	closePinger func()               // closes the connections to the workers
}

// New returns a Client of the Redis behind a URL. It reads the files that the URL and the options name, and does not
// connect yet: whether Redis answers is told by the first call. The caller closes the Client.
//
// The URL has one of the forms that a worker takes:
//
//	redis://[[user]:password@]host[:6379][/db]
//	rediss://…                                                  the same over TLS
//	redis-socket://[[user]:password@]/path/to.sock[?db=0]
//	redis-sentinel://[[user]:password@]host[:26379],host2…[/db]?master=NAME
//	redis-cluster://[[user]:password@]host[:6379],host2…
//
// Its query takes the options of go-redis (dial_timeout, read_timeout, pool_size, …) and for TLS ca_file, cert_file,
// key_file and server_name. An error never contains the password.
func New(redisURL string, opts Options) (*Client, error) {
	target, err := redisclient.Parse(redisURL)
	if err != nil {
		return nil, fmt.Errorf("redis URL: %w", err)
	}
	client := target.Open()
	c, err := NewFromRedis(client, opts)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	c.ownsRedis = true
	return c, nil
}

// NewFromRedis returns a Client that uses an existing Redis client. Closing the Client leaves that one open. It should
// have ContextTimeoutEnabled: otherwise the end of a context does not interrupt a command that is under way.
func NewFromRedis(client redis.UniversalClient, opts Options) (*Client, error) {
	self, err := heartbeat.NewIdentity()
	if err != nil {
		return nil, fmt.Errorf("tell this process from others: %w", err)
	}
	clocked, store := newRedisClock(client), fleet.NewStore(client)
	c := &Client{
		redis:       client,
		asynq:       asynq.NewClientFromRedisClient(clocked),
		recording:   asynq.NewClientFromRedisClient(recorder{clocked}),
		inspector:   asynq.NewInspectorFromRedisClient(client),
		store:       store,
		registry:    fleet.CheckerOptions{Registry: store, PingTimeout: opts.PingTimeout, Self: self},
		round:       make(chan struct{}, 1),
		closePinger: func() {},
	}
	if !opts.HeartbeatsOnly {
		pinger, err := rpc.NewClient(rpc.ClientOptions{
			TLS: opts.TLS, CAFile: opts.CAFile, Username: opts.Username, PasswordFile: opts.PasswordFile, Timeout: opts.PingTimeout,
		})
		if err != nil {
			return nil, err
		}
		c.registry.Pinger, c.closePinger = pinger, pinger.Close
	}
	c.checker = fleet.NewChecker(c.registry)
	return c, nil
}

// Close closes the connections to the workers, and to Redis if [New] made them. Call it once, when every other call of
// the Client and of its dispatchers has returned.
func (c *Client) Close() error {
	c.closePinger()
	if !c.ownsRedis {
		return nil
	}
	if err := c.redis.Close(); err != nil {
		return fmt.Errorf("close the connections to Redis: %w", err)
	}
	return nil
}
