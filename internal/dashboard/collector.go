package dashboard

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/internal/broadcast"
	"github.com/runqy/runqy-worker/internal/wakeup"
)

const (
	// readTimeout bounds how long the page waits for Redis.
	readTimeout = 2 * time.Second
	// watchedEvery is the time between two readings while the page is open somewhere.
	watchedEvery = time.Second
	// unwatchedEvery is that time while no page is open and only the history needs it: rarely, since a fleet has many
	// workers whose pages are closed.
	unwatchedEvery = heldSlots * historyStep
	// watchedFor is how long a page that was asked for counts as looked at; a stream counts while it lasts.
	watchedFor = 10 * time.Second

	maxFailures = 20
)

// reading is what was read from Redis last. What could not be read again keeps its last value, with the reason why.
type reading struct {
	at                               time.Time // when it was begun; zero: nothing has been read yet
	queues                           []Queue
	failures                         []Failure
	fleet                            []Worker
	system                           System
	queuesErr, failuresErr, fleetErr string
	systemErr                        string
	queuesAt, failuresAt, fleetAt    time.Time // of the last that succeeded; zero: none has
	systemAt                         time.Time
	fleetRead                        time.Time // when the registry was read for the fleet, which is earlier than fleetAt
}

// collector reads from Redis in the background, so that a Redis that hangs never keeps the page from saying so.
type collector struct {
	src  Sources
	hist *history

	due   wakeup.Signal      // a reading is wanted now
	ended broadcast.Notifier // a reading has ended

	mu      sync.Mutex // guards the rest
	last    reading
	streams int       // that are open
	wanted  time.Time // when a page was asked for last
}

func newCollector(src Sources, hist *history) *collector {
	return &collector{src: src, hist: hist, due: wakeup.New()}
}

// run reads until ctx is over: often while a page is open, else the queues alone and only for the history.
func (c *collector) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-c.due.C():
		case <-ctx.Done():
			return
		}
		c.collect(ctx)
		if c.watched() {
			timer.Reset(watchedEvery)
		} else {
			timer.Reset(unwatchedEvery)
		}
	}
}

func (c *collector) watched() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams > 0 || time.Since(c.wanted) < watchedFor
}

// watch counts a stream until the function that it returns is called, and has the first one read at once.
func (c *collector) watch() (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams++; c.streams == 1 {
		c.due.Wake()
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.streams--
	}
}

// latest returns what was read last.
func (c *collector) latest() reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// fresh returns a reading that is not older than two seconds, or the last one when Redis takes too long.
func (c *collector) fresh(ctx context.Context) reading {
	c.mu.Lock()
	complete := time.Since(c.wanted) < watchedFor || c.streams > 0 // else only the queues were read
	c.wanted = time.Now()
	last := c.last
	c.mu.Unlock()
	if complete && time.Since(last.at) < 2*watchedEvery {
		return last
	}
	return c.refresh(ctx)
}

// refresh returns a reading that was begun after the call, or the last one when Redis takes too long.
func (c *collector) refresh(ctx context.Context) reading {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	asked, last := time.Now(), reading{}
	for last.at.Before(asked) {
		ended := c.ended.Next()
		c.due.Wake()
		select {
		case <-ended:
			last = c.latest()
		case <-ctx.Done():
			return c.latest()
		}
	}
	return last
}

func (c *collector) collect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	next := c.latest()
	next.at = time.Now()
	var group sync.WaitGroup
	group.Go(func() {
		queues, err := c.src.Queues(ctx)
		if next.queuesErr = errorText(err, noAnswer); err == nil {
			next.queues, next.queuesAt = queues, time.Now()
			c.hist.measured(queues)
		}
	})
	if c.watched() {
		group.Go(func() {
			failures, err := c.src.Failures(ctx, maxFailures)
			if next.failuresErr = errorText(err, noAnswer); err == nil {
				next.failures, next.failuresAt = failures, time.Now()
			}
		})
		group.Go(func() {
			fleet, read, err := c.src.Fleet(ctx)
			if next.fleetErr = errorText(err, "they have not been checked within 2 s"); err == nil {
				next.fleet, next.fleetRead, next.fleetAt = fleet, read, time.Now()
			}
		})
		group.Go(func() {
			system, err := c.src.System(ctx)
			if next.systemErr = errorText(err, noAnswer); err == nil {
				next.system, next.systemAt = system, time.Now()
			}
		})
	}
	group.Wait()
	c.mu.Lock()
	c.last = next
	c.mu.Unlock()
	c.ended.Notify()
}

// noAnswer is the error of a Redis that takes longer than readTimeout.
const noAnswer = "Redis did not answer within 2 s"

// errorText says why something could not be read; the page says what. late is the text for what took longer than
// readTimeout.
func errorText(err error, late string) string {
	switch timeout := net.Error(nil); {
	case err == nil:
		return ""
	case errors.Is(err, context.DeadlineExceeded):
		return late
	case errors.As(err, &timeout) && timeout.Timeout():
		return "Redis did not answer in time"
	}
	return firstLine(strings.TrimPrefix(err.Error(), "read the failed tasks: "))
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(line)
}
