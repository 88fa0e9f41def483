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

// stopSpare is what a stop may take beyond the two timeouts: the death of a process that hangs in the kernel, and the
// last words with Redis.
const stopSpare = 20 * time.Second

func (w *Worker) newNotifier() (*systemd.Notifier, error) {
	n, err := systemd.NewNotifier(systemd.Options{
		State:   w.serviceState,
		Changed: w.monitor.Changed,
		// What /livez says: a degraded worker lives, and a restart by the watchdog would mend nothing.
		Live:        health.Sources{LoopTick: w.loopTick}.Live,
		StopTimeout: w.cfg.Worker.ShutdownTimeout + 2*w.cfg.Python.StopTimeout + stopSpare,
		Logger:      w.log,
	})
	if err != nil {
		return nil, fmt.Errorf("tell the service manager: %w", err)
	}
	return n, nil
}

// serviceState says that the start is over as soon as it is known how it went, well or not: the first Python process is
// ready, or has failed, or Redis does not let the worker begin. To hold a worker back that is not well would have the
// service manager kill it when its patience ends, and begin anew without end.
func (w *Worker) serviceState() systemd.State {
	r := w.report()
	return systemd.State{
		Starting: r.Status == status.Starting && !w.monitor.held(),
		Stopping: r.Status == status.Draining,
		Text:     serviceText(r, queue.ByPriority(w.cfg.Worker.Queues)),
	}
}

// serviceText is a report in one sentence or a few.
func serviceText(r health.Report, queues []string) string {
	reasons := reasonText(r)
	switch {
	case r.Status == status.Draining:
		return "Draining: takes no more tasks, and ends when those that run are done."
	case r.Ready():
		return "Running: takes the tasks of " + strings.Join(queues, ", ") + "."
	case r.Status == status.Running:
		return "Running, but takes no tasks: " + reasons
	case reasons == "": // in the middle of a planned replacement
		return capital(string(r.Status)) + "."
	}
	return capital(string(r.Status)) + ": " + reasons
}

// reasonText is every reason with what the process wrote last: only this machine's service manager reads it.
func reasonText(r health.Report) string {
	texts := make([]string, len(r.Reasons))
	for i, reason := range r.Reasons {
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

// checkerStop is how long the checker alone takes to stop at most.
const checkerStop = 15 * time.Second

func (c *Checker) newNotifier() (*systemd.Notifier, error) {
	n, err := systemd.NewNotifier(systemd.Options{
		State: func() systemd.State {
			r := c.report()
			if r.Healthy {
				return systemd.State{Text: "Running: takes part in the role of the fleet's checker."}
			}
			return systemd.State{Text: "Running, but checks nothing: " + reasonText(r)}
		},
		Changed:     c.health.Changed,
		Live:        func() (bool, string) { return true, "" },
		StopTimeout: checkerStop,
		Logger:      c.log,
	})
	if err != nil {
		return nil, fmt.Errorf("tell the service manager: %w", err)
	}
	return n, nil
}
