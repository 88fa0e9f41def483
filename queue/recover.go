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

// Recoverer gives the tasks of dead workers to live ones. It judges nobody: its caller knows who is dead. Every step
// is guarded per task inside Redis, so any number of recoverers may act at once, and a worker that was taken for dead
// finds its late acknowledgement refused. It is safe for concurrent use.
type Recoverer struct {
	client  redis.UniversalClient
	scripts scripts
	opts    RecovererOptions
}

// RecovererOptions say how a Recoverer treats what it finds.
type RecovererOptions struct {
	MaxTaskCrashes int // a task that has lost its worker this often is archived; 0: never
	Logger         *slog.Logger
}

// Recovered counts what a recovery did.
type Recovered struct {
	Requeued int // back at the head of pending
	Archived int // lost for the last time
}

// NewRecoverer returns a Recoverer. The client may retry by itself: a repeated step finds nothing left to do.
func NewRecoverer(client redis.UniversalClient, opts RecovererOptions) *Recoverer {
	return &Recoverer{client: client, scripts: newScripts(), opts: opts}
}

// OfProcess recovers the tasks that one process of a worker holds in a queue. Its death must be proven: the leases of
// its tasks are not looked at.
func (r *Recoverer) OfProcess(ctx context.Context, queue, workerID, nonce string) (Recovered, error) {
	return r.recover(ctx, queue, "its worker process died", func(o activeTask) (latest string, yes bool) {
		return "", o.worker == workerID && o.nonce == nonce
	})
}

// OfPredecessors recovers the tasks of all earlier processes with the caller's own worker id, which is the caller's
// alone once it has claimed it. nonce is the caller's.
func (r *Recoverer) OfPredecessors(ctx context.Context, queue, workerID, nonce string) (Recovered, error) {
	return r.recover(ctx, queue, "its worker process was succeeded by another", func(o activeTask) (latest string, yes bool) {
		return "", o.worker == workerID && o.nonce != nonce
	})
}

// Lapsed recovers active tasks whose lease ended at least margin ago, or that have none, unless their owner is alive:
// a worker that beats is left to its own audit. Tasks that no worker of ours took are left to asynq's recoverer while
// they have a lease. margin allows for clocks that differ.
func (r *Recoverer) Lapsed(ctx context.Context, queue string, alive func(workerID, nonce string) bool, margin time.Duration) (Recovered, error) {
	latest := time.Now().Add(-margin).Unix()
	return r.recover(ctx, queue, "its worker fell silent and the lease ended", func(o activeTask) (string, bool) {
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

// recover goes through a queue's active list and takes what choose names; latest is the end of the lease up to which
// it may, or empty for any.
func (r *Recoverer) recover(ctx context.Context, queue, why string, choose func(activeTask) (latest string, yes bool)) (Recovered, error) {
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
		outcome, crashes, err := r.take(ctx, queue, t, latest, why)
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
		r.opts.Logger.Warn("recovered a task", "queue", queue, "task_id", t.id, "why", why, "of_worker", t.worker,
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
