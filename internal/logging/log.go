package logging

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/runqy/runqy-worker/internal/wakeup"
)

const (
	// maxQueued is how many bytes of lines may wait for the destination; as many may be with it.
	maxQueued = 1 << 20
	// reserved is for warnings, errors and what [Log.Write] gets alone: a flood of other lines does not drop those.
	reserved = 256 << 10
	// againAfter is the pause after a destination that another process has made non-blocking has taken nothing.
	againAfter = 10 * time.Millisecond
)

// Format makes the handler that writes lines in one format. It is called for several writers; each gets one Write for a
// line.
type Format func(w io.Writer) slog.Handler

// Log is a queue of lines and the goroutine that writes them. Nothing but [Log.Close] waits for the destination. All
// methods may be called from any goroutine.
type Log struct {
	target io.Writer
	format Format

	dropped atomic.Int64
	wake    wakeup.Signal // of run
	abandon chan struct{} // closed when nobody waits for run any more
	ended   chan struct{} // closed when run has returned
	closing sync.Once
	torn    bool // the last line that was written is not whole; of run alone

	mu     sync.Mutex // guards the rest
	queued []byte     // whole lines
	gap    int        // how many lines were dropped since queued was last taken; they would stand behind it
	closed bool
}

// Start returns a log of which the goroutine runs. [Log.Close] ends it.
func Start(target io.Writer, format Format) *Log {
	l := &Log{
		target: target, format: format, wake: wakeup.New(),
		abandon: make(chan struct{}), ended: make(chan struct{}),
	}
	go l.run() // Close waits for it
	return l
}

// Handler returns a handler of this log. Its Handle never waits for the destination, and a line that is dropped is mostly
// not even formatted.
func (l *Log) Handler() slog.Handler {
	return handler{
		log:      l,
		ordinary: l.format(entry{log: l, limit: maxQueued}),
		urgent:   l.format(entry{log: l, limit: maxQueued + reserved}),
	}
}

// Write queues p, which should be whole lines, and counts it as one if it must be dropped. The error is always nil.
func (l *Log) Write(p []byte) (int, error) {
	l.put(p, maxQueued+reserved)
	return len(p), nil
}

// Dropped returns how many lines were lost, ever: the queue was full, the destination failed, or the log was closed.
func (l *Log) Dropped() int64 { return l.dropped.Load() }

// Close has what is queued written, and drops what comes later. It waits for that no longer than timeout; then a write
// under way is left alone, and ends with the process.
func (l *Log) Close(timeout time.Duration) {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.wake.Wake()
	expired := time.NewTimer(timeout)
	defer expired.Stop()
	select {
	case <-l.ended:
	case <-expired.C:
	}
	l.closing.Do(func() { close(l.abandon) })
}

// put queues a line unless the queue would then hold more than limit bytes. After one was dropped no more ordinary lines
// follow until the queue is taken, so that there is one gap, and the notice stands in it.
func (l *Log) put(line []byte, limit int) {
	l.mu.Lock()
	fits := !l.closed && len(l.queued)+len(line) <= limit && (l.gap == 0 || limit > maxQueued)
	if fits {
		l.queued = append(l.queued, line...)
	} else {
		l.gap++
	}
	l.mu.Unlock()
	if !fits {
		l.dropped.Add(1)
	}
	l.wake.Wake() // also for a line that does not fit into an empty queue: it leaves a gap that must be closed
}

// skip counts an ordinary line as dropped, and reports true, if it would be.
func (l *Log) skip() bool {
	l.mu.Lock()
	full := l.gap > 0 || l.closed
	if full {
		l.gap++
	}
	l.mu.Unlock()
	if full {
		l.dropped.Add(1)
	}
	return full
}

// take returns what is queued and the number of lines that are missing behind it, and queues into spare from now on.
func (l *Log) take(spare []byte) (queued []byte, gap int, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	queued, gap, closed = l.queued, l.gap, l.closed
	l.queued, l.gap = spare[:0], 0
	return queued, gap, closed
}

// run writes until Close.
func (l *Log) run() {
	defer close(l.ended)
	var batch []byte
	missing := 0
	for range l.wake.C() {
		var gap int
		var closed bool
		batch, gap, closed = l.take(batch)
		lost := l.write(batch)
		l.dropped.Add(int64(lost))
		missing += lost + gap
		if missing > 0 && l.write(l.notice(missing)) == 0 {
			missing = 0
		}
		if closed {
			return
		}
	}
}

// write writes whole lines and returns how many of them the destination did not take.
func (l *Log) write(lines []byte) (lost int) {
	if l.torn && len(lines) > 0 {
		_, err := l.target.Write([]byte("\n"))
		l.torn = err != nil
	}
	for len(lines) > 0 {
		n, err := l.target.Write(lines)
		if err == nil {
			l.torn = false
			return 0
		}
		if n > 0 {
			l.torn = lines[n-1] != '\n'
			lines = lines[n:]
		}
		if !errors.Is(err, syscall.EAGAIN) || !l.pause() {
			return bytes.Count(lines, []byte("\n"))
		}
	}
	return 0
}

// pause waits before another try; false: nobody waits for it any more.
func (l *Log) pause() bool {
	timer := time.NewTimer(againAfter)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.abandon:
		return false
	}
}

// notice is the line that says how many are missing.
func (l *Log) notice(missing int) []byte {
	var line bytes.Buffer
	log := slog.New(l.format(&line))
	log.Warn("log lines dropped", "component", "log", "lines", missing)
	return line.Bytes()
}
