// Package fleet finds out which workers are alive and which are free, and sees to it that the tasks of dead ones run
// again.
//
// A [Checker] pings every registered worker and classifies each: FREE, BUSY or DEAD, with the cause (classify.go). DEAD
// means only that the worker is given nothing. Its tasks stay its own until its death is proven: it has written no
// heartbeat for two of its heartbeat intervals, and its address refuses connections or answers as another process, or
// its process is gone from this host. Silence alone, a timeout, a 401 or a TLS error prove nothing; then only the end
// of its heartbeat and of its tasks' leases counts.
//
// A [Service] takes part in the leader election (election.go): one process of the fleet is the leader, by a lease
// (lease.go) in Redis. The leader (leader.go) checks the workers in rounds, reaps those that are proven dead
// (reaper.go: their tasks first, their registry entry after), sweeps the queues for tasks that nobody holds
// (sweeper.go) and saves a checkpoint for its successor (checkpoint.go). Each step is guarded inside Redis, so two
// processes that act as the leader for a moment do no harm; queue/recovery.go lists the guards.
package fleet
