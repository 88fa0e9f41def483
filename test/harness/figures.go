package harness

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// RedisFigures is what Redis counts, as INFO shows it.
type RedisFigures struct {
	Commands    int            // all, those inside scripts included
	Calls       map[string]int // the same by name, "config|get" for a subcommand
	Reads       int            // from sockets
	Connections int            // open now, without those of the queue's client
	Blocked     int            // of these, how many wait in a blocking command
}

// RedisFigures asks Redis for its figures. The question is counted by the next one.
func (q *Queue) RedisFigures() RedisFigures {
	q.t.Helper()
	text, err := q.Redis.Info(q.t.Context(), "all").Result()
	if err != nil {
		q.t.Fatalf("ask for the figures of Redis: %v", err)
	}
	f := RedisFigures{Calls: map[string]int{}}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if command, found := strings.CutPrefix(name, "cmdstat_"); found {
			value, _, _ = strings.Cut(strings.TrimPrefix(value, "calls="), ",")
			f.Calls[command] = number(q.t, line, value)
			f.Commands += f.Calls[command]
		}
		switch name {
		case "total_reads_processed":
			f.Reads = number(q.t, line, value)
		case "connected_clients":
			f.Connections = number(q.t, line, value) - int(q.Redis.PoolStats().TotalConns)
		case "blocked_clients":
			f.Blocked = number(q.t, line, value)
		}
	}
	return f
}

// Sum returns how often any of the commands was called.
func (f RedisFigures) Sum(commands ...string) int {
	sum := 0
	for _, name := range commands {
		sum += f.Calls[name]
	}
	return sum
}

// VoluntarySwitches returns how often the threads of a process have gone to sleep by themselves. Threads that have ended
// are not in it.
func VoluntarySwitches(t *testing.T, pid int) int {
	t.Helper()
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/status")
	if err != nil || len(files) == 0 {
		t.Fatalf("list the threads of process %d: %d found, error %v", pid, len(files), err)
	}
	total := 0
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		for line := range strings.Lines(string(text)) {
			if value, found := strings.CutPrefix(line, "voluntary_ctxt_switches:"); found {
				total += number(t, line, strings.TrimSpace(value))
			}
		}
	}
	return total
}

func number(t *testing.T, line, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", strings.TrimSpace(line), err)
	}
	return n
}
