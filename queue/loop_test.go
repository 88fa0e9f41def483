package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// stage is a loop whose handler, gate and Redis are played by the test, which also says what time it is. Nothing runs by
// itself: the test gives events to the loop and looks at what it does.
type stage struct {
	t         *testing.T
	loop      *loop
	now       time.Time
	room      Room
	submitted []*attempt
	cancelled []string
	shut      bool
	taken     int
	finished  []string
}

func (s *stage) Submit(_ *Task, a Attempt) { s.submitted = append(s.submitted, a.(*attempt)) }
func (s *stage) Cancel(t *Task)            { s.cancelled = append(s.cancelled, t.ID) }
func (s *stage) Room() Room {
	return Room{Free: max(0, s.room.Free-len(s.submitted)), Rate: s.room.Rate}
}
func (s *stage) Open() bool               { return !s.shut }
func (s *stage) Changed() <-chan struct{} { return nil }

func newStage(t *testing.T, concurrency int, queues map[string]int, strict bool) *stage {
	t.Helper()
	s := &stage{t: t, now: time.Unix(1_800_000_000, 0), room: Room{Free: concurrency}}
	c, err := NewConsumer(Clients{}, s, s, Options{
		WorkerID: "w", Nonce: "n", Queues: queues, StrictPriority: strict, Concurrency: concurrency, MaxTaskCrashes: 3,
		ResultTTL: time.Hour, BeatInterval: time.Second, BeatTTL: time.Second, Views: true, Logger: slog.New(slog.DiscardHandler),
		Observer: Observer{Finished: func(task *Task, _ time.Duration, failed bool) {
			s.finished = append(s.finished, fmt.Sprint(task.ID, failed))
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.loop = c.loop
	s.loop.opts.Views = false
	s.loop.timer = time.NewTimer(time.Hour)
	t.Cleanup(func() { s.loop.timer.Stop(); c.broker.silent.close() })
	return s
}

// cycle returns the request that the loop has made of a queue; nil: none.
func (s *stage) cycle(queue string) *cycleRequest {
	s.loop.advance(s.now)
	select {
	case r := <-s.loop.byName(queue).cycler.requests:
		return &r
	default:
		return nil
	}
}

// waiting returns the request that the loop has sent behind a claim; nil: none.
func (s *stage) waiting(queue string) *cycleRequest {
	s.loop.advance(s.now)
	select {
	case r := <-s.loop.byName(queue).watcher.requests:
		return &r
	default:
		return nil
	}
}

// answer ends the cycle under way: every outcome is applied, and these tasks are taken.
func (s *stage) answer(queue string, tasks ...Task) { s.answerAs(eventCycled, queue, tasks...) }

func (s *stage) answerAs(kind eventKind, queue string, tasks ...Task) {
	q := s.loop.byName(queue)
	reply := cycleReply{statuses: make([]itemStatus, len(q.sent))}
	var taken []*attempt
	for i := range tasks {
		s.taken++
		task := tasks[i]
		task.Queue = queue
		if task.MaxRetry == 0 {
			task.MaxRetry = 5
		}
		taken = append(taken, &attempt{
			loop: s.loop, task: &task, raw: protowire.AppendTag(nil, 1, protowire.VarintType)[:0], owner: fmt.Sprint("w|n|1.", s.taken),
			taken: s.now, heapIndex: -1,
		})
		reply.taken = append(reply.taken, takenTask{})
	}
	s.loop.handle(&event{kind: kind, queue: q, cycle: cycleResult{reply: reply, taken: taken}}, s.now)
	s.loop.advance(s.now)
}

// end ends the attempt that was submitted first.
func (s *stage) end(err error) {
	a := s.submitted[0]
	s.submitted = s.submitted[1:]
	s.loop.handle(&event{kind: eventEnded, attempt: a, result: json.RawMessage(`1`), err: err}, s.now)
}

func (s *stage) begin(a *attempt) {
	a.Began(s.now)
	for _, e := range s.loop.inbox.take(nil) {
		s.loop.handle(&e, s.now)
	}
}

func (s *stage) wantTake(queue string, take int) *cycleRequest {
	s.t.Helper()
	r := s.cycle(queue)
	switch {
	case r == nil && take >= 0:
		s.t.Fatalf("queue %s is not asked, want a cycle that takes %d", queue, take)
	case r != nil && r.take != take:
		s.t.Fatalf("queue %s is asked for %d tasks, want %d", queue, r.take, take)
	}
	return r
}

func ended(r *cycleRequest) (list []string) {
	for _, it := range r.items {
		list = append(list, it.id+" "+outcomeOf(it.end))
	}
	return list
}

func TestRoomIsSharedByWeight(t *testing.T) {
	s := newStage(t, 8, map[string]int{"a": 3, "b": 1}, false)
	s.wantTake("a", 6)
	s.wantTake("b", 2)
	s.answer("b", Task{ID: "b1"}) // has no more: its room goes to the other
	if r := s.cycle("a"); r != nil {
		t.Fatal("a second cycle was begun before the first was answered")
	}
	s.answer("a", Task{ID: "a1"}, Task{ID: "a2"}, Task{ID: "a3"}, Task{ID: "a4"}, Task{ID: "a5"}, Task{ID: "a6"})
	s.wantTake("a", 1)
}

// With many queues each outcome and each free slot is not a cycle of its own: what comes up while some are under way is
// done by the next ones, together.
func TestCyclesOfSeveralQueuesAreRounds(t *testing.T) {
	for _, late := range []bool{false, true} {
		s := newStage(t, 4, map[string]int{"a": 1, "b": 1}, false)
		s.wantTake("a", 2)
		s.wantTake("b", 2)
		s.answer("a", Task{ID: "a1"}, Task{ID: "a2"})
		s.end(nil)
		if r := s.cycle("a"); r != nil {
			t.Fatalf("queue a has another cycle while that of b is under way: %+v", r)
		}
		s.end(nil)
		if late { // it holds nobody up
			s.now = s.now.Add(s.loop.nextAnswer())
			if r := s.wantTake("a", 1); len(r.items) != 2 {
				t.Errorf("%d outcomes go with it, want 2", len(r.items))
			}
			continue
		}
		s.answer("b", Task{ID: "b1"}, Task{ID: "b2"})
		if r := s.wantTake("a", 1); len(r.items) != 2 {
			t.Errorf("%d outcomes go with it, want 2", len(r.items))
		}
		s.wantTake("b", 1)
	}
}

// Where tasks are short, a queue takes several in its turn, by their measured rate.
func TestShortTasksAreTakenManyInATurn(t *testing.T) {
	s := newStage(t, 5, map[string]int{"a": 1, "b": 1, "c": 1}, false)
	s.room.Rate = 10_000
	s.wantTake("a", 10)
	s.wantTake("b", 5)
	if r := s.cycle("c"); r != nil {
		t.Errorf("queue c: %+v, want no cycle", r)
	}
	s.answer("a")
	s.answer("b")
	s.wantTake("c", 15)
}

func TestTheEmptyAreAskedAgainWhileOthersHaveTasks(t *testing.T) {
	s := newStage(t, 1, map[string]int{"a": 1, "b": 1}, false)
	s.wantTake("a", 1)
	s.answer("a")
	s.wantTake("b", 1)
	s.answer("b", Task{ID: "b1"})
	s.end(nil)
	if r := s.wantTake("b", 1); !slices.Equal(ended(r), []string{"b1 completed"}) {
		t.Errorf("ended: %v", ended(r))
	}
	s.answer("b", Task{ID: "b2"})
	s.now = s.now.Add(2 * emptyFor)
	s.end(nil)
	s.wantTake("b", 1) // by its weight, since the other one was asked before
	s.answer("b", Task{ID: "b3"})
	s.end(nil)
	s.wantTake("a", 1)
}

func TestIdleQueuesAreWaitedFor(t *testing.T) {
	s := newStage(t, 1, map[string]int{"a": 1, "b": 1}, false)
	a, b := s.loop.byName("a"), s.loop.byName("b")
	s.wantTake("a", 1)
	s.answer("a")
	s.wantTake("b", 1)
	if a.watcher.armed.Load() {
		t.Error("it waits although a queue has not answered")
	}
	s.answer("b")
	if !a.watcher.armed.Load() || !b.watcher.armed.Load() {
		t.Error("it does not wait for tasks")
	}
	if s.cycle("a") != nil || s.cycle("b") != nil {
		t.Error("an empty queue is asked")
	}
	s.loop.handle(&event{kind: eventClaim, queue: b}, s.now)
	s.wantTake("b", 1)
	s.answer("b", Task{ID: "b1"})
	if a.watcher.armed.Load() {
		t.Error("it waits although there is no room")
	}
	// What the other watcher claims all the same goes back.
	s.loop.handle(&event{kind: eventClaim, queue: a}, s.now)
	s.wantTake("a", 0)
}

func TestStrictPriority(t *testing.T) {
	s := newStage(t, 2, map[string]int{"high": 9, "low": 1}, true)
	s.wantTake("high", 2)
	if s.cycle("low") != nil {
		t.Fatal("the lower queue is asked before the higher has answered")
	}
	s.answer("high", Task{ID: "h1"})
	s.wantTake("low", 1)
	s.answer("low", Task{ID: "l1"})
	s.end(nil) // h1
	s.wantTake("high", 1)
	s.answer("high")
	s.wantTake("low", 1)
	s.answer("low")
	// A claim from the lower queue: the higher one is asked first, and the claim goes back when it takes the room.
	s.loop.handle(&event{kind: eventClaim, queue: s.loop.byName("low")}, s.now)
	s.wantTake("high", 1)
	s.answer("high", Task{ID: "h2"})
	s.loop.byName("low").due = true
	s.wantTake("low", 0)
}

// Both queues get a task between the regular question to one and that to the other: the lower one's must not come first.
func TestRegularQuestionTakesNothing(t *testing.T) {
	s := newStage(t, 1, map[string]int{"high": 9, "low": 1}, true)
	s.wantTake("high", 1)
	s.answer("high")
	s.wantTake("low", 1)
	s.answer("low")
	s.now = s.now.Add(lookEvery)
	s.wantTake("high", 0)
	s.wantTake("low", 0)
	s.answer("high")
	q := s.loop.byName("low")
	s.loop.handle(&event{kind: eventCycled, queue: q, cycle: cycleResult{reply: cycleReply{more: true}}}, s.now)
	s.loop.handle(&event{kind: eventClaim, queue: s.loop.byName("high")}, s.now)
	s.wantTake("high", 1)
}

func TestPausedQueueIsAskedNowAndThen(t *testing.T) {
	s := newStage(t, 1, map[string]int{"a": 1}, false)
	q := s.loop.byName("a")
	s.wantTake("a", 1)
	s.loop.handle(&event{kind: eventCycled, queue: q, cycle: cycleResult{reply: cycleReply{paused: true, more: true}}}, s.now)
	if s.cycle("a") != nil || q.watcher.armed.Load() {
		t.Error("a paused queue is asked or waited for")
	}
	s.now = s.now.Add(pausedPoll)
	s.wantTake("a", 1)
}

func TestShutGateGivesBackWhatIsHeld(t *testing.T) {
	s := newStage(t, 4, map[string]int{"a": 1}, false)
	s.wantTake("a", 4)
	s.shut = true
	s.answer("a", Task{ID: "a1"}, Task{ID: "a2"})
	r := s.wantTake("a", 0)
	if !slices.Equal(ended(r), []string{"a2 pending", "a1 pending"}) || len(s.submitted) > 0 {
		t.Errorf("ended: %v, submitted: %d", ended(r), len(s.submitted))
	}
}

func TestTasksAreTakenAheadByTheMeasuredRate(t *testing.T) {
	s := newStage(t, 10, map[string]int{"a": 1}, false)
	s.loop.roundTrip = 10 * time.Millisecond
	s.room.Rate = 100 // two or three end within a round trip
	r := s.wantTake("a", 13)
	tasks := make([]Task, r.take)
	for i := range tasks {
		tasks[i].ID = fmt.Sprint("t", i)
	}
	s.answer("a", tasks...)
	if len(s.submitted) != 10 || len(s.loop.held) != 3 {
		t.Fatalf("%d submitted, %d held", len(s.submitted), len(s.loop.held))
	}
	// What waits for longer than a second goes to somebody else.
	s.room.Rate = 0
	s.now = s.now.Add(heldFor)
	if r := s.wantTake("a", 0); !slices.Equal(ended(r), []string{"t12 pending", "t11 pending", "t10 pending"}) {
		t.Errorf("ended: %v", ended(r))
	}
}

func TestNothingIsTakenAheadOfLongTasks(t *testing.T) {
	s := newStage(t, 1, map[string]int{"a": 1}, false)
	s.room.Rate = 5 // tasks of 200 ms
	s.wantTake("a", 1)
}

func TestDeadlineIsFromTheBegin(t *testing.T) {
	s := newStage(t, 2, map[string]int{"a": 1}, false)
	s.wantTake("a", 2)
	s.answer("a", Task{ID: "t1", timeoutSeconds: 10}, Task{ID: "t2", timeoutSeconds: 10})
	s.begin(s.submitted[0])
	s.now = s.now.Add(9 * time.Second)
	s.begin(s.submitted[1])
	s.wantTake("a", 0) // whether Redis works
	s.answer("a")
	s.now = s.now.Add(time.Second)
	s.loop.advance(s.now)
	if !slices.Equal(s.cancelled, []string{"t1"}) {
		t.Fatalf("cancelled: %v", s.cancelled)
	}
	s.end(errors.New("KeyError: 1"))
	r := s.wantTake("a", 1)
	if !slices.Equal(ended(r), []string{"t1 retry"}) {
		t.Errorf("ended: %v", ended(r))
	}
	if m, err := decodeMessage(r.items[0].message); err != nil || m.ErrorMsg != "context deadline exceeded: KeyError: 1" || m.Retried != 1 {
		t.Errorf("stored: %+v, %v", m, err)
	}
}

func TestOnlyCrashesAreCharged(t *testing.T) {
	evidence := errors.New("exit code 139")
	for name, c := range map[string]struct {
		task    Task
		err     error
		outcome string
		fields  [2]int // crashes, suspicions
		failed  bool
	}{
		"crash":              {Task{Crashes: 1}, &CrashError{Err: evidence}, "retry", [2]int{2, -1}, true},
		"third crash":        {Task{Crashes: 2}, &CrashError{Err: evidence}, "archived", [2]int{3, -1}, true},
		"suspicion":          {Task{Crashes: 2}, &SuspicionError{Err: evidence}, "scheduled", [2]int{-1, 1}, false},
		"another suspicion":  {Task{Suspicions: 2}, &SuspicionError{Err: evidence}, "scheduled", [2]int{-1, 3}, false},
		"untouched":          {Task{}, ErrUntouched, "pending", [2]int{-1, -1}, false},
		"no retry is left":   {Task{RetryCount: 5}, evidence, "archived", [2]int{-1, -1}, true},
		"permanent":          {Task{}, &PermanentError{Message: "x"}, "archived", [2]int{-1, -1}, true},
		"retry at once":      {Task{}, &RetryError{}, "retry", [2]int{-1, -1}, true},
		"a crash is the end": {Task{RetryCount: 5}, &CrashError{Err: evidence}, "archived", [2]int{1, -1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 1, map[string]int{"a": 1}, false)
			s.wantTake("a", 1)
			c.task.ID = "t"
			s.answer("a", c.task)
			s.begin(s.submitted[0])
			s.end(c.err)
			it := s.wantTake("a", 1).items[0]
			if outcomeOf(it.end) != c.outcome || [2]int{it.crashes, it.suspicions} != c.fields {
				t.Errorf("%s, crashes %d, suspicions %d", outcomeOf(it.end), it.crashes, it.suspicions)
			}
			if failed := len(s.finished) > 0; failed != c.failed {
				t.Errorf("finished: %v", s.finished)
			}
			if retry, ok := errors.AsType[*RetryError](c.err); ok && it.delay != retry.Delay {
				t.Errorf("due in %v, want %v", it.delay, retry.Delay)
			}
		})
	}
}

func TestSuspectRunsAlone(t *testing.T) {
	s := newStage(t, 3, map[string]int{"a": 1}, false)
	s.wantTake("a", 3)
	s.answer("a", Task{ID: "t1"}, Task{ID: "suspect", Suspicions: 3}, Task{ID: "another", Suspicions: 4})
	r := s.wantTake("a", 0)
	if !slices.Equal(ended(r), []string{"another pending"}) || len(s.submitted) != 1 {
		t.Fatalf("ended: %v; %d submitted", ended(r), len(s.submitted))
	}
	s.answer("a")
	s.end(nil)
	s.wantTake("a", 0)
	if len(s.submitted) != 1 || s.submitted[0].task.ID != "suspect" || !s.loop.alone.Load() {
		t.Fatalf("submitted: %v", s.submitted)
	}
	s.answer("a")
	if s.cycle("a") != nil {
		t.Error("tasks are taken while one runs alone")
	}
	s.end(errors.New("KeyError"))
	r = s.wantTake("a", 3)
	if s.loop.alone.Load() {
		t.Error("a task still runs alone")
	}
	if it := r.items[0]; it.suspicions != 0 || it.postponed != 0 {
		t.Errorf("it has run alone and the process lives, and is still suspected: %+v", it)
	}
}

func TestSuspectIsPutOff(t *testing.T) {
	s := newStage(t, 2, map[string]int{"a": 1}, false)
	s.wantTake("a", 2)
	s.answer("a", Task{ID: "long"}, Task{ID: "suspect", Suspicions: 3})
	s.now = s.now.Add(aloneWait)
	it := s.wantTake("a", 1).items[0]
	if it.id != "suspect" || it.end != endPostpone || it.delay != alonePut || it.postponed != 1 || it.suspicions != -1 {
		t.Errorf("%+v", it)
	}
	// For as long as it is away others are too: one after the other would keep this worker from its tasks.
	s.answer("a", Task{ID: "another", Suspicions: 3})
	if it := s.wantTake("a", 1).items[0]; it.id != "another" || it.end != endPostpone || it.postponed != 1 {
		t.Errorf("%+v", it)
	}
	s.now = s.now.Add(alonePut)
	s.answer("a", Task{ID: "suspect", Suspicions: 3})
	s.loop.suspect.attempt.postponed = aloneTries
	s.loop.suspect.until = time.Time{}
	s.now = s.now.Add(time.Hour)
	if s.loop.advance(s.now); s.loop.suspect == nil {
		t.Error("it is put off for a fifth time")
	}
}

func TestDrainGivesBackAndWaits(t *testing.T) {
	s := newStage(t, 2, map[string]int{"a": 1}, false)
	s.room.Rate = 1000
	s.wantTake("a", 3)
	s.answer("a", Task{ID: "t1"}, Task{ID: "t2"}, Task{ID: "t3"})
	s.loop.handle(&event{kind: eventDrain}, s.now)
	r := s.wantTake("a", 0)
	if !slices.Equal(ended(r), []string{"t3 pending"}) {
		t.Errorf("ended: %v", ended(r))
	}
	s.answer("a", Task{ID: "late"})
	if r = s.wantTake("a", 0); !slices.Equal(ended(r), []string{"late pending"}) {
		t.Errorf("ended: %v", ended(r))
	}
	s.answer("a")
	s.end(nil)
	s.end(context.Canceled)
	r = s.wantTake("a", 0)
	if !slices.Equal(ended(r), []string{"t1 completed", "t2 retry"}) {
		t.Errorf("ended: %v", ended(r))
	}
	if !isDone(s.loop.idle) || isDone(s.loop.flushed) {
		t.Error("with no task at the handler it is idle, and not flushed before Redis has answered")
	}
	s.answer("a")
	if !isDone(s.loop.flushed) {
		t.Error("it is not flushed")
	}
}

func TestViewsOfShortTasksAreWrittenOnce(t *testing.T) {
	s := newStage(t, 2, map[string]int{"a": 1}, false)
	s.loop.opts.Views = true
	s.wantTake("a", 2)
	s.answer("a", Task{ID: "long"}, Task{ID: "short"})
	s.wantTake("a", -1)
	s.begin(s.submitted[0])
	s.begin(s.submitted[1])
	s.submitted[0], s.submitted[1] = s.submitted[1], s.submitted[0]
	s.end(nil)
	r := s.wantTake("a", 1)
	if len(r.views) != 0 || !slices.Contains(r.items[0].view, "payload") {
		t.Errorf("views: %v, of the end: %v", r.views, r.items[0].view)
	}
	s.answer("a")
	s.now = s.now.Add(viewAfter)
	if r = s.wantTake("a", 0); len(r.views) != 1 || r.views[0].id != "long" {
		t.Errorf("views: %v", r.views)
	}
	s.answer("a")
	s.end(nil)
	if r = s.wantTake("a", 0); slices.Contains(r.items[0].view, "payload") {
		t.Errorf("the payload is written again: %v", r.items[0].view)
	}
}
