// Package control is how operators talk to one worker: commands on a Redis channel of its own, the outcome in its
// heartbeat.
package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/status"
)

// Restart is the message that asks a worker to restart its Python process.
const Restart = "restart"

// assigned begins the message that tells a worker that a task was assigned to it; the queue's name follows.
const assigned = "assigned "

// Channel returns the channel on which a worker takes commands.
func Channel(workerID string) string { return "runqy:control:" + workerID }

var (
	// ErrUnknown says that no worker with this id beats.
	ErrUnknown = errors.New("no such worker")
	// ErrNobodyListens says that the worker beats but takes no commands: it is starting, or cut off from Redis.
	ErrNobodyListens = errors.New("nobody listens")
	// ErrFailed says that the worker tried, and its Python process did not become ready.
	ErrFailed = errors.New("the restart failed")
)

// pollEvery is how often the heartbeat is read while waiting. It is written within 100 ms of a change.
const pollEvery = 100 * time.Millisecond

// AnnounceAssigned tells a worker that its list of tasks in a queue has got one, so that it need not wait until it looks
// there by itself, which it does every two seconds. Nobody may listen.
func AnnounceAssigned(ctx context.Context, client redis.UniversalClient, workerID, queue string) error {
	if err := client.Publish(ctx, Channel(workerID), assigned+queue).Err(); err != nil {
		return fmt.Errorf("publish on %s: %w", Channel(workerID), err)
	}
	return nil
}

// AssignedQueue returns the queue that a message of [AnnounceAssigned] names; false for any other message.
func AssignedQueue(message string) (queue string, ok bool) {
	return strings.CutPrefix(message, assigned)
}

// RestartProcess asks one worker to restart its Python process and waits until its heartbeat shows the outcome: the new
// process' pid, or an error wrapping ErrUnknown, ErrNobodyListens or ErrFailed, or ctx's.
func RestartProcess(ctx context.Context, client redis.UniversalClient, workerID string) (pid int, err error) {
	before, err := read(ctx, client, workerID)
	if err != nil {
		return 0, err
	}
	listeners, err := client.Publish(ctx, Channel(workerID), Restart).Result()
	if err != nil {
		return 0, fmt.Errorf("publish on %s: %w", Channel(workerID), err)
	}
	// Redis Cluster counts the listeners of one node only, so there a zero says nothing.
	if _, cluster := client.(*redis.ClusterClient); listeners == 0 && !cluster {
		return 0, fmt.Errorf("worker %s: %w on %s (status %s): it has not finished starting, or is cut off from Redis",
			workerID, ErrNobodyListens, Channel(workerID), before.Status)
	}
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for silent := ""; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for worker %s%s: %w", workerID, silent, context.Cause(ctx))
		}
		now, err := read(ctx, client, workerID)
		if errors.Is(err, ErrUnknown) { // it was told, and may not be able to write how that ended
			silent = ", which writes no heartbeat any more, so that the outcome is not known"
			continue
		}
		if err != nil {
			return 0, err
		}
		silent = ""
		switch {
		case now.Nonce != before.Nonce:
			return 0, fmt.Errorf("worker %s: %w: the worker itself was replaced meanwhile", workerID, ErrFailed)
		case now.Status == status.Running && now.PythonPID != 0 && now.PythonPID != before.PythonPID:
			if !now.Healthy {
				return 0, fmt.Errorf("worker %s: %w: the Python process runs again (pid %d), and the worker is not healthy: %s",
					workerID, ErrFailed, now.PythonPID, now.Reason.Text())
			}
			return now.PythonPID, nil
		case now.Status == status.Degraded && now.Crashes > before.Crashes:
			return 0, fmt.Errorf("worker %s: %w: %s", workerID, ErrFailed, now.Reason.Text())
		case now.Status == status.Draining:
			return 0, fmt.Errorf("worker %s: %w: it is draining", workerID, ErrFailed)
		}
	}
}

func read(ctx context.Context, client redis.UniversalClient, workerID string) (heartbeat.Beat, error) {
	hash, err := client.HGetAll(ctx, heartbeat.Key(workerID)).Result()
	if err != nil {
		return heartbeat.Beat{}, fmt.Errorf("read the heartbeat of worker %s: %w", workerID, err)
	}
	if len(hash) == 0 {
		return heartbeat.Beat{}, fmt.Errorf("%w: %s (see 'runqy-worker workers')", ErrUnknown, workerID)
	}
	beat, err := heartbeat.ParseBeat(hash)
	if err != nil {
		return heartbeat.Beat{}, fmt.Errorf("read the heartbeat of worker %s: %w", workerID, err)
	}
	return beat, nil
}
