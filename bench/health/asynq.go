package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// roleAsynq has this program be asynq's server with handlers in Go, one at a time.
const roleAsynq = "asynq"

// serveAsynq takes the URL of Redis and the file of the switch, and serves until the context ends.
func serveAsynq(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%s takes 2 arguments, not %d", roleAsynq, len(args))
	}
	options, err := redis.ParseURL(args[0])
	if err != nil {
		return fmt.Errorf("read the URL of Redis: %w", err)
	}
	client := redis.NewClient(options)
	defer client.Close()
	mux := asynq.NewServeMux()
	mux.HandleFunc("echo", func(context.Context, *asynq.Task) error {
		if word, err := os.ReadFile(args[1]); err == nil && string(word) == "fail" {
			return errors.New("asked to fail")
		}
		return nil
	})
	mux.HandleFunc("sleep", func(_ context.Context, t *asynq.Task) error {
		var payload struct{ Seconds float64 }
		if err := json.Unmarshal(t.Payload(), &payload); err != nil {
			return fmt.Errorf("read a payload: %w", err)
		}
		time.Sleep(time.Duration(payload.Seconds * float64(time.Second)))
		return nil
	})
	server := asynq.NewServerFromRedisClient(client, asynq.Config{
		Concurrency: 1, Queues: map[string]int{queueName: 1}, LogLevel: asynq.ErrorLevel,
	})
	if err := server.Start(mux); err != nil {
		return fmt.Errorf("start asynq's server: %w", err)
	}
	<-ctx.Done()
	server.Shutdown()
	return nil
}

// plainAsynq is asynq's own server. Its health is what Inspector.Servers tells.
type plainAsynq struct{ peer }

func (*plainAsynq) name() string    { return "asynq" }
func (*plainAsynq) pending() string { return (&ours{}).pending() }

func (a *plainAsynq) start(ctx context.Context, d *bed) error {
	return a.launch(ctx, d, "asynq", d.self, roleAsynq, d.url, d.word)
}

func (a *plainAsynq) surfaces(d *bed) []surface {
	inspector := asynq.NewInspectorFromRedisClient(d.redis.Client)
	return []surface{{"Inspector.Servers", 500 * time.Millisecond, func(ctx context.Context) answer {
		servers, err := within(ctx, inspector.Servers)
		if err != nil {
			return noAnswer(err)
		}
		for _, s := range servers {
			if s.PID == a.proc.PID() {
				return isGreen(s.Status == "active", s.Status)
			}
		}
		return answer{red, "the server is not listed"}
	}}}
}

// within calls what takes no context, and has a time limit of Redis' client for each of its commands.
func within[T any](ctx context.Context, call func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() { // ends at the client's own limit
		value, err := call()
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("no answer: %w", ctx.Err())
	}
}

func (*plainAsynq) enqueue(ctx context.Context, d *bed, t task) (string, error) {
	return enqueueAsynq(ctx, d, t)
}

func (*plainAsynq) done(ctx context.Context, d *bed, id string) (bool, error) {
	state, err := d.redis.Client.HMGet(ctx, "asynq:{"+queueName+"}:t:"+id, "state").Result()
	if err != nil {
		return false, fmt.Errorf("look for a task: %w", err)
	}
	return state[0] == "completed", nil
}

// handlers is the server itself.
func (a *plainAsynq) handlers(context.Context, *bed) int { return a.proc.PID() }
