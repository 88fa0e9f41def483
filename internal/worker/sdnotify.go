package worker

import (
	"fmt"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/internal/systemd"
	"github.com/runqy/runqy-worker/queue"
)

// This file tells a service manager, by sd_notify, what the probes and the heartbeat tell others.

// stopSpare is how much longer than its own limit the service manager is to wait for the end.
const stopSpare = 3 * time.Second

func (w *Worker) newNotifier() (*systemd.Notifier, error) {
	n, err := systemd.NewNotifier(systemd.Options{
		State:   w.serviceState,
		Changed: w.monitor.Changed,
		// What /livez says: a degraded worker is alive, and a restart by the watchdog would not help it.
		Live:        func() (bool, string) { return health.Live(w.report().Health) },
		StopTimeout: w.cfg.Worker.ShutdownTimeout + w.cfg.Python.StopTimeout + maxShutdown + stopSpare,
		Logger:      w.logger.With("component", "systemd"),
	})
	if err != nil {
		return nil, fmt.Errorf("tell the service manager: %w", err)
	}
	return n, nil
}

// serviceState ends the start as soon as its outcome is known: the first Python process is ready, or has failed, or
// Redis does not let the worker begin. Were the start held back until the worker is healthy, the service manager would
// kill it at the end of its timeout, and start it again without end.
func (w *Worker) serviceState() systemd.State {
	h := w.report().Health
	return systemd.State{
		Starting: h.Status == status.Starting && !w.monitor.held(),
		Stopping: h.Status == status.Draining,
		Text:     serviceText(h, queue.ByPriority(w.cfg.Worker.Queues)),
	}
}

// serviceText is the health in one sentence or a few.
func serviceText(h status.Health, queues []string) string {
	reasons := reasonText(h)
	switch {
	case h.Status == status.Draining:
		return "Draining: takes no more tasks, and ends when those that run are done."
	case h.Ready():
		return "Running: takes the tasks of " + strings.Join(queues, ", ") + "."
	case h.Status == status.Running:
		return "Running, but takes no tasks: " + reasons
	case reasons == "": // in the middle of a planned replacement
		return capital(string(h.Status)) + "."
	}
	return capital(string(h.Status)) + ": " + reasons
}

// reasonText is every reason with the lines of stderr: only this machine's service manager reads it.
func reasonText(h status.Health) string {
	texts := make([]string, len(h.Reasons))
	for i, reason := range h.Reasons {
		texts[i] = reason.Text()
	}
	return strings.Join(texts, " ")
}

// capital begins an ASCII word with a capital letter.
func capital(word string) string {
	if word == "" {
		return ""
	}
	return strings.ToUpper(word[:1]) + word[1:]
}

// checkerStopTimeout bounds how long a CheckerProcess takes to stop.
const checkerStopTimeout = 15 * time.Second

func (c *CheckerProcess) newNotifier() (*systemd.Notifier, error) {
	n, err := systemd.NewNotifier(systemd.Options{
		State: func() systemd.State {
			h := c.reporter.Report().Health
			if h.Healthy {
				return systemd.State{Text: "Running: is a candidate for the fleet's leader."}
			}
			return systemd.State{Text: "Running, but checks nothing: " + reasonText(h)}
		},
		Changed:     c.reporter.Changed,
		Live:        func() (bool, string) { return health.Live(c.reporter.Report().Health) },
		StopTimeout: checkerStopTimeout,
		Logger:      c.logger.With("component", "systemd"),
	})
	if err != nil {
		return nil, fmt.Errorf("tell the service manager: %w", err)
	}
	return n, nil
}
