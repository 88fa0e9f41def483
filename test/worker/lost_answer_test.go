package worker

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// A command whose task has reached Redis and whose answer is lost has enqueued it: it says so, and once.
func TestEnqueueWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.StartProxy(t, server.Addr)
	w := harness.NewWorker(t, proxy.URL, nil)
	prefix := "asynq:{" + harness.QueueName + "}:"
	pending := func() int64 { return server.Client.LLen(t.Context(), prefix+"pending").Val() }
	scheduled := func() int64 { return server.Client.ZCard(t.Context(), prefix+"scheduled").Val() }
	file := filepath.Join(t.TempDir(), "tasks.ndjson")
	harness.WriteFile(t, file, strings.Repeat(`{"payload": 1, "type": "echo"}`+"\n", 20))
	carriesTask := func(name string) bool { return name == "EVALSHA" || name == "EVAL" }
	for _, test := range []struct {
		name  string
		args  []string
		every int // of the scripts loses its answer; the first of a new one only asks whether Redis has it
		count func() int64
		want  int64
	}{
		{"one", []string{harness.QueueName, "echo", "1"}, 2, pending, 1},
		{"one, of a script that Redis has", []string{harness.QueueName, "echo", "1"}, 1, pending, 1},
		{"one for later", []string{harness.QueueName, "echo", "1", "--in", "1h"}, 2, scheduled, 1},
		{"many", []string{harness.QueueName, "--from-file", file}, 15, pending, 20},
	} {
		before := test.count()
		cutOnce := 0
		proxy.CutEveryMatching(test.every, redistest.CutReply, func(name string) bool {
			if !carriesTask(name) || cutOnce == test.every {
				return false
			}
			cutOnce++
			return true
		})
		out := w.Command(append([]string{"enqueue"}, test.args...)...)
		if out.Code != 0 || strings.Contains(out.ErrOut, "exist") {
			t.Errorf("%s: %+v, want exit code 0", test.name, out)
		}
		if n := test.count() - before; n != test.want {
			t.Errorf("%s: %d tasks more, want %d", test.name, n, test.want)
		}
		if proxy.Cuts() != 1 {
			t.Errorf("%s: %d answers were lost, want 1", test.name, proxy.Cuts())
		}
	}
}
