// Program hello_client enqueues a task for examples/hello.py and prints its result.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/runqy/runqy-worker/client"
)

func main() {
	if err := hello(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func hello() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.New("redis://localhost:6379/0", client.Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	task, err := c.Enqueue(ctx, client.Task{
		Queue: "inference_default", Type: "hello", Payload: json.RawMessage(`{"name": "Ada"}`),
	})
	if err != nil {
		return err
	}
	result, err := c.Wait(ctx, task.Queue, task.ID, client.WaitOptions{})
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", result)
	return nil
}
