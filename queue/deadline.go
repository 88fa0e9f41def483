package queue

import (
	"math"
	"time"
)

// defaultTimeout is asynq's, for a task without timeout and deadline.
const defaultTimeout = 30 * time.Minute

// effectiveDeadline returns when an attempt that begins now is over, as asynq's server computes it from the stored
// timeout (s) and deadline (unix s), each 0 when it is not set. With both, asynq cuts now to whole seconds and compares
// as floating point; a negative timeout is over before it begins; one that no duration holds wraps around.
func effectiveDeadline(timeout, deadline int64, now time.Time) time.Time {
	switch {
	case timeout == 0 && deadline == 0:
		return now.Add(defaultTimeout)
	case timeout == 0:
		return time.Unix(deadline, 0)
	case deadline == 0:
		return now.Add(time.Duration(timeout) * time.Second)
	}
	return time.Unix(int64(math.Min(float64(now.Unix()+timeout), float64(deadline))), 0)
}
