package supervisor

import (
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/supervisor/internal/wire"
)

// The evidence is one line, and what the process wrote stands apart, whichever way it wrote it.
func TestEvidence(t *testing.T) {
	for _, c := range []struct {
		name    string
		text    string
		before  string // a line of an earlier task
		running bool
		line    string // a line of the task that runs
		want    status.Reason
	}{
		{"nothing", "exit status 3", "", false, "", because("exit status 3; it wrote nothing to stderr")},
		{"no task", "exit status 3", "", false, "line", status.Reason{Summary: "exit status 3", Stderr: []string{"line"}}},
		{"of another task", "exit status 3", "line", true, "", because("exit status 3; it wrote nothing to stderr since the task began")},
		{"of this task", "exit status 3", "other", true, "line", status.Reason{Summary: "exit status 3", Stderr: []string{"line"}}},
		{"an error of many lines", "could not start: a\nb", "", false, "line",
			status.Reason{Summary: "could not start: a", Stderr: []string{"b", "line"}}},
	} {
		tail := &outputTail{}
		child := &child{requests: newTable(Options{Concurrency: 1}, tail), tail: tail}
		child.ready.Store(&wire.Ready{})
		if c.before != "" {
			tail.add([]byte(c.before))
		}
		if c.running {
			if _, _, err := child.requests.add(&Request{TaskID: "t"}, time.Now(), func() int64 { return 0 }); err != nil {
				t.Fatalf("%s: add a request: %v", c.name, err)
			}
		}
		if c.line != "" {
			tail.add([]byte(c.line))
		}
		if got := child.evidence(c.text); !got.Equal(c.want) {
			t.Errorf("%s: evidence %q, want %q", c.name, got.Text(), c.want.Text())
		}
	}
}
