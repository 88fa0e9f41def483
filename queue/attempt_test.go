package queue

import (
	"context"
	"errors"
	"testing"
	"time"
)

// handedOut is a run of a task that holds a slot, as after a dequeue.
func handedOut(as *attempts, id string) *attempt {
	as.slots <- struct{}{}
	number, owner := as.ask()
	a := &attempt{
		task: &Task{ID: id, Queue: "q", Deadline: time.Now().Add(time.Hour)}, key: taskKey("q", id), owner: owner,
		number: number, taken: time.Now(), gone: make(chan struct{}),
	}
	as.answered(number, a)
	return a
}

// A task that was given back can be taken, run and failed again before asynq has acknowledged the first run as done:
// that acknowledgement must not be taken for the second run's, whose failure would be lost.
func TestAcknowledgementsGoToTheRunThatEndedSo(t *testing.T) {
	as := newAttempts("w", "n", 2)
	ctx, now := t.Context(), time.Now()
	untouched := handedOut(as, "t1")
	as.start(ctx, untouched.key, now)
	as.settle(untouched)
	as.finish(untouched, now, false)
	failed := handedOut(as, "t1")
	as.start(ctx, failed.key, now)
	as.finish(failed, now, true)

	if a, settled := as.acknowledging(untouched.key, outcomeDone, now); a != untouched || !settled {
		t.Errorf("done was taken for the run %v, settled %v", a, settled)
	}
	if a, settled := as.acknowledging(untouched.key, outcomeRetry, now); a != failed || settled {
		t.Errorf("retry was taken for the run %v, settled %v", a, settled)
	}
}

// asynq sends a failed acknowledgement again, under a context that is over: it must not pass for another run's.
func TestAcknowledgementUnderAnEndedContextIsNobodys(t *testing.T) {
	as := newAttempts("w", "n", 1)
	run := handedOut(as, "t1")
	as.start(t.Context(), run.key, time.Now())
	as.finish(run, time.Now(), false)
	ended, end := context.WithCancel(t.Context())
	end()
	b := &broker{attempts: as}
	if err := b.acknowledge(ended, nil, acknowledgement{queue: "q", id: "t1", out: outcomeDone}, nil, nil).Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("an acknowledgement after its context: %v, want %v", err, context.Canceled)
	}
	if a, settled := as.acknowledging(run.key, outcomeDone, time.Now()); a != run || settled {
		t.Errorf("the run's own acknowledgement finds %v, settled %v", a, settled)
	}
}
