package queue

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// endFirst makes a client end a task before a script runs for the first time, and lose the answer of that.
type endFirst struct {
	loseAnswers
	end func()
}

func (h endFirst) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	lossy := h.loseAnswers.ProcessHook(next)
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" && cmd.Args()[1] == h.script {
			h.end()
		}
		return lossy(ctx, cmd)
	}
}

// A task may end after the audit has listed it. The audit says that a task was requeued when it was, and not when an
// answer was lost and the task is gone.
func TestAuditTellsWhatItRequeued(t *testing.T) {
	for _, ends := range []bool{false, true} {
		server := redistest.Start(t)
		b := connected(t, server.URL, server.Client)
		b.enqueue(1)
		task := b.cycle(cycleRequest{take: 1}).taken[0]
		if err := b.scripts.requeue.Load(t.Context(), b.client).Err(); err != nil {
			t.Fatal(err)
		}
		client, calls := b.open(), 0
		client.AddHook(endFirst{
			loseAnswers: loseAnswers{script: b.scripts.requeue.Hash(), lose: func() bool { return ends && calls == 1 }},
			end: func() {
				if calls++; ends && calls == 1 {
					b.cycle(cycleRequest{items: []item{b.item(task, endDone)}})
				}
			},
		})
		var log bytes.Buffer
		au := &auditor{
			client: client, scripts: b.scripts, table: newAttemptTable(b.worker, b.nonce), log: slog.New(slog.NewTextHandler(&log, nil)),
		}
		if err := au.audit(t.Context(), "q"); err != nil {
			t.Fatal(err)
		}
		if said := strings.Contains(log.String(), "task requeued"); said == ends {
			t.Errorf("the task has ended %v: the log is %q", ends, log.String())
		}
		if n := len(b.list(pendingKey("q"))); (n == 1) == ends {
			t.Errorf("the task has ended %v: %d tasks are pending", ends, n)
		}
		if ends && calls != 2 {
			t.Errorf("asked %d times, want twice", calls)
		}
	}
}
