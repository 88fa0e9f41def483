package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/client"
)

// Enqueue a task and wait for its result.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	redisURL := startedRedis() // for instance "redis://localhost:6379/0"

	c, err := client.New(redisURL, client.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	task, err := c.Enqueue(ctx, client.Task{
		Queue: "inference_default", Type: "greet", Payload: json.RawMessage(`{"name": "Ada"}`),
	})
	if err != nil {
		panic(err)
	}
	result, err := c.Wait(ctx, task.Queue, task.ID, client.WaitOptions{})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s\n", result)
	// Output: "Hello, Ada"
}

// Use a Redis client that exists already. Closing the Client leaves it open.
func ExampleNewFromRedis() {
	ctx := context.Background()
	opts, err := redis.ParseURL(startedRedis())
	if err != nil {
		panic(err)
	}
	opts.ContextTimeoutEnabled = true
	rdb := redis.NewClient(opts)
	defer rdb.Close()

	c, err := client.NewFromRedis(rdb, client.Options{HeartbeatsOnly: true})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	task, err := c.Enqueue(ctx, client.Task{
		Queue: "inference_default", Type: "greet", Payload: json.RawMessage(`{"name": "Ada"}`), ID: "tomorrow", In: 24 * time.Hour,
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(task.ID, "is", task.State)
	// Output: tomorrow is scheduled
}

// Enqueue a task with an ID and options of its own. The same ID again is an error that can be told from others.
func ExampleClient_Enqueue() {
	ctx := context.Background()
	c, err := client.New(startedRedis(), client.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	task := client.Task{
		Queue: "inference_default", Type: "greet", Payload: json.RawMessage(`{"name": "Grace"}`),
		ID: "greet-grace", MaxRetry: new(3), Timeout: 30 * time.Second, Retention: time.Hour,
	}
	for range 2 {
		_, err = c.Enqueue(ctx, task)
		fmt.Println("exists already:", errors.Is(err, client.ErrTaskExists))
	}
	// Output:
	// exists already: false
	// exists already: true
}

// Enqueue many tasks. One that is refused does not stop the others.
func ExampleClient_EnqueueMany() {
	ctx := context.Background()
	c, err := client.New(startedRedis(), client.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	var tasks []client.Task
	for _, name := range []string{"ada", "alan", "ada"} {
		payload, err := json.Marshal(map[string]string{"name": name})
		if err != nil {
			panic(err)
		}
		tasks = append(tasks, client.Task{Queue: "inference_default", Type: "greet", Payload: payload, ID: "many-" + name, Retention: time.Hour})
	}
	outcomes, err := c.EnqueueMany(ctx, tasks)
	if err != nil {
		fmt.Println(err) // Redis failed or ctx ended; the outcomes tell how far it came
	}
	for i, outcome := range outcomes {
		var uncertain *client.UncertainError
		switch {
		case outcome.Err == nil:
			fmt.Println(outcome.Info.ID, "is enqueued")
		case errors.Is(outcome.Err, client.ErrTaskExists):
			fmt.Println(tasks[i].ID, "was enqueued before")
		case errors.As(outcome.Err, &uncertain), errors.Is(outcome.Err, client.ErrNotSent):
			fmt.Println(tasks[i].ID, "should be enqueued again")
		default:
			fmt.Println(outcome.Err)
		}
	}
	// Output:
	// many-ada is enqueued
	// many-alan is enqueued
	// many-ada was enqueued before
}

// See what happens to a task while waiting for its result.
func ExampleClient_Wait() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.New(startedRedis(), client.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	task, err := c.Enqueue(ctx, client.Task{
		Queue: "inference_default", Type: "flaky", Payload: json.RawMessage("null"), ID: "print", DiscardOldResult: true,
	})
	if err != nil {
		panic(err)
	}
	result, err := c.Wait(ctx, task.Queue, task.ID, client.WaitOptions{
		OnRetry: func(r client.Retry) {
			reason, _, _ := strings.Cut(r.Reason, "\n") // a traceback follows
			fmt.Printf("attempt %d failed: %s\n", r.Retried, reason)
		},
		OnProgress: func(p client.Progress) {
			fmt.Printf("%.0f %% %s\n", 100*p.Fraction, p.Message)
		},
	})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s\n", result)
	// Output:
	// attempt 1 failed: Retry: no paper yet
	// "printed"
}

// A task that has failed for good is a *FailedError with the error of its last attempt.
func ExampleFailedError() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.New(startedRedis(), client.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	task, err := c.Enqueue(ctx, client.Task{
		Queue: "inference_default", Type: "fail", Payload: json.RawMessage("null"), ID: "jammed", MaxRetry: new(0),
	})
	if err != nil {
		panic(err)
	}
	_, err = c.Wait(ctx, task.Queue, task.ID, client.WaitOptions{})
	var failed *client.FailedError
	switch {
	case errors.As(err, &failed):
		reason, _, _ := strings.Cut(failed.Reason, "\n") // a traceback follows
		fmt.Printf("task %s failed: %s\n", failed.ID, reason)
	case errors.Is(err, client.ErrNoResult):
		fmt.Println("the task was deleted")
	case errors.Is(err, context.DeadlineExceeded):
		fmt.Println("it still runs")
	}
	// Output: task jammed failed: ValueError: no paper
}

// List the workers, each asked at this moment how it is.
func ExampleClient_Workers() {
	ctx := context.Background()
	c, err := client.New(startedRedis(), client.Options{PingTimeout: time.Second})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	workers, err := c.Workers(ctx)
	if err != nil {
		panic(err)
	}
	for _, w := range workers {
		switch w.State {
		case client.Free:
			fmt.Println(w.ID, "is free and serves", w.Queues)
		case client.Busy:
			fmt.Println(w.ID, "is", w.Status, "with", len(w.ActiveTasks), "of", w.Concurrency, "tasks:", w.Reason)
		case client.Dead:
			fmt.Println(w.ID, "is dead:", w.Cause, w.Reason)
		}
	}
	// Output: worker-1 is free and serves [inference_default]
}

// Take a free worker off the channel and give it a task.
func ExampleDispatcher() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.New(startedRedis(), client.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	dispatcher := c.NewDispatcher(client.DispatcherOptions{})
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- dispatcher.Run(running) }()

	select {
	case worker := <-dispatcher.Free():
		task, err := dispatcher.Assign(ctx, worker.ID, client.Task{
			Queue: "inference_default", Type: "greet", Payload: json.RawMessage(`{"name": "Ada"}`),
		})
		if err != nil {
			panic(err)
		}
		result, err := c.Wait(ctx, task.Queue, task.ID, client.WaitOptions{})
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s: %s\n", worker.ID, result)
	case <-ctx.Done():
		panic("no worker is free")
	}

	stop() // Run ends with its context, before the client is closed
	if err := <-done; err != nil {
		panic(err)
	}
	// Output: worker-1: "Hello, Ada"
}

// Give a task to one worker by its ID. That needs no Run.
func ExampleDispatcher_Assign() {
	ctx := context.Background()
	c, err := client.New(startedRedis(), client.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	dispatcher := c.NewDispatcher(client.DispatcherOptions{})

	for _, id := range []string{"worker-1", "worker-2"} {
		_, err := dispatcher.Assign(ctx, id, client.Task{
			Queue: "inference_default", Type: "greet", Payload: json.RawMessage(`{"name": "Ada"}`),
		})
		var unavailable *client.UnavailableError
		switch {
		case err == nil:
			fmt.Println(id, "has the task")
		case errors.As(err, &unavailable):
			fmt.Println(id, "takes no tasks:", unavailable.Why)
		case errors.Is(err, client.ErrNoWorker):
			fmt.Println(id, "is not registered")
		default:
			panic(err)
		}
	}
	// Output:
	// worker-1 has the task
	// worker-2 is not registered
}

// Give a task to any free worker, and wait for one.
func ExampleDispatcher_AssignAny() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.New(startedRedis(), client.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	dispatcher := c.NewDispatcher(client.DispatcherOptions{Interval: time.Second})
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- dispatcher.Run(running) }()
	task, workerID, err := dispatcher.AssignAny(ctx, client.Task{
		Queue: "inference_default", Type: "greet", Payload: json.RawMessage(`{"name": "Alan"}`),
	})
	if err != nil {
		panic(err)
	}
	fmt.Println("assigned to", workerID, "and", task.State)
	stop()
	if err := <-done; err != nil {
		panic(err)
	}
	// Output: assigned to worker-1 and pending
}
