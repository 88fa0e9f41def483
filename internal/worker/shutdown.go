package worker

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// A worker ends within worker.shutdown_timeout and python.stop_timeout, which the tasks, the process and the last outcomes
// share, and two seconds more. The first of these two are for what follows: at closeAfter the clients of Redis are closed,
// so that what waits for a Redis that does not answer goes on, and every part is told to end; at giveUpAfter nobody waits
// any more. The rest is for the log.
const (
	closeAfter  = 250 * time.Millisecond
	giveUpAfter = 750 * time.Millisecond
	// maxShutdown is how much longer than the two timeouts a shutdown may take.
	maxShutdown = 2 * time.Second
)

// supervisorPart is the part that has the Python process.
const supervisorPart = "supervisor"

// parts are the goroutines of a worker. They have names, so that the log can say which of them does not end.
type parts struct {
	group sync.WaitGroup

	mu      sync.Mutex // guards running
	running map[string]bool
}

func newParts() *parts { return &parts{running: make(map[string]bool)} }

// start runs f on a goroutine of its own.
func (p *parts) start(name string, f func()) {
	p.mu.Lock()
	p.running[name] = true
	p.mu.Unlock()
	p.group.Go(func() {
		f()
		p.mu.Lock()
		delete(p.running, name)
		p.mu.Unlock()
	})
}

// wait returns when all have ended.
func (p *parts) wait() { p.group.Wait() }

// left returns the names of those that run.
func (p *parts) left() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.running))
}

// shutdown waits for the end of what works until working is over, and bounds how long it may take from then on.
type shutdown struct {
	limit time.Duration // what the parts may take by themselves
	close func()        // frees what waits for others, and tells every part to end; it may be called while they run
	parts *parts
	log   *slog.Logger
}

// await returns what comes from ended. Past the limit it returns without: an error, if the Python process is left, which
// only its guardian can end then, and else what ended working; the log names the parts that are left.
func (s shutdown) await(ctx, working context.Context, ended <-chan error) error {
	select {
	case err := <-ended:
		return err
	case <-working.Done():
	}
	closing := time.AfterFunc(s.limit+closeAfter, s.close)
	defer closing.Stop()
	overdue := time.NewTimer(s.limit + giveUpAfter)
	defer overdue.Stop()
	select {
	case err := <-ended:
		return err
	case <-overdue.C:
	}
	left := s.parts.left()
	if slices.Contains(left, supervisorPart) {
		return fmt.Errorf("the Python process has not ended within %v of the stop; still running: %s", s.limit, strings.Join(left, ", "))
	}
	s.log.Warn("shutdown incomplete", "parts", left)
	return runError(ctx, working, nil)
}
