package queue

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
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
// the fourth is asynq's, for the tasks of asynq's own servers.
//
//	path                 acts                          may take from active                        counts as
//	1 proven death       the fleet's leader, for each  tasks with that worker's id and nonce in    a recovery
//	  OfProcess          worker that is proven dead    their stamp, whatever their lease
//	2 lapsed lease       the fleet's leader, when it   tasks of a process without a heartbeat, if  a recovery
//	  Lapsed             sweeps the queues; without a  their lease ended a margin ago or is gone;
//	                     leader each worker for its    tasks without a stamp, if their lease is
//	                     own                           gone
//	3 successor          a worker that starts, once    tasks with its own id and another nonce in  a recovery
//	  OfPredecessors     it has registered its id      their stamp, whatever their lease
//	4 asynq's recoverer  each worker's asynq server,   tasks without a stamp whose lease ended     a failed attempt
//	                     at its start and then once a  30 s ago
//	                     minute
//
// A recovery leaves the retry count alone, and so do the counts of crashes and suspicions, which are for what a task
// does to its Python process; it archives the task at worker.max_recoveries. A failed attempt is retried with asynq's
// delay while it has retries left.
//
// The lease of a task with a stamp is judged by these paths alone: asynq's recoverer, which goes by the clock of its
// machine, is shown only those without. Here every time is Redis' own.
//
// Five guards keep any two of the paths apart, and each of them from a worker that is alive after all. The first three
// stand inside the script that takes the task, so that nothing can happen between the comparison and the change:
//
//   - Active: every path takes the task by an LREM from active and does nothing when it was not there. Of two paths
//     that come at once for the same run, the second finds it gone.
//   - Owner stamp: recover.lua compares the stamp that its caller has read: worker id, nonce and number of the take. A
//     task that was taken, requeued and taken again meanwhile has another stamp, and is left alone. The same comparison
//     refuses the result and the outcome of the run that lost its task.
//   - Lease: recover.lua compares it again when it comes for a lapsed one. A worker that runs the task extends its
//     lease.
//   - Heartbeat: a lapsed lease alone proves nothing, since no worker can extend one while Redis is away. An owner that
//     beats keeps its task, and so does one of which Redis could not tell.
//   - Identity: an id is registered by one process at a time (heartbeat.Writer.Register), so what OfPredecessors finds
//     under another nonce belongs to a process that is dead or has lost the id. The reaper reads the registry again
//     before it acts on a proof, and removes a worker from there only after its tasks, so that another leader can go on.
//
// A plain asynq.Server that serves the same queue has a recoverer too, and that one takes any task whose lease has
// ended, stamped or not. The run that loses its task so finds its outcome refused.
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
	MaxRecoveries int           // a task that has lost its worker this often is archived; 0: never
	ViewTTL       time.Duration // of the readable hash of a task that is archived; 0: there are none
	// Taken is told whose task was taken back, of each that an owner's stamp names. It may be nil, and must not block.
	Taken  func(workerID, nonce string)
	Logger *slog.Logger // required
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

// OfProcess recovers the tasks that one process of a worker holds in a queue, and then removes the record of its last
// cycle. Its death must be proven: the leases of its tasks are not looked at, and it must ask for no answer any more.
func (r *Recoverer) OfProcess(ctx context.Context, queue, workerID, nonce string) (Recovered, error) {
	done, err := r.recover(ctx, queue, RecoveredDead, func(o activeTask) (latest string, yes bool) {
		return "", o.worker == workerID && o.nonce == nonce
	})
	if err != nil {
		return done, err
	}
	return done, forgetCycle(ctx, r.client, r.scripts.forgetCycle, queue, workerID, nonce)
}

// OfPredecessors recovers the tasks of all earlier processes with the caller's own worker id, which is the caller's
// alone once it has registered it. nonce is the caller's.
func (r *Recoverer) OfPredecessors(ctx context.Context, queue, workerID, nonce string) (Recovered, error) {
	return r.recover(ctx, queue, RecoveredSuccessor, func(o activeTask) (latest string, yes bool) {
		return "", o.worker == workerID && o.nonce != nonce
	})
}

// Lapsed recovers active tasks whose lease ended at least margin ago, or that have none, unless their worker is alive:
// one that has a heartbeat is left to its own audit. alive is asked once for each such task, and should be right at that
// moment. Tasks that no worker of ours took are left to asynq's recoverer while they have a lease. Leases are compared
// with Redis' time; margin is for what is under way.
func (r *Recoverer) Lapsed(ctx context.Context, queue string, alive func(workerID, nonce string) bool, margin time.Duration) (Recovered, error) {
	return r.recover(ctx, queue, RecoveredLapsed, func(t activeTask) (string, bool) {
		latest := t.read - int64(margin/time.Second)
		switch {
		case t.hasLease && (t.worker == "" || t.lease > latest):
			return "", false
		case t.worker != "" && alive(t.worker, t.nonce):
			return "", false
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
	recoveries    int   // so far
	read          int64 // when this was read, by Redis' clock (unix s)
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
		outcome, recoveries, err := r.take(ctx, queue, t, latest)
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
		if r.opts.Taken != nil && t.worker != "" {
			r.opts.Taken(t.worker, t.nonce)
		}
		r.opts.Logger.Warn("task recovered", "queue", queue, "task_id", t.id, "reason", reason, "worker_id", t.worker,
			"outcome", outcome, "recoveries", recoveries)
	}
	return done, nil
}

func (r *Recoverer) active(ctx context.Context, queue string) ([]activeTask, error) {
	reply, err := r.scripts.active.Run(ctx, r.client, []string{activeKey(queue), leaseKey(queue)}, taskKeyPrefix(queue)).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("list the active tasks of queue %s: %w", queue, err)
	}
	if len(reply)%4 != 1 {
		return nil, unexpectedReply("active", reply)
	}
	read, err := strconv.ParseInt(reply[0], 10, 64)
	if err != nil {
		return nil, unexpectedReply("active", reply)
	}
	tasks := make([]activeTask, 0, len(reply)/4)
	for cells := range slices.Chunk(reply[1:], 4) {
		t := activeTask{id: cells[0], owner: cells[1], read: read}
		t.worker, t.nonce = splitOwner(t.owner)
		if lease, err := strconv.ParseFloat(cells[2], 64); err == nil {
			t.hasLease, t.lease = true, int64(lease)
		}
		t.recoveries, _ = strconv.Atoi(cells[3])
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
func (r *Recoverer) take(ctx context.Context, queue string, t activeTask, latest string) (outcome, recoveries string, err error) {
	keys := []string{taskKey(queue, t.id), activeKey(queue), leaseKey(queue), pendingKey(queue), archivedKey(queue)}
	text := fmt.Sprintf("archived: its worker vanished for the %s time (worker.max_recoveries is %d); last worker: %s",
		ordinal(t.recoveries+1), r.opts.MaxRecoveries, cmp.Or(t.worker, "unknown"))
	reply, err := r.scripts.recover.Run(ctx, r.client, keys,
		t.id, t.owner, latest, r.opts.MaxRecoveries, errorField(text)).StringSlice()
	if err != nil {
		return "", "", fmt.Errorf("recover task %s of queue %s: %w", t.id, queue, err)
	}
	if len(reply) == 2 {
		recoveries = reply[1]
	}
	if reply[0] == "archived" {
		r.showArchived(ctx, queue, t.id, recoveries, text)
	}
	return reply[0], recoveries, nil
}

// showArchived brings the readable hash of an archived task up to date: no worker will. Without it the task is archived
// all the same, so that is no failure of the recovery.
func (r *Recoverer) showArchived(ctx context.Context, queue, id, recoveries, text string) {
	if r.opts.ViewTTL <= 0 {
		return
	}
	err := r.scripts.view.Run(ctx, r.client, []string{ViewKey(id)}, r.opts.ViewTTL.Milliseconds(),
		"id", id, "queue", queue, "state", "archived", "recoveries", recoveries, "error", text).Err()
	if err != nil {
		r.opts.Logger.Debug("view not written", "queue", queue, "task_id", id, "error", err)
	}
}

// ordinal returns a number as it is said of a time in a row: 1st, 2nd, 3rd, 4th, 11th, 21st.
func ordinal(n int) string {
	suffix := "th"
	if n/10%10 != 1 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return strconv.Itoa(n) + suffix
}

// errorField encodes an error as asynq's message has it. Appended to a stored message it replaces what stands there: in
// protobuf the last one of a field wins.
func errorField(text string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, fieldErrorMsg, protowire.BytesType), errorText(text))
}
