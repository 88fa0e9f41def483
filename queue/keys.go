package queue

import (
	"strings"
)

// The keys of asynq v0.26 (internal/base), which the contract test holds against the real ones.

func keyPrefix(queue string) string      { return "asynq:{" + queue + "}:" }
func pendingKey(queue string) string     { return keyPrefix(queue) + "pending" }
func activeKey(queue string) string      { return keyPrefix(queue) + "active" }
func leaseKey(queue string) string       { return keyPrefix(queue) + "lease" }
func pausedKey(queue string) string      { return keyPrefix(queue) + "paused" }
func archivedKey(queue string) string    { return keyPrefix(queue) + "archived" }
func scheduledKey(queue string) string   { return keyPrefix(queue) + "scheduled" }
func retryKey(queue string) string       { return keyPrefix(queue) + "retry" }
func completedKey(queue string) string   { return keyPrefix(queue) + "completed" }
func groupsKey(queue string) string      { return keyPrefix(queue) + "groups" }
func groupKeyPrefix(queue string) string { return keyPrefix(queue) + "g:" }
func taskKeyPrefix(queue string) string  { return keyPrefix(queue) + "t:" }
func taskKey(queue, id string) string    { return taskKeyPrefix(queue) + id }

// The keys of ours.

// ResultKey returns the key of a task's result: a string of JSON that expires.
func ResultKey(id string) string { return "asynq:result:" + id }

// ViewKey returns the key of a task's readable hash.
func ViewKey(id string) string { return "asynq:t:" + id }

// ownPrefix is that of our keys in a queue's slot.
func ownPrefix(queue string) string { return "runqy:{" + queue + "}:" }

// cycleKey is the record of a worker's last cycle.
func cycleKey(queue, workerID string) string { return ownPrefix(queue) + "cycle:" + workerID }

// directKey is the list of tasks that wait for one named worker; it lives in the queue's slot.
func directKey(queue, workerID string) string { return ownPrefix(queue) + "direct:" + workerID }

// directKeyPrefix stands before the worker id in directKey.
func directKeyPrefix(queue string) string { return directKey(queue, "") }

// directsKey is the set of worker ids that a queue has, or had, such a list for.
func directsKey(queue string) string { return ownPrefix(queue) + "directs" }

func pendingViewKey(queue string) string { return "asynq:" + queue + ":pending" }
func activeViewKey(queue string) string  { return "asynq:" + queue + ":active" }
func viewLeaseKey(queue string) string   { return "runqy:views:" + queue }

// queueOfKey returns the queue whose name stands in braces in one of asynq's keys, and what follows the braces; both are
// empty for another key.
func queueOfKey(key string) (queue, rest string) {
	if tail, ok := strings.CutPrefix(key, "asynq:{"); ok {
		queue, rest, _ = strings.Cut(tail, "}:")
	}
	return queue, rest
}
