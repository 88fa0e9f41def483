package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/client"
	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/status"
)

// servingTimeout bounds how long a command asks Redis for a queue's workers while it waits for a result.
const servingTimeout = 5 * time.Second

// printUnserved prints on standard error why no worker takes tasks of a queue, and reports whether it did. It prints
// nothing when a worker does, or when Redis cannot be asked: the wait that goes on reports that by itself.
func (a *app) printUnserved(ctx context.Context, rdb redis.UniversalClient, queue string) bool {
	ctx, cancel := context.WithTimeout(ctx, servingTimeout)
	defer cancel()
	workers, err := heartbeat.List(ctx, rdb)
	if err != nil {
		return false
	}
	text := whyUnserved(workers, queue)
	if text != "" {
		fmt.Fprintln(a.errOut, text)
	}
	return text != ""
}

// printPaused prints on standard error that the queue is paused. It prints nothing when Redis cannot be asked.
func (a *app) printPaused(ctx context.Context, c *client.Client, queue string) {
	ctx, cancel := context.WithTimeout(ctx, servingTimeout)
	defer cancel()
	if paused, err := c.Paused(ctx, queue); err == nil && paused {
		fmt.Fprintf(a.errOut, "queue %s is paused: Resume on the dashboard, or 'asynq queue unpause %s', lets it go on\n", queue, queue)
	}
}

// whyUnserved returns why no worker takes tasks of the queue; empty when one does.
func whyUnserved(workers []heartbeat.Worker, queue string) string {
	var serving []heartbeat.Worker
	degraded := false
	for _, w := range workers {
		if !w.Alive || !slices.Contains(w.Beat.Queues, queue) {
			continue
		}
		if w.Beat.Healthy && w.Beat.Status == status.Running {
			return ""
		}
		degraded = degraded || w.Beat.Status == status.Degraded
		serving = append(serving, w)
	}
	switch len(serving) {
	case 0:
		return fmt.Sprintf("no live worker serves queue %s (see 'runqy-worker workers')", queue)
	case 1:
		w := serving[0]
		text := fmt.Sprintf("the only worker of queue %s, %s, takes no tasks now (%s)", queue, w.ID, condition(w.Beat))
		if degraded {
			text += fmt.Sprintf("; 'runqy-worker restart %s' brings it back", w.ID)
		}
		return text
	}
	text := fmt.Sprintf("none of the %d workers of queue %s takes tasks now (see 'runqy-worker workers')", len(serving), queue)
	if degraded {
		text += "; 'runqy-worker restart --degraded' brings back those that are degraded"
	}
	return text
}

// condition is a worker's status with the first line of its reason.
func condition(b heartbeat.Beat) string {
	text := string(b.Status)
	if !b.Healthy && b.Status == status.Running {
		text = "unhealthy"
	}
	if reason := strings.TrimRight(strings.TrimSpace(b.Reason.Summary), ".:"); reason != "" {
		text += ": " + reason
	}
	return text
}
