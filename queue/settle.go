package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"
)

// maxErrorText bounds what is kept of a failed attempt's error, in bytes. asynq stores it inside the task.
const maxErrorText = 16 << 10

// suspicionSpread is over how long the tasks of a process that died while several ran come back, doubled with each
// suspicion of a task: so they run with others next time, and one that takes the process down does not make all of them
// suspects.
const suspicionSpread = 2 * time.Second

// refusedFor is how long an outcome waits that Redis has refused for a reason that passes.
const refusedFor = 500 * time.Millisecond

// errTaken says that the task has been taken away from this worker.
var errTaken = errors.New("the task is no longer this worker's")

// endedAttempt is an attempt whose outcome Redis has yet to apply.
type endedAttempt struct {
	attempt *attempt
	item    item
	failure error // what is logged and shown of it; nil: none
	stuck   bool  // Redis has refused it, for a reason that passes

	stuckSince time.Time // when it first did
}

// ended takes the handler's answer.
func (l *loop) ended(a *attempt, result json.RawMessage, took time.Duration, err error, now time.Time) {
	l.submitted--
	if l.suspect != nil && l.suspect.attempt == a {
		l.setSuspect(nil)
	}
	l.overdone = false
	if err != nil {
		l.unsuccessful(a, took, err, now)
		return
	}
	l.observer.finished(a.task, took, false)
	l.succeed(a, result, took, now)
}

// unsuccessful ends an attempt that has brought no result.
func (l *loop) unsuccessful(a *attempt, took time.Duration, err error, now time.Time) {
	var (
		crash     *CrashError
		suspicion *SuspicionError
		retry     *RetryError
		permanent *PermanentError
	)
	switch {
	case errors.Is(err, ErrUntouched) && errors.Is(a.cause, context.Canceled):
		l.fail(a, context.Canceled, 0, now) // as one that is cancelled before it is with the handler
	case errors.Is(err, ErrUntouched):
		l.settle(a, endReturn)
	case errors.As(err, &suspicion):
		l.suspected(a, suspicion)
	case errors.As(err, &crash):
		l.crashed(a, crash, took, now)
	case a.cause != nil && !errors.As(err, &permanent):
		l.fail(a, cancelledError(a.cause, err), took, now)
	case errors.As(err, &retry):
		l.fail(a, &RetryError{Delay: retry.Delay, Message: errorText(retry.Message)}, took, now)
	default:
		l.fail(a, err, took, now)
	}
}

// cancelledError is what is kept of an attempt that was cancelled: the cause first, as asynq has it.
func cancelledError(cause, err error) error {
	if errors.Is(err, cause) || strings.HasPrefix(err.Error(), cause.Error()) {
		return err
	}
	return fmt.Errorf("%w: %w", cause, err)
}

// succeed ends an attempt with its result.
func (l *loop) succeed(a *attempt, result json.RawMessage, took time.Duration, now time.Time) {
	if len(result) == 0 {
		result = json.RawMessage("null")
	}
	it := newItem(a, endDone)
	it.result, it.retention, it.uniqueKey = result, a.task.Retention, a.task.uniqueKey
	if a.task.Retention > 0 {
		it.message = completedMessage(a.raw)
	}
	it.view, it.viewAnew = l.endView(a, now, took, "completed", "", a.task.RetryCount)
	l.end(a, it, nil)
}

// crashed counts a crash of the process against the task that was running.
func (l *loop) crashed(a *attempt, crash *CrashError, took time.Duration, now time.Time) {
	crashes := a.task.Crashes + 1
	text := errorText(crash.Error())
	failure := errors.New(text)
	if most := l.opts.MaxTaskCrashes; most > 0 && crashes >= most {
		failure = error(&PermanentError{Message: fmt.Sprintf(
			"archived: it took the Python process down %d times (max_task_crashes is %d); last time: %s", crashes, most, text)})
	}
	l.failWith(a, failure, took, now, func(it *item) { it.crashes, it.suspicions, it.postponed = crashes, -1, -1 })
}

// suspected gives a task back that may or may not have taken the process down.
func (l *loop) suspected(a *attempt, suspicion *SuspicionError) {
	it := newItem(a, endPostpone)
	it.suspicions = a.task.Suspicions + 1
	spread := suspicionSpread << min(a.task.Suspicions, 4)
	it.delay = time.Duration(1+rand.Int64N(int64(spread/time.Second))) * time.Second
	it.view = append(l.returnView(a, "scheduled"), "suspicions", itoa(it.suspicions),
		"error", "not charged: "+errorText(suspicion.Error()))
	l.log.Warn("task suspected", "queue", a.task.Queue, "task_id", a.task.ID, "suspicions", it.suspicions, "error", suspicion)
	l.end(a, it, nil)
}

// fail ends an attempt that failed: it is retried, or archived when no retry is left or would help.
func (l *loop) fail(a *attempt, err error, took time.Duration, now time.Time) {
	l.failWith(a, err, took, now, func(*item) {})
}

func (l *loop) failWith(a *attempt, err error, took time.Duration, now time.Time, also func(*item)) {
	if a.began.IsZero() {
		took = -1
	}
	l.observer.finished(a.task, took, true)
	var permanent *PermanentError
	text := errorText(err.Error())
	end, state, retried := endRetry, "retry", a.task.RetryCount+1
	if a.task.RetryCount >= a.task.MaxRetry || errors.As(err, &permanent) {
		end, state, retried = endArchive, "archived", a.task.RetryCount
	}
	it := newItem(a, end)
	it.message = a.failedMessage(text, end == endRetry)
	if end == endRetry {
		it.delay = retryDelay(a.task, err)
	}
	if a.alone { // it has run alone, and the process lives
		it.suspicions, it.postponed = 0, 0
	}
	also(&it)
	it.view, it.viewAnew = l.endView(a, now, took, state, text, retried)
	if it.crashes >= 0 {
		it.view = append(it.view, "crashes", itoa(it.crashes))
	}
	l.log.Warn("task failed", "queue", a.task.Queue, "task_id", a.task.ID, "type", a.task.Type,
		"retry_count", a.task.RetryCount, "max_retry", a.task.MaxRetry, "error", err)
	l.end(a, it, err)
}

// settle gives back a task that did not run.
func (l *loop) settle(a *attempt, end ending) {
	it := newItem(a, end)
	state := "pending"
	if end == endPostpone {
		it.delay, it.postponed, state = alonePut, a.postponed, "scheduled"
	}
	if end != endReturnLast { // the view of a twin is the other one's
		it.view = l.returnView(a, state)
	}
	l.end(a, it, nil)
}

func newItem(a *attempt, end ending) item {
	return item{
		id: a.task.ID, owner: a.owner, end: end, delay: 0,
		crashes: -1, suspicions: -1, recoveries: -1, postponed: -1,
	}
}

// end queues an attempt's outcome for the next cycle.
func (l *loop) end(a *attempt, it item, failure error) {
	l.deadlines.remove(a)
	l.table.end(a)
	if l.accepted[a.task.ID] == a {
		delete(l.accepted, a.task.ID)
	}
	if !l.opts.Views {
		it.view = nil
	}
	q := l.byName(a.task.Queue)
	q.ended = append(q.ended, &endedAttempt{attempt: a, item: it, failure: failure})
}

// nextItems returns what the next cycle applies, the attempts it is of, and the rest.
func (q *queueState) nextItems() (items []item, sent, rest []*endedAttempt) {
	if len(q.ended) == 0 {
		return nil, nil, nil
	}
	orderReturns(q.ended)
	items = make([]item, len(q.ended))
	for i, e := range q.ended {
		items[i] = e.item
	}
	n := fit(items)
	return items[:n], q.ended[:n:n], q.ended[n:]
}

// orderReturns has what goes back to the head of pending do so from the last one taken to the first, since each goes in
// front of those before it.
func orderReturns(ended []*endedAttempt) {
	goesBack := func(e *endedAttempt) bool { return e.item.end == endReturn }
	if !slices.ContainsFunc(ended, goesBack) {
		return
	}
	slices.SortStableFunc(ended, func(a, b *endedAttempt) int {
		switch {
		case goesBack(a) && goesBack(b):
			return cmp.Compare(b.attempt.order, a.attempt.order)
		case goesBack(a):
			return 1
		case goesBack(b):
			return -1
		}
		return 0
	})
}

// settled learns what Redis has made of the outcomes of a cycle.
func (l *loop) settled(q *queueState, reply *cycleReply, now time.Time) {
	if len(q.sent) == 0 {
		return
	}
	gone := make([]*attempt, 0, len(q.sent))
	wasStuck, refusal := q.stuck > 0, ""
	for i, e := range q.sent {
		status := refused
		if i < len(reply.statuses) {
			status = reply.statuses[i]
		}
		if e.stuck {
			q.stuck--
		}
		if e.stuck = status == refused && passes(reply.refusals[i]); e.stuck {
			q.stuck++
			q.refused = append(q.refused, e)
			q.refusedUntil = now.Add(refusedFor)
			refusal = reply.refusals[i]
			if e.stuckSince.IsZero() {
				e.stuckSince = now
			}
			continue
		}
		gone = append(gone, e.attempt)
		switch {
		case status == fenced:
			l.observer.fenced(q.name)
			l.log.Warn("late acknowledgement refused", "queue", q.name, "task_id", e.item.id, "outcome", outcomeOf(e.item.end))
		case status == refused:
			l.audit()
			l.log.Error("outcome refused", "queue", q.name, "task_id", e.item.id, "outcome", outcomeOf(e.item.end), "error", reply.refusals[i])
		case e.item.end == endRetry:
			l.observer.retried(q.name)
		case e.item.end == endArchive:
			l.observer.archived(q.name)
		case e.item.end == endReturn:
			l.log.Info("task requeued", "queue", q.name, "task_id", e.item.id, "reason", "not run")
		}
	}
	l.table.remove(gone)
	q.sent = nil
	if refusal != "" || wasStuck && q.stuck == 0 {
		l.receipts.outcomes(q.name, q.stuckSince(), refusal)
	}
}

// stuckSince is when the outcome was first refused that has been refused for the longest; zero: none is.
func (q *queueState) stuckSince() (since time.Time) {
	for _, list := range [][]*endedAttempt{q.refused, q.ended} {
		for _, e := range list {
			if e.stuck && (since.IsZero() || e.stuckSince.Before(since)) {
				since = e.stuckSince
			}
		}
	}
	return since
}

// resendRefused has outcomes sent again that Redis has refused for a reason that passes.
func (q *queueState) resendRefused(now time.Time) {
	if len(q.refused) > 0 && !now.Before(q.refusedUntil) {
		q.ended = append(q.refused, q.ended...)
		q.refused = nil
	}
}

// retryDelay is asynq's, unless the failure says when.
func retryDelay(t *Task, err error) time.Duration {
	var retry *RetryError
	if errors.As(err, &retry) {
		// asynq keeps whole seconds and would cut a part of one off.
		return max(0, (retry.Delay + time.Second - 1).Truncate(time.Second))
	}
	return asynq.DefaultRetryDelayFunc(t.RetryCount, err, asynq.NewTask(t.Type, nil))
}

// errorText makes an error fit to be stored: asynq cannot encode what is not UTF-8 and would leave the task in active,
// and a task should not grow without bound. The middle goes first: the type and the last line say the most.
func errorText(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxErrorText {
		return s
	}
	const gap = "\n… (cut) …\n"
	half := (maxErrorText - len(gap)) / 2
	return strings.ToValidUTF8(s[:half], "") + gap + strings.ToValidUTF8(s[len(s)-half:], "")
}

// outcomeOf names what was to become of a task, as its view does.
func outcomeOf(end ending) string {
	switch end {
	case endDone:
		return "completed"
	case endRetry:
		return "retry"
	case endArchive:
		return "archived"
	case endPostpone:
		return "scheduled"
	case endReturn, endReturnLast, endNothing:
	}
	return "pending"
}
