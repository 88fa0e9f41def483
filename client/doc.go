// Package client is the Go API of runqy: it puts tasks on queues, waits for their results, lists the workers with their
// state, and gives tasks to chosen workers.
//
// A complete program, which is examples/hello_client. It needs a Redis and a worker of the queue inference_default that
// runs examples/hello.py:
//
//	package main
//
//	import (
//		"context"
//		"encoding/json"
//		"fmt"
//		"os"
//		"time"
//
//		"github.com/runqy/runqy-worker/client"
//	)
//
//	func main() {
//		if err := hello(); err != nil {
//			fmt.Fprintln(os.Stderr, err)
//			os.Exit(1)
//		}
//	}
//
//	func hello() error {
//		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
//		defer cancel()
//		c, err := client.New("redis://localhost:6379/0", client.Options{})
//		if err != nil {
//			return err
//		}
//		defer c.Close()
//		task, err := c.Enqueue(ctx, client.Task{
//			Queue: "inference_default", Type: "hello", Payload: json.RawMessage(`{"name": "Ada"}`),
//		})
//		if err != nil {
//			return err
//		}
//		result, err := c.Wait(ctx, task.Queue, task.ID, client.WaitOptions{})
//		if err != nil {
//			return err
//		}
//		fmt.Printf("%s\n", result)
//		return nil
//	}
//
// # Tasks
//
// [Client.Enqueue] puts one [Task] on its queue and [Client.EnqueueMany] many, in order and in few round trips. A task
// is delivered at least once: it runs again when its worker vanishes, so a handler must bear that. An enqueue call that
// fails half-way may have put the task there. A task with an ID of its own can be enqueued again: [ErrTaskExists] then
// says that the first attempt succeeded. If that task has run and is gone already, it runs again.
//
// [Client.Wait] blocks until a task has a result. The functions of [WaitOptions] are told when the task is retried,
// reports progress or waits for a worker for long.
//
// # Workers
//
// [Client.Workers] lists the registered workers. Each is asked over HTTP how it is, all at the same time, unless
// [Options].HeartbeatsOnly is set. A worker is [Free], [Busy] or [Dead]; a dead one has a [Cause].
//
// # Dispatching
//
// Usually workers take tasks from the queue, and no dispatcher is needed. A [Dispatcher] chooses the worker instead:
// [Dispatcher.Free] is a channel of free workers, and [Dispatcher.Assign] gives a task to one of them. The worker is
// asked again at that moment: one that is dead, degraded or draining is refused with an [*UnavailableError]. A task
// whose worker dies or degrades before it has taken the task goes back to the queue.
//
// # Concurrency and lifetime
//
// A [Client] and a [Dispatcher] are safe for concurrent use. Every call that talks to Redis or to a worker blocks until
// it has an answer or its context ends; none of them starts a goroutine that is left when it returns, but for the
// connections that a Client keeps. Call [Client.Close] when all calls have returned.
package client
