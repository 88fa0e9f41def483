package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/queue"
)

// wantProgress waits until a task's readable hash shows this progress in this state.
func (b *bench) wantProgress(id, state, progress, message string) {
	b.t.Helper()
	b.eventually(func() string {
		view := b.redis.HGetAll(b.t.Context(), queue.ViewKey(id)).Val()
		if view["state"] != state || view["progress"] != progress || view["progress_message"] != message {
			return fmt.Sprintf("view: %v, want state %q, progress %q, message %q", view, state, progress, message)
		}
		return ""
	})
}

func (b *bench) activeProgress() (float64, string) {
	b.t.Helper()
	active := b.consumer.Active()
	if len(active) != 1 {
		b.t.Fatalf("active: %+v", active)
	}
	if active[0].Started.Before(active[0].Since) {
		b.t.Errorf("started before it was taken: %+v", active[0])
	}
	return active[0].Progress, active[0].ProgressMessage
}

func TestProgressIsShownWhileTheTaskRunsAndAfter(t *testing.T) {
	b := newBench(t)
	entered, release := b.startHeld(`1`, nil)
	b.enqueue("t1")
	<-entered
	if fraction, message := b.activeProgress(); fraction >= 0 || message != "" {
		t.Errorf("before a report: %v, %q", fraction, message)
	}
	b.wantProgress("t1", "active", "", "")
	for _, step := range []struct {
		fraction     float64
		message      string
		want         float64
		view, inView string
	}{
		{math.NaN(), "starting", -1, "", "starting"},
		{0.4, "epoch 4", 0.4, "0.4", "epoch 4"},
		{-1, "epoch 5", 0.4, "0.4", "epoch 5"},
		{1.0 / 3, "", 1.0 / 3, "0.3333", ""},
		{math.Inf(1), "at the end", 1, "1", "at the end"},
		{0, "again", 0, "0", "again"},
	} {
		b.handler.progress("t1", step.fraction, step.message)
		if fraction, message := b.activeProgress(); fraction != step.want || message != step.message {
			t.Errorf("after %+v: %v, %q", step, fraction, message)
		}
		b.wantProgress("t1", "active", step.view, step.inView)
	}
	b.handler.progress("t2", 0.5, "of a task that is not here")
	b.handler.progress("t1", 0.9, "last")
	close(release)
	b.waitFinished("t1")
	b.wantProgress("t1", "completed", "0.9", "last")
	b.handler.progress("t1", 0.1, "too late")
	b.stop()
	b.wantProgress("t1", "completed", "0.9", "last")
	if n := b.redis.Exists(t.Context(), queue.ViewKey("t2")).Val(); n != 0 {
		t.Error("a task that is not here has got a readable hash")
	}
}

func TestProgressBeginsAnewWithEachAttempt(t *testing.T) {
	b := newBench(t)
	second, release := make(chan struct{}), make(chan struct{})
	b.start(func(_ context.Context, task *queue.Task) (json.RawMessage, error) {
		if task.RetryCount == 0 {
			b.handler.progress(task.ID, 0.7, "nearly")
			return nil, &queue.RetryError{Message: "again", Delay: time.Second}
		}
		close(second)
		<-release
		return nil, errors.New("for good")
	})
	b.enqueue("t1", asynq.MaxRetry(1))
	b.waitFinished("!t1")
	<-second
	b.wantProgress("t1", "active", "", "")
	if fraction, message := b.activeProgress(); fraction >= 0 || message != "" {
		t.Errorf("the second attempt begins with %v, %q", fraction, message)
	}
	close(release)
	b.waitFinished("!t1")
}

// However often a handler reports, Redis hears of it about twice a second.
func TestProgressIsWrittenNowAndThen(t *testing.T) {
	b := newBench(t)
	entered, release := b.startHeld(`1`, nil)
	b.enqueue("t1")
	<-entered
	b.wantProgress("t1", "active", "", "")
	before, began := commandCount(t, b.redis)["eval"], time.Now()
	for i := range 200_000 {
		b.handler.progress("t1", float64(i)/200_000, "")
	}
	b.handler.progress("t1", 1, "all")
	b.wantProgress("t1", "active", "1", "all")
	most := 4 * int(time.Since(began)/(500*time.Millisecond)+2) // some are of the copied lists
	if n := commandCount(t, b.redis)["eval"] - before; n > most {
		t.Errorf("%d scripts in %v, want at most %d", n, time.Since(began), most)
	}
	close(release)
	b.waitFinished("t1")
}
