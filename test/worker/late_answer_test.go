package worker

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// What a handler answers after it was cancelled, or past its deadline, counts as any other answer.
func TestLateAnswerCounts(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"sync.py", "async.py"} {
		for _, cause := range []string{"cancelled", "overdue"} {
			t.Run(strings.TrimSuffix(file, ".py")+" "+cause, func(t *testing.T) {
				t.Parallel()
				testLateAnswers(t, file, cause == "cancelled")
			})
		}
	}
}

func testLateAnswers(t *testing.T, file string, cancelled bool) {
	t.Helper()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{"python.command": python(t, file)})
	pid := q.PythonPID(w.ID)
	begun := filepath.Join(t.TempDir(), "begun")
	run := func(end string, maxRetry int) string {
		opts := []asynq.Option{asynq.MaxRetry(maxRetry), asynq.Retention(time.Hour), asynq.Timeout(time.Minute)}
		if !cancelled {
			opts[2] = asynq.Timeout(time.Second)
		}
		id := q.Enqueue("when_cancelled", map[string]any{"file": begun, "end": end}, opts...)
		harness.Eventually(t, "the handler has begun", func() error {
			if runsOf(t, begun)[id] == 0 {
				return harness.NotYet(w, "%s", q.Describe(id))
			}
			return nil
		})
		// Cancellations are for those who listen: the worker may not yet.
		harness.Eventually(t, "the attempt is over", func() error {
			if cancelled {
				if err := q.Inspector.CancelProcessing(id); err != nil {
					return err
				}
			}
			return wantCount(t, q, "active", 0)
		})
		return id
	}
	for _, maxRetry := range []int{0, 3} {
		id := run("result", maxRetry)
		if info, err := q.Inspector.GetTaskInfo(harness.QueueName, id); err != nil || info.State != asynq.TaskStateCompleted || string(info.Result) != `"finished"` {
			t.Errorf("MaxRetry(%d), a result: %s, want it completed with its result", maxRetry, q.Describe(id))
		}
	}
	id := run("permanent", 3)
	if info, err := q.Inspector.GetTaskInfo(harness.QueueName, id); err != nil || info.State != asynq.TaskStateArchived || !strings.Contains(info.LastErr, "never again") {
		t.Errorf("a permanent error: %s, want it archived with that error", q.Describe(id))
	}
	id = run("error", 3)
	if info, err := q.Inspector.GetTaskInfo(harness.QueueName, id); err != nil || info.State != asynq.TaskStateRetry || info.Retried != 1 {
		t.Errorf("another error: %s, want it retried", q.Describe(id))
	}
	if now := q.PythonPID(w.ID); now != pid {
		t.Errorf("the process is %d, want %d still", now, pid)
	}
	w.Stop()
}
