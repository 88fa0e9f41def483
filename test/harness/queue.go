package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// Queue enqueues to QueueName and inspects it with plain asynq, and reads what workers write to Redis.
type Queue struct {
	t         *testing.T
	Redis     *redis.Client
	Client    *asynq.Client
	Inspector *asynq.Inspector
}

// NewQueue returns the queue on a Redis.
func NewQueue(t *testing.T, client *redis.Client) *Queue {
	t.Helper()
	return &Queue{
		t: t, Redis: client, Client: asynq.NewClientFromRedisClient(client), Inspector: asynq.NewInspectorFromRedisClient(client),
	}
}

// Enqueue puts a task on the queue and returns its id. The payload is marshalled unless it is bytes.
func (q *Queue) Enqueue(taskType string, payload any, opts ...asynq.Option) string {
	q.t.Helper()
	data, ok := payload.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(payload); err != nil {
			q.t.Fatalf("marshal a payload: %v", err)
		}
	}
	info, err := q.Client.Enqueue(asynq.NewTask(taskType, data), append([]asynq.Option{asynq.Queue(QueueName)}, opts...)...)
	if err != nil {
		q.t.Fatalf("enqueue: %v", err)
	}
	return info.ID
}

// Result waits for a task's result, and returns it as JSON.
func (q *Queue) Result(id string) string {
	q.t.Helper()
	return q.ResultWithin(Timeout, id)
}

// ResultWithin is Result with another limit.
func (q *Queue) ResultWithin(limit time.Duration, id string) string {
	q.t.Helper()
	var text string
	EventuallyWithin(q.t, limit, "result of task "+id, func() error {
		var err error
		text, err = q.Redis.Get(q.t.Context(), "asynq:result:"+id).Result()
		if err != nil {
			return q.notYet(id, err)
		}
		return nil
	})
	return text
}

// taskHash is where asynq keeps a task of the tests' queue.
func taskHash(id string) string { return "asynq:{" + QueueName + "}:t:" + id }

// notYet returns an error that describes a task when it is printed: asynq reads tasks with their payloads, which can be
// too large to be read again and again during a wait.
func (q *Queue) notYet(id string, err error) error {
	return laterError(func() string { return fmt.Sprintf("%v; %s", err, q.Describe(id)) })
}

type laterError func() string

func (e laterError) Error() string { return e() }

// AwaitGone waits until a task without retention is acknowledged or deleted: asynq does not have it any more.
func (q *Queue) AwaitGone(id string) {
	q.t.Helper()
	Eventually(q.t, "task "+id+" is acknowledged", func() error {
		n, err := q.Redis.Exists(q.t.Context(), taskHash(id)).Result()
		if err == nil && n == 0 {
			return nil
		}
		return q.notYet(id, err)
	})
}

// AwaitState waits until asynq has the task in a state, and returns what it knows of it.
func (q *Queue) AwaitState(id string, state asynq.TaskState) *asynq.TaskInfo {
	q.t.Helper()
	return q.AwaitStateWithin(Timeout, id, state)
}

// AwaitStateWithin is AwaitState with another limit.
func (q *Queue) AwaitStateWithin(limit time.Duration, id string, state asynq.TaskState) *asynq.TaskInfo {
	q.t.Helper()
	var info *asynq.TaskInfo
	EventuallyWithin(q.t, limit, "task "+id+" is "+state.String(), func() error {
		if got, err := q.Redis.HGet(q.t.Context(), taskHash(id), "state").Result(); err != nil || got != state.String() {
			return q.notYet(id, err)
		}
		var err error
		info, err = q.Inspector.GetTaskInfo(QueueName, id)
		if err == nil && info.State != state {
			err = fmt.Errorf("it is %s by now", info.State)
		}
		return err
	})
	return info
}

// Describe returns a task's state, retries and error for a message.
func (q *Queue) Describe(id string) string {
	info, err := q.Inspector.GetTaskInfo(QueueName, id)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s, retried %d of %d, last error %q", info.State, info.Retried, info.MaxRetry, info.LastErr)
}

// AwaitEmpty waits until asynq's pending, active, retry and scheduled sets are empty.
func (q *Queue) AwaitEmpty() {
	q.t.Helper()
	q.AwaitEmptyWithin(Timeout)
}

// AwaitEmptyWithin is AwaitEmpty with another limit.
func (q *Queue) AwaitEmptyWithin(limit time.Duration) {
	q.t.Helper()
	EventuallyWithin(q.t, limit, "nothing is left in the queue", func() error {
		ctx := q.t.Context()
		prefix := "asynq:{" + QueueName + "}:"
		counts := map[string]int64{
			"pending": q.Redis.LLen(ctx, prefix+"pending").Val(), "active": q.Redis.LLen(ctx, prefix+"active").Val(),
			"retry": q.Redis.ZCard(ctx, prefix+"retry").Val(), "scheduled": q.Redis.ZCard(ctx, prefix+"scheduled").Val(),
		}
		for _, n := range counts {
			if n > 0 {
				return fmt.Errorf("%v", counts)
			}
		}
		return nil
	})
}

// Heartbeat returns a worker's heartbeat hash as it stands in Redis.
func (q *Queue) Heartbeat(id string) map[string]string {
	q.t.Helper()
	hash, err := q.Redis.HGetAll(context.Background(), "asynq:workers:"+id).Result()
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	return hash
}

// AwaitHeartbeat waits until fields of the heartbeat have the given values, "name=value" each.
func (q *Queue) AwaitHeartbeat(id string, want ...string) time.Duration {
	q.t.Helper()
	return Eventually(q.t, fmt.Sprintf("heartbeat of %s has %q", id, want), func() error {
		hash := q.Heartbeat(id)
		for _, w := range want {
			name, value, _ := strings.Cut(w, "=")
			if got, ok := hash[name]; !ok || got != value {
				return fmt.Errorf("the hash is %q", hash)
			}
		}
		return nil
	})
}

// AwaitReason waits until the heartbeat's reason contains part.
func (q *Queue) AwaitReason(id, part string) {
	q.t.Helper()
	Eventually(q.t, "the reason contains "+part, func() error {
		if hash := q.Heartbeat(id); !strings.Contains(hash["reason"], part) {
			return fmt.Errorf("the hash is %q", hash)
		}
		return nil
	})
}

// PythonPID waits until the worker runs and returns its Python process' id.
func (q *Queue) PythonPID(id string) int {
	q.t.Helper()
	q.AwaitHeartbeat(id, "status=running", "healthy=true")
	pid, err := strconv.Atoi(q.Heartbeat(id)["python_pid"])
	if err != nil {
		q.t.Fatalf("python_pid: %v", err)
	}
	return pid
}

// Scheduled names a task that was enqueued for later, with asynq.ProcessIn.
type Scheduled struct{ Queue, ID string }

// RunTogether makes scheduled tasks pending in one step, in their order: no worker sees some of them before the others.
func (q *Queue) RunTogether(tasks ...Scheduled) {
	q.t.Helper()
	now := time.Now().UnixNano()
	_, err := q.Redis.TxPipelined(q.t.Context(), func(p redis.Pipeliner) error {
		for _, t := range tasks {
			prefix := "asynq:{" + t.Queue + "}:"
			p.ZRem(q.t.Context(), prefix+"scheduled", t.ID)
			p.HSet(q.t.Context(), prefix+"t:"+t.ID, "state", "pending", "pending_since", now)
			p.LPush(q.t.Context(), prefix+"pending", t.ID)
		}
		return nil
	})
	if err != nil {
		q.t.Fatalf("run %v: %v", tasks, err)
	}
}
