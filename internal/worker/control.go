package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/runqy/runqy-worker/internal/control"
)

// listen carries out what operators publish, until ctx is over. go-redis subscribes again by itself when the
// connection breaks; what was published meanwhile is lost, and its sender was told that nobody listened.
func (w *Worker) listen(ctx context.Context) error {
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
			if m.Payload != control.Restart {
				w.log.Warn("ignored an unknown command", "channel", m.Channel, "command", fmt.Sprintf("%.40q", m.Payload))
				continue
			}
			w.restartAsked(ctx)
		}
	}
}

// restartLimit is how long a restart that somebody asked for may take: the old process's end, the new one's start, and
// some to spare.
func (w *Worker) restartLimit() time.Duration {
	return w.cfg.Python.StopTimeout + w.cfg.Python.StartupTimeout + 10*time.Second
}

// restartAsked restarts the process and logs the outcome, which is what the heartbeat shows too.
func (w *Worker) restartAsked(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, w.restartLimit())
	defer cancel()
	if err := w.RestartProcess(ctx); err != nil {
		w.log.Error("the restart failed", "error", err)
		return
	}
	w.log.Info("the Python process was restarted", "python_pid", w.supervisor.Snapshot().PID)
}
