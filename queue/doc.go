// Package queue takes tasks from asynq queues in Redis, hands each to a [Handler] and tells Redis what became of it.
//
// asynq's server stays the engine: leases, retries, the scheduler, the janitor and the recoverer are its own, and every
// asynq client, the asynq command line and asynqmon see the queues they know. It is given a Redis client of ours
// (broker.go) that passes everything through except for two kinds of script, which it recognises by their keys:
//
//   - Dequeue: where asynq would poll, ours waits until a list has an element and pops in the same call, stamps which
//     process took the task (its owner), and does neither while the gate is closed or every slot is taken.
//   - Acknowledgements (done, complete, retry, archive, requeue): asynq's own Lua runs behind a guard that compares
//     the owner, so a worker that was frozen or cut off can never remove another's run; and it is sent again until the
//     lease ends when the connection breaks.
//
// One attempt of one task lives from the dequeue to the acknowledgement (attempt.go). It holds a slot until the handler
// has returned, whatever asynq thinks of its deadline. A task that did not run is requeued by a script of ours, its
// retry count and its age untouched: that one script serves tasks that were waiting behind a crash, a drain that ran
// out of time, and the audit of what is stamped ours but held by nothing here.
//
// A task whose worker is dead is recovered: recovery.go lists the four ways and the guards between them.
//
// Around it stand the results (process.go), the views for redis-cli (views.go, lists.go), the depths of the queues
// (depths.go), the tasks for one named worker (direct.go), the crashes that a task has caused (crash.go) and what an
// operator does by hand (admin.go).
package queue
