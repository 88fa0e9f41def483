package supervisor

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
)

const (
	maxTailLines = 20
	maxTailBytes = 4 << 10
	maxTailLine  = 1 << 10 // bytes
)

// The values of the attribute origin: where the process has written a line.
const (
	originStdout = "stdout"
	originStderr = "stderr"
	originLog    = "log" // a log report
)

// lastShown is what a terminal shows of a line in the end: what follows its last carriage return. A progress bar is
// written over and over that way, and what the process writes after it must not hide behind the beginning of the bar.
func lastShown(line []byte) []byte {
	line = bytes.TrimRight(line, "\r")
	for {
		i := bytes.LastIndexByte(line, '\r')
		rest := line[i+1:]
		if i < 0 || len(bytes.TrimSpace(rest)) > 0 {
			return rest
		}
		line = bytes.TrimRight(line[:i], "\r") // a bar that was erased with blanks
	}
}

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
