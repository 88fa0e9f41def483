// Package supervisor runs one Python process, gives it tasks over JSON lines and reports its health.
//
// A [Supervisor] is made by [New] and lives for the length of one call to [Supervisor.Run]. A single goroutine inside
// Run, the event loop, owns the state below; everything else sends it events. A transition that the table does not know
// ends Run with an error.
//
//		             ┌────────────── planned or manual ─────────────┐
//		             │                                              ▼
//		starting ─▶ running ◀─▶ stalled ─▶ crashed ─▶ restarting ─▶ running
//		    │         │            │       ▲ │  │       │   ▲
//		    └─────────┴────────────┴───────┘ │  └───┐   │   │ Restart
//		                                     │      ▼   │   │
//		                                     │   degraded ──┘
//		                                     ▼ (exit)
//		any but stopped ─▶ draining ─▶ stopped
//
//	  - starting: the first process has been started and is not ready yet.
//	  - running: it is ready, answers, and gets tasks, unless its own check fails.
//	  - stalled: it is there but does not answer; see below.
//	  - crashed: it ended, or was ended, without being asked to. The state is visible at once; it is left when the process
//	    is reaped and its pipes are read to the end.
//	  - restarting: a later process is awaited. After a crash this is not healthy. In a planned replacement (max_tasks,
//	    max_memory, deadline, or a manual restart of a healthy process) it is: Healthy stays true, because nobody has to be
//	    woken up for it, and there is no room until the new process is ready. A failure of the new process to start is a
//	    crash like any other. In the replacement of a process that cannot do its work Healthy is false.
//	  - degraded: no process, and none will be started before Restart.
//	  - draining: no new request is taken; requests in flight go on. A process that ends now is not replaced.
//	  - stopped: the process group is dead and Run is about to return.
//
// # Stalled
//
// A process that speaks protocol 2 is pinged about once a second. It is stalled when it has asynchronous handlers and
// reports a loop lag above BlockThreshold, or when a ping has been unanswered for longer than BlockThreshold while the
// process used (almost) no CPU time over that long. A process that computes without answering is busy, not stalled:
// only the lag in the snapshot shows it. CPU time is read on Linux only; elsewhere a process that does not answer is
// never stalled for that alone.
//
// # A process that answers and cannot do its work
//
// A process that announces the feature "check" is asked ({"check":N}) before it gets its first request, and later while
// nothing is in flight: every CheckInterval, and after a failed attempt, for which requests are held back until nothing
// is. None is given to it before its answer. While the last check has failed, or has not been answered within
// CheckTimeout, Healthy is false; CheckFailures in a row are a crash. A reply that says "broken" has no request begin any
// more; what has not begun is asked back, and the process is ended when the others have. MaxConsecutiveFailures does
// the same. Either counts as a crash, and is followed by another start whatever OnCrash says, as far as Restart allows.
//
// # Progress and log lines
//
// Between its answers a process of protocol 2 may write reports
//
//	{"progress":{"task_id":"…","fraction":0.4,"message":"epoch 4"}}
//	{"log":{"task_id":"…","level":"info","message":"…","logger":"…","fields":{…}}}
//
// The first goes to the request's Caller. The second goes to the log at its level, with origin=log, the task's id, queue
// and type, and its fields in the group "fields", where they overwrite nothing of ours. Both are bounded, and nothing
// that is wrong with them fails a task. The last log lines are evidence after a crash, as those of stderr are.
//
// # Which task runs, which waits
//
// A request begins when its handler does. Of the requests whose type the process announced as sync, that is the oldest
// unanswered one; one whose type is async begins when it is written. The type "*" stands for all that are not named;
// without it they count as sync if any type is. Where the process announces no types, its handlers are all of one kind.
// A process of protocol 1 announces nothing: its requests begin when they are written.
//
// # Which task is charged for a crash
//
// The request that had begun, if it is the only one, gets [*CrashError]. Where several had, each gets
// [*SuspicionError]. What had not begun gets [ErrNotRun], and so does a request of which the process had not read a
// single byte.
//
// # How much waits in the process
//
// [Supervisor.Room] says how many more requests the process should have. One with asynchronous handlers may have
// Options.Concurrency of them. Of synchronous ones it has no more than will begin within 100 ms by the measured
// durations, and one that waits in any case, unless the one that runs takes much longer than its type does. What has
// waited for a second is asked back ({"withdraw":"<id>"}), and at once when the supervisor drains; only the answer
// {"withdrawn":"<id>"} ends it. Until the one that held it up has ended, nothing more waits. A process that does not
// announce the feature "withdraw" has one that waits at most.
//
// # Nothing is left behind
//
// The process leads a process group and gets SIGKILL when the worker dies (Linux). Its environment carries
// RUNQY_CHILD_NONCE, a random value that its descendants inherit: when it ends, its group and every process that
// carries the value are killed, those in sessions of their own too. The guardian, a small process of the same binary,
// does the same when the worker itself is gone. A descendant that leaves the group, clears its environment and outlives
// its parent escapes.
//
// # Where things stand
//
// The methods of Supervisor send to the event loop (loop.go), which calls what happens at a tick, in a crash, a
// replacement, a stop and a start; these change the state and publish it; a child is one life of the process. Calls go
// down this list only. Submit, Cancel and Room do without the loop: they find the child through the gate, and its
// requests in the table of those in flight (inflight.go, turns.go, kinds.go, prefetch.go, quiet.go). The protocol stands in
// internal/wire, and what depends on the operating system in internal/proc.
package supervisor
