package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/control"
)

// runCommands carries out the commands that operators publish, until ctx is over. go-redis subscribes again by itself
// when the connection breaks. A command that was published meanwhile is lost, and its sender has seen that nobody
// received it.
func (w *Worker) runCommands(ctx context.Context) error {
	sub := w.client.Subscribe(ctx, control.Channel(w.cfg.Worker.ID))
	defer func() { _ = sub.Close() }()
	messages := sub.Channel()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m, open := <-messages:
			if !open {
				return fmt.Errorf("the subscription to %s ended", control.Channel(w.cfg.Worker.ID))
			}
			w.obey(ctx, m)
		}
	}
}

// obey carries out one message.
func (w *Worker) obey(ctx context.Context, m *redis.Message) {
	if _, ok := control.AssignedQueue(m.Payload); ok {
		return // the watcher of the worker's list has seen the task already
	}
	if m.Payload != control.Restart {
		w.log.Warn("unknown command ignored", "channel", m.Channel, "command", fmt.Sprintf("%.40q", m.Payload))
		return
	}
	w.restartOnCommand(ctx)
}

// restartTimeout bounds a restart that an operator has requested: the old process's end, the new one's start, and a
// margin.
func (w *Worker) restartTimeout() time.Duration {
	return w.cfg.Python.StopTimeout + w.cfg.Python.StartupTimeout + 10*time.Second
}

// restartOnCommand restarts the process and logs the outcome, which the heartbeat shows too.
func (w *Worker) restartOnCommand(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, w.restartTimeout())
	defer cancel()
	if err := w.RestartProcess(ctx); err != nil {
		w.log.Error("restart failed", "error", err)
		return
	}
	w.log.Info("python process restarted", "python_pid", w.supervisor.Snapshot().PID)
}
