package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// roleAsynq has this program be asynq's server with a pipe to a Python process, which is what someone writes who does
// without a supervisor: it knows no health, no restart, no cancellation. Results are stored under the worker's keys.
const roleAsynq = "asynq"

// serveAsynq takes the URL of Redis, the concurrency, the interpreter and the root of the checkout, and serves until
// SIGTERM.
func serveAsynq(ctx context.Context, args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("%s takes 4 arguments, not %d", roleAsynq, len(args))
	}
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer cancel()
	options, err := redis.ParseURL(args[0])
	if err != nil {
		return fmt.Errorf("read the URL of Redis: %w", err)
	}
	concurrency, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("read the concurrency: %w", err)
	}
	child, err := startChild(context.WithoutCancel(ctx), args[2], args[3], os.Environ())
	if err != nil {
		return err
	}
	client := redis.NewClient(options)
	defer client.Close()
	p := &pipe{child: child, client: client, waiting: map[string]chan<- reply{}}
	var reading sync.WaitGroup
	reading.Go(p.read)
	server := asynq.NewServerFromRedisClient(client, asynq.Config{
		Concurrency: concurrency, Queues: map[string]int{queueName: 1}, LogLevel: asynq.ErrorLevel,
	})
	if err := server.Start(asynq.HandlerFunc(p.handle)); err != nil {
		return fmt.Errorf("start asynq's server: %w", err)
	}
	<-ctx.Done()
	server.Shutdown()
	err = child.stop()
	reading.Wait()
	return err
}

// pipe hands tasks to the Python process and answers to the handlers that wait for them.
type pipe struct {
	child  *child
	client *redis.Client

	mu      sync.Mutex
	waiting map[string]chan<- reply
}

func (p *pipe) handle(ctx context.Context, t *asynq.Task) error {
	id, _ := asynq.GetTaskID(ctx)
	retried, _ := asynq.GetRetryCount(ctx)
	most, _ := asynq.GetMaxRetry(ctx)
	line, err := json.Marshal(request{
		TaskID: id, Type: t.Type(), Payload: t.Payload(), RetryCount: retried, MaxRetry: most, Queue: queueName,
		Headers: map[string]string{},
	})
	if err != nil {
		return fmt.Errorf("encode a task: %w", err)
	}
	answer := make(chan reply, 1)
	p.mu.Lock()
	p.waiting[id] = answer
	_, err = p.child.in.Write(append(line, '\n'))
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("write a task: %w", err)
	}
	select {
	case r := <-answer:
		if r.Error != nil {
			return errors.New(*r.Error)
		}
		return p.client.Set(ctx, "asynq:result:"+id, []byte(r.Result), 24*time.Hour).Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pipe) read() {
	for {
		line, err := p.child.out.ReadBytes('\n')
		if err != nil {
			return
		}
		var r reply
		if json.Unmarshal(bytes.TrimSpace(line), &r) != nil || r.TaskID == "" {
			continue
		}
		p.mu.Lock()
		answer := p.waiting[r.TaskID]
		delete(p.waiting, r.TaskID)
		p.mu.Unlock()
		if answer != nil {
			answer <- r
		}
	}
}
