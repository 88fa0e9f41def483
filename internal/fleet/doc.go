// Package fleet tells which workers are alive and which are free, and sees to it that the tasks of dead ones run again.
//
// A [Checker] pings every registered worker and judges each: FREE, BUSY or DEAD, with the cause. DEAD means only that
// the worker is given nothing. Its tasks stay its own until its death is proven: it has not beaten for two of its
// heartbeat intervals, and its address refuses connections or answers as somebody else, or its process is gone from
// this host. Silence alone, a timeout, a 401 or a TLS error prove nothing; then only the end of its heartbeat and of its
// tasks' leases counts.
//
// A [Service] is the checker as a role that one process of the fleet holds, by a lease in Redis. The holder checks,
// buries the proven dead (their tasks first, their registry entry after) and sweeps the queues for what nobody holds.
// Each step is guarded inside Redis, so two that act as holder for a moment do no harm.
package fleet
