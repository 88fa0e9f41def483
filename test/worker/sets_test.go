package worker

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/runqy/runqy-worker/test/harness"
)

// count returns how many tasks the queue has in a list or a set of asynq's.
func count(t *testing.T, q *harness.Queue, set string) int64 {
	t.Helper()
	key := "asynq:{" + harness.QueueName + "}:" + set
	if set == "pending" || set == "active" {
		return q.Redis.LLen(t.Context(), key).Val()
	}
	return q.Redis.ZCard(t.Context(), key).Val()
}

// wantCount is a check for one of count's sets.
func wantCount(t *testing.T, q *harness.Queue, set string, want int64) error {
	t.Helper()
	if n := count(t, q, set); n != want {
		return fmt.Errorf("%d tasks are in %s, want %d", n, set, want)
	}
	return nil
}

// wantSlotsFree checks that nothing is left in active, and no lease.
func wantSlotsFree(t *testing.T, q *harness.Queue) error {
	t.Helper()
	if err := wantCount(t, q, "active", 0); err != nil {
		return err
	}
	return wantCount(t, q, "lease", 0)
}

// runsOf returns how often each task has left a line in a file, by the line's first word.
func runsOf(t *testing.T, file string) map[string]int {
	t.Helper()
	return harness.CountFirstWords(harness.ReadLines(t, file))
}

// python returns the command of a handler file of test/tasks.
func python(t *testing.T, file string) []string {
	t.Helper()
	return []string{"python3", harness.TaskFile(t, file)}
}

// child returns the command of a child of test/children.
func child(t *testing.T, args ...string) []string {
	t.Helper()
	args[0] = harness.RepositoryFile(t, filepath.Join("test", "children", args[0]))
	return append([]string{"python3"}, args...)
}
