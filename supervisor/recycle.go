package supervisor

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/runqy/runqy-worker/supervisor/internal/proc"
)

// memoryInterval is how often memory is checked when no task has finished.
const memoryInterval = 2 * time.Second

// recycling decides whether a process that is larger than allowed is replaced: not where that could not help, and not
// again and again. It belongs to the event loop.
type recycling struct {
	limit     int64
	replaced  breaker // when that happened, within the window
	suspended string  // why a process that is too large is not replaced; empty: it would be

	least    int64     // the smallest size of the present process since it was loaded; 0: unknown
	checked  time.Time // when the size was last looked at
	answered int64     // how many requests were answered by then
}

func newRecycling(o Options) recycling {
	return recycling{limit: o.MaxMemory, replaced: breaker{policy: o.Restart}}
}

// begin takes the size of a process that has just been loaded.
func (r *recycling) begin(pid int) {
	r.checked, r.answered, r.least, r.suspended = time.Now(), 0, 0, ""
	if size, ok := proc.ResidentSize(pid); ok && r.limit > 0 {
		r.least = size
	}
}

// judge takes the size of the process and reports whether it is to be replaced now.
func (r *recycling) judge(size int64, now time.Time) bool {
	if r.least == 0 || size < r.least {
		r.least = size
	}
	switch {
	case size <= r.limit:
		r.suspended = ""
		return false
	case r.least > r.limit:
		r.suspended = fmt.Sprintf("it has %s after loading already, more than max_memory (%s): raise that, or load less",
			mebibytes(r.least), mebibytes(r.limit))
		return false
	case r.replaced.policy.Max > 0 && len(r.replaced.recent(now)) >= r.replaced.policy.Max:
		r.suspended = fmt.Sprintf("it was replaced %d times within %v for exceeding max_memory (%s): raise that, or correct what grows",
			r.replaced.policy.Max, r.replaced.policy.Window, mebibytes(r.limit))
		return false
	}
	r.suspended = ""
	r.replaced.crash(now, 0)
	return true
}

// checkMemory replaces a process that is larger than MaxMemory. It looks every memoryInterval, and soon after a task
// has finished.
func (l *loop) checkMemory(now time.Time) {
	r := &l.recycling
	if r.limit == 0 || l.replacement != nil || l.draining {
		return
	}
	answered := l.child.requests.answered()
	if answered == r.answered && now.Sub(r.checked) < memoryInterval {
		return
	}
	r.answered, r.checked = answered, now
	size, ok := proc.ResidentSize(l.child.pid())
	if !ok {
		return
	}
	was := r.suspended
	switch {
	case r.judge(size, now):
		l.log.Info("replacing python process", slog.String("cause", RestartMaxMemory),
			slog.Int64("resident_bytes", size), slog.Int64("max_memory_bytes", r.limit))
		l.replace(RestartMaxMemory, l.opts.ReplaceTimeout)
	case r.suspended != "" && was == "":
		l.log.Warn("recycling suspended", slog.String("reason", "the process is too large, and is not replaced: "+r.suspended),
			slog.Int64("resident_bytes", size))
	}
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }
