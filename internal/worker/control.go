package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/control"
	"github.com/runqy/runqy-worker/internal/wakeup"
)

// cancelChannel is where asynq publishes the ids of tasks that somebody cancels.
const cancelChannel = "asynq:cancel"

// subscriptionCheck is how often a subscription that brings nothing is asked whether it still stands. A broken connection
// is noticed at once; this is for one that has silently gone.
const subscriptionCheck = 10 * time.Second

// runCommands carries out what is published for this worker, until ctx is over: the commands of operators, what is
// assigned to it, and the cancellations of tasks. go-redis subscribes again by itself when the connection breaks. A
// command that was published meanwhile is lost, and its sender has seen that nobody received it.
func (w *Worker) runCommands(ctx context.Context) error {
	sub := w.client.Subscribe(ctx, control.Channel(w.cfg.Worker.ID), cancelChannel)
	defer func() { _ = sub.Close() }()
	restart := wakeup.New() // a restart takes its time, in which others are cancelled
	var restarting sync.WaitGroup
	defer restarting.Wait()
	restarting.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-restart.C():
				w.restartOnCommand(ctx)
			}
		}
	})
	messages := sub.Channel(redis.WithChannelHealthCheckInterval(subscriptionCheck))
	for {
		select {
		case <-ctx.Done():
			return nil
		case m, open := <-messages:
			if !open {
				return fmt.Errorf("the subscription to %s ended", control.Channel(w.cfg.Worker.ID))
			}
			w.obey(m, restart)
		}
	}
}

// obey carries out one message.
func (w *Worker) obey(m *redis.Message, restart wakeup.Signal) {
	_, assigned := control.AssignedQueue(m.Payload)
	switch {
	case m.Channel == cancelChannel:
		w.consumer.Cancel(m.Payload)
	case assigned:
		w.consumer.Wake()
	case m.Payload == control.Restart:
		restart.Wake()
	default:
		w.log.Warn("unknown command ignored", "channel", m.Channel, "command", fmt.Sprintf("%.40q", m.Payload))
	}
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
