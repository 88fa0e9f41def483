package supervisor

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

// onBroken replaces a process that answers and cannot do its work. That counts as a crash, and is not one: tasks that
// run may end, and what has not begun goes back.
func (l *loop) onBroken(b breakage) {
	if l.ending != nil || l.stopping {
		return
	}
	l.countCrash(b.cause)
	l.log.Warn("replacing python process", slog.String("cause", b.cause), slog.String("reason", b.text))
	if l.replacement == nil {
		l.replacement = &replacement{}
		if !l.draining {
			l.to(StatusRestarting, because("the process is being replaced: "+b.cause))
		}
	}
	r := l.replacement
	r.cause, r.breakage, r.healthy = b.cause, b.text, false
	// What has not begun is asked back at once: it must not wait for what runs.
	if b.cause == CauseBroken {
		for _, id := range l.child.requests.askAllBack() {
			l.child.in.Put(wire.EncodeWithdraw(id))
		}
	} else {
		l.child.askBack(time.Now(), 0)
	}
	limit := l.opts.ReplaceTimeout
	if n := l.child.requests.running(); n == 0 {
		limit = l.opts.StopTimeout // for the answers to what was asked back
	}
	l.awaitRequests(limit)
}

// afterBreakage: a process that could not do its work is gone. Another is started, unless that has happened too often.
func (l *loop) afterBreakage(cause string, evidence status.Reason) {
	l.showCrash(cause, strings.Join(append([]string{evidence.Summary}, evidence.Stderr...), "\n"))
	l.follow(cause, evidence, PolicyRestart)
}

// failuresText says that every task has failed of late. What the last one says stands below the first line: it may hold
// what the task carries.
func failuresText(n int, last string) string {
	if n == 1 {
		return "an attempt failed; it says:\n" + last
	}
	return fmt.Sprintf("%d attempts failed without a success between them; the last says:\n%s", n, last)
}
