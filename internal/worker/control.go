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

// restartAsked restarts the process and logs the outcome, which is what the heartbeat shows too.
func (w *Worker) restartAsked(ctx context.Context) {
	limit := w.cfg.Python.StopTimeout + w.cfg.Python.StartupTimeout + 10*time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := w.RestartProcess(ctx); err != nil {
		w.log.Error("the restart failed", "error", err)
		return
	}
	w.log.Info("the Python process was restarted", "python_pid", w.supervisor.Snapshot().PID)
}
