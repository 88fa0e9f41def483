package main

import (
	"context"
	"fmt"
	"time"

	"github.com/runqy/runqy-worker/client"
	"github.com/runqy/runqy-worker/internal/listing"
)

// servingTimeout bounds how long a command asks Redis for a queue's workers.
const servingTimeout = 5 * time.Second

// printUnserved prints on standard error why no worker takes tasks of a queue, and reports whether it did. It prints
// nothing when a worker does, or when Redis cannot be asked: the task is enqueued, and a wait that goes on reports that
// by itself.
func (a *app) printUnserved(ctx context.Context, c *client.Client, queue string) bool {
	ctx, cancel := context.WithTimeout(ctx, servingTimeout)
	defer cancel()
	text, err := c.Unserved(ctx, queue)
	if err != nil || text == "" {
		return false
	}
	fmt.Fprintln(a.errOut, listing.Clean("warning: "+text))
	return true
}

// printPaused prints on standard error that the queue is paused. It prints nothing when Redis cannot be asked.
func (a *app) printPaused(ctx context.Context, c *client.Client, queue string) {
	ctx, cancel := context.WithTimeout(ctx, servingTimeout)
	defer cancel()
	if paused, err := c.Paused(ctx, queue); err == nil && paused {
		fmt.Fprintf(a.errOut, "queue %s is paused: Resume on the dashboard, or 'asynq queue unpause %s', lets it go on\n", queue, queue)
	}
}
