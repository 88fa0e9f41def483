package worker

import (
	"fmt"

	"github.com/runqy/runqy-worker/internal/status"
)

// This file decides whether the worker is FREE or BUSY.

// busyReason says why this worker would not take a task now; empty when it would. active is the number of its tasks in
// flight, concurrency the number of its slots.
func busyReason(h status.Health, active, concurrency int) string {
	switch {
	case !h.Healthy && len(h.Reasons) > 0:
		return h.Reason().String() // the first line: everybody may ping
	case !h.Ready():
		return fmt.Sprintf("The worker is %s.", h.Status)
	case active >= concurrency:
		return fmt.Sprintf("All slots are taken (%d of %d).", active, concurrency)
	}
	return ""
}

// state is BUSY while there is a reason for it, and FREE else.
func state(busyReason string) status.State {
	if busyReason != "" {
		return status.Busy
	}
	return status.Free
}
