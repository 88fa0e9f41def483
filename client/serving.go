package client

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/queue"
)

// maxNamed is how many queues a text names.
const maxNamed = 5

// Unserved says why no worker takes the tasks of a queue, in one line; it is empty when one does, or a plain asynq
// server. A task that is enqueued waits either way: ask afterwards, to find a name with a typo. It goes by the workers'
// heartbeats and asks none of them, so it blocks for two round trips to Redis, or four; an error is Redis'. What workers
// write about themselves is in the text as it is.
func (c *Client) Unserved(ctx context.Context, queueName string) (string, error) {
	workers, err := heartbeat.List(ctx, c.redis)
	if err != nil {
		return "", fmt.Errorf("ask who serves queue %s: %w", queueName, err)
	}
	text := whyUnserved(workers, queueName)
	if text == "" {
		return "", nil
	}
	servers, err := queue.AsynqServers(ctx, c.redis)
	switch {
	case err != nil:
		return "", fmt.Errorf("ask who serves queue %s: %w", queueName, err)
	case servers[queueName] > 0:
		return "", nil
	}
	return text, nil
}

// whyUnserved returns why no worker takes tasks of the queue; empty when one does.
func whyUnserved(workers []heartbeat.Worker, queueName string) string {
	var serving []heartbeat.Worker
	degraded := false
	others := make(map[string]bool)
	for _, w := range workers {
		if !w.Alive {
			continue
		}
		if !slices.Contains(w.Beat.Queues, queueName) {
			for _, q := range w.Beat.Queues {
				others[q] = true
			}
			continue
		}
		if w.Beat.Healthy && (w.Beat.Status == status.Running || w.Beat.Status == status.Restarting) {
			return ""
		}
		degraded = degraded || w.Beat.Status == status.Degraded
		serving = append(serving, w)
	}
	switch len(serving) {
	case 0:
		return fmt.Sprintf("no live worker serves queue %s (see 'runqy-worker workers')%s", queueName, served(others))
	case 1:
		w := serving[0]
		text := fmt.Sprintf("the only worker of queue %s, %s, takes no tasks now (%s)", queueName, w.ID, condition(w.Beat))
		if degraded {
			text += fmt.Sprintf("; 'runqy-worker restart %s' brings it back", w.ID)
		}
		return text
	}
	text := fmt.Sprintf("none of the %d workers of queue %s takes tasks now (see 'runqy-worker workers')", len(serving), queueName)
	if degraded {
		text += "; 'runqy-worker restart --degraded' brings back those that are degraded"
	}
	return text
}

// served names the queues that workers do serve: one of them may be meant.
func served(queues map[string]bool) string {
	names := slices.Sorted(maps.Keys(queues))
	switch n := len(names); {
	case n == 0:
		return ""
	case n > maxNamed:
		return fmt.Sprintf("; they serve %s and %d more", strings.Join(names[:maxNamed], ", "), n-maxNamed)
	}
	return "; they serve " + strings.Join(names, ", ")
}

// condition is a worker's status with the first line of its reason.
func condition(b heartbeat.Beat) string {
	text := string(b.Status)
	if !b.Healthy && b.Status == status.Running {
		text = "unhealthy"
	}
	if reason := strings.TrimRight(strings.TrimSpace(b.Reason.String()), ".:"); reason != "" {
		text += ": " + reason
	}
	return text
}
