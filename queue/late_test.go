package queue

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// asynq drops the acknowledgement of a run whose lease has ended. Whether the task had been taken away is found out
// afterwards: only then was a late acknowledgement kept from doing harm.
func TestDroppedAcknowledgementsAreSettled(t *testing.T) {
	server := redistest.Start(t)
	ctx := t.Context()
	as := newAttempts("w", "n", 4)
	long := time.Now().Add(-time.Minute)
	for _, id := range []string{"ours", "taken", "gone", "settled"} {
		a := handedOut(as, id)
		as.start(ctx, a.key, long)
		if id != "gone" {
			server.Client.HSet(ctx, a.key, "owner", a.owner)
		}
		if id == "taken" || id == "settled" {
			server.Client.HSet(ctx, a.key, "owner", "other|m|1")
		}
		if id == "settled" {
			as.settle(a)
		}
		as.finish(a, long, false)
	}
	var fenced []string
	au := &auditor{client: server.Client, attempts: as, log: slog.New(slog.DiscardHandler), fenced: func(_, id string) { fenced = append(fenced, id) }}
	n, late := as.prune(time.Now(), attemptGracePeriod)
	if n != 4 || len(late) != 3 {
		t.Errorf("%d runs were dropped, %d of them for nothing; want 4, 3", n, len(late))
	}
	au.late = late

	server.Kill()
	au.settleLate(ctx)
	if len(fenced) > 0 || len(au.late) != 3 {
		t.Errorf("while Redis is away %v are settled", fenced)
	}
	server.Restart() // and everything in it is lost, but for this
	server.Client.HSet(ctx, taskKey("q", "ours"), "owner", "w|n|1")
	au.settleLate(ctx)
	slices.Sort(fenced)
	if !slices.Equal(fenced, []string{"gone", "taken"}) || len(au.late) > 0 {
		t.Errorf("refused: %v, not settled: %d", fenced, len(au.late))
	}
}
