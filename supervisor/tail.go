package supervisor

import (
	"context"
	"log/slog"
	"strings"
	"sync"
)

const (
	tailLines   = 20
	tailBytes   = 4 << 10
	tailLineMax = 1 << 10

	logQueueLines = 8192
	logQueueBytes = 4 << 20
)

// tail keeps the last lines of stderr, bounded in number and size.
type tail struct {
	mu    sync.Mutex // guards the rest
	lines []string
	size  int
	added int64 // lines, ever
}

func (t *tail) add(line []byte) {
	if len(line) > tailLineMax {
		line = line[:tailLineMax]
	}
	s := strings.ToValidUTF8(string(line), "\uFFFD")
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, s)
	t.size += len(s)
	t.added++
	for len(t.lines) > tailLines || t.size > tailBytes && len(t.lines) > 1 {
		t.size -= len(t.lines[0])
		t.lines[0] = ""
		t.lines = t.lines[1:]
	}
}

// last returns a copy, oldest first.
func (t *tail) last() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.lines...)
}

// count returns how many lines were added, ever. A nil tail has none.
func (t *tail) count() int64 {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.added
}

// since returns the kept lines that were added when count had said so already, oldest first.
func (t *tail) since(count int64) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh := min(int64(len(t.lines)), t.added-count)
	return append([]string(nil), t.lines[int64(len(t.lines))-fresh:]...)
}

// logLine is one line for the log.
type logLine struct {
	level  slog.Level
	msg    string
	origin string
	attrs  []slog.Attr
	extra  int // bytes that attrs hold besides names of ours
}

// logQueue stands between the process' output and the log: a log that is
// slower than the process loses lines, counted, and never holds it up.
type logQueue struct {
	kick chan struct{} // capacity 1

	mu      sync.Mutex // guards the fields below
	lines   []logLine
	bytes   int
	dropped int
	closed  bool
}

func newLogQueue() *logQueue { return &logQueue{kick: make(chan struct{}, 1)} }

func (q *logQueue) put(l logLine) {
	q.mu.Lock()
	size := len(l.msg) + l.extra
	if len(q.lines) >= logQueueLines || q.bytes+size > logQueueBytes {
		q.dropped++
	} else {
		q.lines = append(q.lines, l)
		q.bytes += size
	}
	q.mu.Unlock()
	q.wake()
}

func (q *logQueue) wake() {
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

// close lets run return once it has written what is queued.
func (q *logQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wake()
}

// run logs until close; ctx only carries values to the log's handler.
func (q *logQueue) run(ctx context.Context, log *slog.Logger) {
	for range q.kick {
		q.mu.Lock()
		lines, dropped, closed := q.lines, q.dropped, q.closed
		q.lines, q.bytes, q.dropped = nil, 0, 0
		q.mu.Unlock()
		for _, l := range lines {
			log.LogAttrs(ctx, l.level, l.msg, append([]slog.Attr{slog.String("origin", l.origin)}, l.attrs...)...)
		}
		if dropped > 0 {
			log.Warn("dropped output of the Python process: it writes faster than it can be logged", slog.Int("lines", dropped))
		}
		if closed {
			return
		}
	}
}
