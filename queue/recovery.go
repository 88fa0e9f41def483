package queue

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"
)

// The recovery paths
//
// A task that its worker cannot finish any more lies in active until one of four paths takes it from there. Which one
// comes first does not matter. The first three are a [Recoverer]'s, and requeue a task or archive it by recover.lua;
// the fourth is asynq's.
//
//	path                 acts                          may take from active                        counts as
//	1 proven death       the fleet's leader, for each  tasks with that worker's id and nonce in    a crash
//	  OfProcess          worker that is proven dead    their stamp, whatever their lease
//	2 lapsed lease       the fleet's leader, when it   tasks of a process without a heartbeat, if  a crash
//	  Lapsed             sweeps the queues             their lease ended a margin ago or is gone;
//	                                                   tasks without a stamp, if their lease is
//	                                                   gone
//	3 successor          a worker that starts, once    tasks with its own id and another nonce in  a crash
//	  OfPredecessors     it has registered its id      their stamp, whatever their lease
//	4 asynq's recoverer  each worker's asynq server,   tasks whose lease ended 30 s ago            a failed attempt
//	                     at its start and then once a
//	                     minute
//
// A crash leaves the retry count alone and archives the task at max_task_crashes; a failed attempt is retried with
// asynq's delay while it has retries left.
//
// Four guards keep any two of them apart, and each of them from a worker that is alive after all. The first three stand
// inside the script that takes the task, so that nothing can happen between the comparison and the change:
//
//   - Active: every path takes the task by an LREM from active and does nothing when it was not there. Of two paths
//     that come at once for the same run, the second finds it gone.
//   - Owner stamp: recover.lua compares the stamp that its caller has read: worker id, nonce and number of the dequeue.
//     A task that was taken, requeued and dequeued again meanwhile has another stamp, and is left alone. The same
//     comparison (guard.lua, result.lua, requeue.lua) refuses the result and the acknowledgement of the run that lost
//     its task.
//   - Lease: asynq's recoverer carries no stamp of ours, so guard.lua lets it have a task only without a valid lease;
//     recover.lua compares the lease again when it comes for a lapsed one. A worker that runs the task extends its
//     lease.
//   - Identity: an id is registered by one process at a time (heartbeat.Writer.Register), so what OfPredecessors finds
//     under another nonce belongs to a process that is dead or has lost the id. The reaper reads the registry again
//     before it acts on a proof, and removes a worker from there only after its tasks, so that another leader can go on.
//
// asynq's recoverer leaves the old stamp on a task until the next dequeue. A late acknowledgement of the old run then
// passes the comparison of the stamp, but not the LREM: asynq's script answers NOT FOUND, which the broker counts as
// refused.
//
// The audit (audit.go) is no recovery: it requeues what carries the stamp of this very process and is held by nothing
// in it.

// The reasons of a recovery by a [Recoverer]: of the log line "task recovered" and, by their callers, of metrics.
const (
	RecoveredDead      = "dead"      // the worker's death was proven
	RecoveredLapsed    = "lapsed"    // its heartbeat and the task's lease ended
	RecoveredSuccessor = "successor" // a worker took its id over
)

// RecoveryReasons lists every reason of a recovery.
func RecoveryReasons() []string {
	return []string{RecoveredDead, RecoveredLapsed, RecoveredSuccessor}
}

// archivedBecause tells people, in the error of a task that is archived, what became of its worker.
var archivedBecause = map[string]string{
	RecoveredDead:      "its worker process died",
	RecoveredLapsed:    "its worker fell silent and the lease ended",
	RecoveredSuccessor: "its worker process was succeeded by another",
}

// Recoverer gives the tasks of dead workers to live ones. It does not find out which workers are dead: its caller
// knows. Every step is guarded per task inside Redis, so any number of recoverers may act at once, and a worker that
// was taken for dead finds its late acknowledgement refused. It is safe for concurrent use.
type Recoverer struct {
	client  redis.UniversalClient
	scripts scripts
	opts    RecovererOptions
}

// RecovererOptions say how a Recoverer treats what it finds.
type RecovererOptions struct {
	MaxTaskCrashes int          // a task that has lost its worker this often is archived; 0: never
	Logger         *slog.Logger // required
}

// Recovered counts what a recovery did.
type Recovered struct {
	Requeued int // back at the head of pending
	Archived int // lost for the last time
}

// NewRecoverer returns a Recoverer. The client may retry by itself: a repeated step finds nothing left to do.
func NewRecoverer(client redis.UniversalClient, opts RecovererOptions) *Recoverer {
	opts.Logger = opts.Logger.With("component", "queue")
	return &Recoverer{client: client, scripts: newScripts(), opts: opts}
}

// OfProcess recovers the tasks that one process of a worker holds in a queue. Its death must be proven: the leases of
// its tasks are not looked at.
func (r *Recoverer) OfProcess(ctx context.Context, queue, workerID, nonce string) (Recovered, error) {
	return r.recover(ctx, queue, RecoveredDead, func(o activeTask) (latest string, yes bool) {
		return "", o.worker == workerID && o.nonce == nonce
	})
}

// OfPredecessors recovers the tasks of all earlier processes with the caller's own worker id, which is the caller's
// alone once it has registered it. nonce is the caller's.
func (r *Recoverer) OfPredecessors(ctx context.Context, queue, workerID, nonce string) (Recovered, error) {
	return r.recover(ctx, queue, RecoveredSuccessor, func(o activeTask) (latest string, yes bool) {
		return "", o.worker == workerID && o.nonce != nonce
	})
}

// Lapsed recovers active tasks whose lease ended at least margin ago, or that have none, unless their worker is alive:
// one that has a heartbeat is left to its own audit. Tasks that no worker of ours took are left to asynq's recoverer
// while they have a lease. margin allows for clocks that differ.
func (r *Recoverer) Lapsed(ctx context.Context, queue string, alive func(workerID, nonce string) bool, margin time.Duration) (Recovered, error) {
	latest := time.Now().Add(-margin).Unix()
	return r.recover(ctx, queue, RecoveredLapsed, func(o activeTask) (string, bool) {
		switch {
		case o.worker != "" && alive(o.worker, o.nonce):
			return "", false
		case o.hasLease:
			return strconv.FormatInt(latest, 10), o.worker != "" && o.lease <= latest
		}
		// asynq sets both at once, so a task without a lease has lost it; nobody will ever look at it again.
		return strconv.FormatInt(latest, 10), true
	})
}

// activeTask is an entry of a queue's active list.
type activeTask struct {
	id, owner     string
	worker, nonce string // of the owner stamp; empty for a task that no worker of ours took
	hasLease      bool
	lease         int64 // unix s
}

// recover goes through a queue's active list and takes what choose names; latest is the end of the lease up to which it
// may, or empty for any.
func (r *Recoverer) recover(ctx context.Context, queue, reason string, choose func(activeTask) (latest string, yes bool)) (Recovered, error) {
	var done Recovered
	tasks, err := r.active(ctx, queue)
	if err != nil {
		return done, err
	}
	for _, t := range tasks {
		latest, yes := choose(t)
		if !yes {
			continue
		}
		outcome, crashes, err := r.take(ctx, queue, t, latest, archivedBecause[reason])
		if err != nil {
			return done, err
		}
		switch outcome {
		case "requeued":
			done.Requeued++
		case "archived":
			done.Archived++
		default:
			continue
		}
		r.opts.Logger.Warn("task recovered", "queue", queue, "task_id", t.id, "reason", reason, "worker_id", t.worker,
			"outcome", outcome, "crashes", crashes)
	}
	return done, nil
}

func (r *Recoverer) active(ctx context.Context, queue string) ([]activeTask, error) {
	reply, err := r.scripts.active.Run(ctx, r.client, []string{activeKey(queue), leaseKey(queue)}, taskKeyPrefix(queue)).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("list the active tasks of queue %s: %w", queue, err)
	}
	tasks := make([]activeTask, 0, len(reply)/3)
	for i := 0; i+2 < len(reply); i += 3 {
		t := activeTask{id: reply[i], owner: reply[i+1]}
		t.worker, t.nonce = splitOwner(t.owner)
		if lease, err := strconv.ParseFloat(reply[i+2], 64); err == nil {
			t.hasLease, t.lease = true, int64(lease)
		}
		tasks = append(tasks, t)
	}
	return tasks, nil
}

// splitOwner takes an owner stamp apart.
func splitOwner(owner string) (worker, nonce string) {
	parts := strings.Split(owner, "|")
	if len(parts) != 3 {
		return "", ""
	}
	return parts[0], parts[1]
}

// take takes one task, if it still carries the stamp and its lease does not end after latest.
func (r *Recoverer) take(ctx context.Context, queue string, t activeTask, latest, why string) (outcome, crashes string, err error) {
	now := time.Now()
	keys := []string{taskKey(queue, t.id), activeKey(queue), leaseKey(queue), pendingKey(queue), archivedKey(queue)}
	text := fmt.Sprintf("archived: %s, for the %dth time (max_task_crashes); last worker: %s", why, r.opts.MaxTaskCrashes, t.worker)
	reply, err := r.scripts.recover.Run(ctx, r.client, keys,
		t.id, t.owner, latest, now.UnixNano(), now.Unix(), r.opts.MaxTaskCrashes, failureFields(text, now)).StringSlice()
	if err != nil {
		return "", "", fmt.Errorf("recover task %s of queue %s: %w", t.id, queue, err)
	}
	if len(reply) == 2 {
		crashes = reply[1]
	}
	if len(reply) == 0 {
		return "", "", unexpectedReply("recover", reply)
	}
	return reply[0], crashes, nil
}

// failureFields encodes an error and its time as asynq's message has them. Appended to a stored message they replace
// what stands there: in protobuf the last one of a field wins.
func failureFields(text string, at time.Time) []byte {
	b := protowire.AppendTag(nil, fieldErrorMsg, protowire.BytesType)
	b = protowire.AppendString(b, errorText(text))
	b = protowire.AppendTag(b, fieldLastFailedAt, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(at.Unix()))
}
