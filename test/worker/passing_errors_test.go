package worker

import (
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// Redis refuses the worker for some seconds, as while a password is changed or a rule is corrected. The task that runs
// meanwhile goes on, and is completed once.
func TestRefusedForAWhile(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		user       *url.Userinfo
		take, give [][]any // commands that take the access away and give it back
	}{
		"NOAUTH": {
			nil, [][]any{{"CONFIG", "SET", "requirepass", "another"}, {"CLIENT", "KILL", "USER", "default"}},
			[][]any{{"CONFIG", "SET", "requirepass", ""}},
		},
		"WRONGPASS": {
			url.UserPassword("worker", "secret"),
			[][]any{{"ACL", "SETUSER", "worker", "resetpass", ">another"}, {"CLIENT", "KILL", "USER", "worker"}},
			[][]any{{"ACL", "SETUSER", "worker", ">secret"}},
		},
		"NOPERM": {
			url.UserPassword("worker", "secret"),
			[][]any{{"ACL", "SETUSER", "worker", "-@all"}}, [][]any{{"ACL", "SETUSER", "worker", "+@all"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			for _, user := range []string{"admin", "worker"} {
				if err := server.Client.Do(t.Context(), "ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all").Err(); err != nil {
					t.Fatalf("make the user %s: %v", user, err)
				}
			}
			admin := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "admin", Password: "secret"})
			t.Cleanup(func() { admin.Close() })
			do := func(commands [][]any) {
				t.Helper()
				for _, command := range commands {
					if err := admin.Do(t.Context(), command...).Err(); err != nil {
						t.Fatalf("%v: %v", command, err)
					}
				}
			}
			q := harness.NewQueue(t, admin)
			address := url.URL{Scheme: "redis", Host: server.Addr, Path: "/0", User: test.user}
			w := harness.StartWorker(t, address.String(), nil)
			pid := q.PythonPID(w.ID)
			file := filepath.Join(t.TempDir(), "ran")
			task := q.Enqueue("note", map[string]any{"file": file, "seconds": 1.5, "n": 7}, asynq.MaxRetry(0), asynq.Retention(time.Hour))
			harness.Eventually(t, "the handler has begun", func() error { return wantRuns(t, file, 1) })
			do(test.take)
			w.AwaitAnswer("/health", 503, harness.UnhealthyBody)
			time.Sleep(4 * time.Second) // the handler ends, and its end is refused more than once
			do(test.give)
			info := q.AwaitState(task, asynq.TaskStateCompleted)
			if string(info.Result) != "7" || q.Result(task) != "7" || info.Retried != 0 {
				t.Errorf("the task has the result %s; %s; want 7 and no retry", info.Result, q.Describe(task))
			}
			w.AwaitAnswer("/health", 200, harness.HealthyBody)
			q.Result(q.Enqueue("echo", 1))
			if err := wantRuns(t, file, 1); err != nil {
				t.Error(err)
			}
			if now := q.PythonPID(w.ID); now != pid {
				t.Errorf("the process is %d, want %d still", now, pid)
			}
			w.Stop()
		})
	}
}
