package supervisor

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/runqy/runqy-worker/internal/wakeup"
)

const (
	maxTailLines = 20
	maxTailBytes = 4 << 10
	maxTailLine  = 1 << 10 // bytes

	maxQueuedLines = 8192
	maxQueuedBytes = 4 << 20
)

// The values of the attribute origin: where the process has written a line.
const (
	originStdout = "stdout"
	originStderr = "stderr"
	originLog    = "log" // a log report
)

// ownLogger is the logger for what the supervisor says itself.
func ownLogger(log *slog.Logger) *slog.Logger { return log.With("component", "supervisor") }

// outputTail keeps the last lines of stderr, bounded in number and size.
type outputTail struct {
	mu    sync.Mutex // guards the rest
	lines []string
	size  int
	added int64 // lines, ever
}

func (t *outputTail) add(line []byte) {
	if len(line) > maxTailLine {
		line = line[:maxTailLine]
	}
	s := strings.ToValidUTF8(string(line), "\uFFFD")
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, s)
	t.size += len(s)
	t.added++
	for len(t.lines) > maxTailLines || t.size > maxTailBytes && len(t.lines) > 1 {
		t.size -= len(t.lines[0])
		t.lines[0] = ""
		t.lines = t.lines[1:]
	}
}

// last returns a copy, oldest first.
func (t *outputTail) last() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.lines...)
}

// count returns how many lines were added, ever. A nil tail has none.
func (t *outputTail) count() int64 {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.added
}

// since returns the kept lines that were added after the first count ones, oldest first.
func (t *outputTail) since(count int64) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh := min(int64(len(t.lines)), t.added-count)
	return append([]string(nil), t.lines[int64(len(t.lines))-fresh:]...)
}

// logLine is one line for the log.
type logLine struct {
	level  slog.Level
	msg    string
	origin string // empty: the supervisor's own line
	attrs  []slog.Attr
	extra  int // bytes that attrs hold besides names of ours
}

// logQueue stands between the process' output and the log: a log that is slower than the process loses lines, counted,
// and never holds it up.
type logQueue struct {
	wake wakeup.Signal // of run

	mu      sync.Mutex // guards the fields below
	lines   []logLine
	bytes   int
	dropped int
	closed  bool
}

func newLogQueue() *logQueue { return &logQueue{wake: wakeup.New()} }

func (q *logQueue) put(l logLine) {
	q.mu.Lock()
	size := len(l.msg) + l.extra
	if len(q.lines) >= maxQueuedLines || q.bytes+size > maxQueuedBytes {
		q.dropped++
	} else {
		q.lines = append(q.lines, l)
		q.bytes += size
	}
	q.mu.Unlock()
	q.wake.Wake()
}

// close lets run return once it has written what is queued.
func (q *logQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wake.Wake()
}

// run writes to output until close; ctx only carries values to its handler.
func (q *logQueue) run(ctx context.Context, output *slog.Logger) {
	log := ownLogger(output)
	for range q.wake.C() {
		q.mu.Lock()
		lines, dropped, closed := q.lines, q.dropped, q.closed
		q.lines, q.bytes, q.dropped = nil, 0, 0
		q.mu.Unlock()
		for _, l := range lines {
			if l.origin == "" {
				log.LogAttrs(ctx, l.level, l.msg, l.attrs...) //nolint:sloglint // a constant of receive.go
				continue
			}
			output.LogAttrs(ctx, l.level, l.msg, append([]slog.Attr{slog.String("origin", l.origin)}, l.attrs...)...) //nolint:sloglint // what the process wrote
		}
		if dropped > 0 {
			log.Warn("python process output dropped", slog.Int("lines", dropped))
		}
		if closed {
			return
		}
	}
}
