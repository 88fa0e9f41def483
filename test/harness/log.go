package harness

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
)

// LogBuffer keeps what a process writes. It may be used by several goroutines.
type LogBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns what has been written so far.
func (b *LogBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Find returns the newest log line whose message contains text, nil if there is none.
func (b *LogBuffer) Find(text string) map[string]any {
	lines := strings.Split(b.String(), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		var line map[string]any
		if json.Unmarshal([]byte(lines[i]), &line) != nil {
			continue
		}
		if msg, _ := line["msg"].(string); strings.Contains(msg, text) {
			return line
		}
	}
	return nil
}

// FindWith returns the first log line whose message contains text and whose field has that value, nil if there is none.
func (b *LogBuffer) FindWith(text, field, value string) map[string]any {
	for line := range strings.Lines(b.String()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) != nil {
			continue
		}
		if msg, _ := fields["msg"].(string); strings.Contains(msg, text) && fields[field] == value {
			return fields
		}
	}
	return nil
}
