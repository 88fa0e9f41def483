package worker

import (
	"fmt"

	"github.com/runqy/runqy-worker/internal/status"
)

// This file decides whether the worker is FREE or BUSY.

// busyReason says why a task would not begin here now; empty when it would. free is what the consumer says of that,
// active the number of its tasks, concurrency the number of its slots.
func busyReason(h status.Health, free bool, active, concurrency int) string {
	switch {
	case !h.Healthy && len(h.Reasons) > 0:
		return h.Reason().String() // the first line: everybody may ping
	case !h.Ready() && h.Awaits.Summary != "":
		return fmt.Sprintf("The worker is %s: %s.", h.Status, h.Awaits)
	case !h.Ready():
		return fmt.Sprintf("The worker is %s.", h.Status)
	case free:
		return ""
	case active >= concurrency:
		return fmt.Sprintf("All slots are taken (%d of %d).", active, concurrency)
	case active > 0:
		return "A task is running, and another one would wait for it."
	}
	return "The Python process takes no tasks at this moment."
}

// state is BUSY while there is a reason for it, and FREE else.
func state(busyReason string) status.State {
	if busyReason != "" {
		return status.Busy
	}
	return status.Free
}
