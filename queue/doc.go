// Package queue takes tasks from asynq queues in Redis, hands each to a [Handler] and tells Redis what became of it.
//
// The engine is ours; the format and the states of the tasks are asynq's, so that every asynq client, the asynq command
// line and asynqmon see the queues they know. [Consumer.Run] starts these goroutines and waits for their end:
//
//   - The loop (loop.go) owns every attempt, from the take to when Redis has applied its outcome. It never waits for
//     Redis or for the handler: others reach it through its inbox (inbox.go, attempt.go).
//   - One cycler for each queue (cycler.go) carries out one cycle at a time. A cycle is one call of lua/cycle.lua, which
//     applies the outcomes of attempts that have ended, writes views, and takes new tasks (cycle.go, arguments.go). It
//     has a number, and a cycle without an answer is sent again unchanged: the script keeps a record of the last one. On
//     Redis Cluster results and views go beside it (slots.go).
//   - One watcher for each queue (claim.go) waits for a task when there is none. BLMOVE moves it into this worker's own
//     list (direct.go), and the next cycle takes it from there.
//   - The renewer extends the leases of all attempts (renewer.go), and the auditor requeues what is stamped ours and held
//     by nothing here (audit.go).
//   - asynq's server does the housekeeping. It is given a client that hides the tasks from it (broker.go, nochannel.go).
//
// A task is stamped with its owner when it is taken: worker, process, number of the take. Each script compares the stamp
// before it changes the task, so a worker that was frozen or cut off cannot change another one's run.
//
// An attempt begins when its handler does, and its timeout counts from there (deadline.go, timeouts.go). How it ended
// becomes an outcome in settle.go, and a task that the process may have died of runs alone (alone.go). What did not run
// goes back as it was.
//
// A task whose worker is dead is recovered: recovery.go lists the four ways and the guards between them.
//
// Around it stand the views for redis-cli (views.go, lists.go), the depths of the queues (depths.go) and what an operator
// does by hand (admin.go).
package queue
