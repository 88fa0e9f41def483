package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fakeFleet is a fleet that a test makes up.
type fakeFleet struct {
	workers   []Worker
	onInspect func(id string) // called before Inspect answers
}

func (f *fakeFleet) Round(context.Context) ([]Worker, error) { return f.workers, nil }

func (f *fakeFleet) Inspect(_ context.Context, id string) (Worker, bool, error) {
	if f.onInspect != nil {
		f.onInspect(id)
	}
	for _, w := range f.workers {
		if w.ID == id {
			return w, true, nil
		}
	}
	return Worker{}, false, nil
}

// fakeQueue keeps what was enqueued and assigned.
type fakeQueue struct {
	tasks    []Task
	assigned []string
	err      error // of Assign
}

func (q *fakeQueue) Enqueue(_ context.Context, t Task) (TaskInfo, error) {
	q.tasks = append(q.tasks, t)
	return TaskInfo{ID: t.ID, Queue: t.Queue, State: TaskScheduled}, nil
}

func (q *fakeQueue) Assign(_ context.Context, _, taskID, workerID string) error {
	if q.err != nil {
		return q.err
	}
	q.assigned = append(q.assigned, taskID+" to "+workerID)
	return nil
}

func fakeWorker(id string, state State, does Status, queues ...string) Worker {
	return Worker{ID: id, State: state, Alive: state != Dead, Queues: queues, Status: does, Healthy: does == StatusRunning}
}

func testTask(queue string) Task {
	return Task{Queue: queue, Type: "x", Payload: json.RawMessage("1"), ID: "t"}
}

func testDispatcher(f *fakeFleet, q *fakeQueue) *Dispatcher {
	return newDispatcher(DispatcherOptions{Interval: time.Second}, f, q, q)
}

func TestAssignRefusesWorkersThatWouldNotRunTheTask(t *testing.T) {
	f := &fakeFleet{workers: []Worker{
		fakeWorker("free", Free, StatusRunning, "q"),
		fakeWorker("full", Busy, StatusRunning, "q"),
		fakeWorker("degraded", Busy, StatusDegraded, "q"),
		fakeWorker("dead", Dead, StatusRunning, "q"),
	}}
	for id, want := range map[string]string{
		"free": "", "full": "", "degraded": "status is degraded", "dead": "DEAD", "missing": "no such worker",
	} {
		q := &fakeQueue{}
		_, err := testDispatcher(f, q).Assign(t.Context(), id, testTask("q"))
		switch {
		case want == "" && (err != nil || fmt.Sprint(q.assigned) != "[t to "+id+"]"):
			t.Errorf("assign to %s: error %v, assigned %v", id, err, q.assigned)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || len(q.tasks) != 0):
			t.Errorf("assign to %s: error %v, want %q; sent %v", id, err, want, q.tasks)
		}
	}
	q := &fakeQueue{}
	var unavailable *UnavailableError
	if _, err := testDispatcher(f, q).Assign(t.Context(), "free", testTask("other")); !errors.As(err, &unavailable) || len(q.tasks) != 0 {
		t.Errorf("a queue it does not serve: error %v, want an UnavailableError", err)
	}
}

// When the second step fails, the task is in scheduled for a minute and then any worker's: the error tells.
func TestAssignThatFailsHalfWayLosesNothing(t *testing.T) {
	f := &fakeFleet{workers: []Worker{fakeWorker("w", Free, StatusRunning, "q")}}
	q := &fakeQueue{err: errors.New("connection lost")}
	_, err := testDispatcher(f, q).Assign(t.Context(), "w", testTask("q"))
	var half *NotAssignedError
	if !errors.As(err, &half) || half.Task.ID != "t" || !errors.Is(err, q.err) || !strings.Contains(err.Error(), "within a minute") || len(q.tasks) != 1 || q.tasks[0].In != time.Minute {
		t.Errorf("error %v, sent %+v, want an error that tells, and a task for later", err, q.tasks)
	}
}

func TestFreeWorkersAreOfferedAndDeadOnesAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeFleet{workers: []Worker{
			fakeWorker("dead", Dead, StatusRunning, "q"),
			fakeWorker("elsewhere", Free, StatusRunning, "other"),
			fakeWorker("full", Busy, StatusRunning, "q"),
			fakeWorker("dies", Free, StatusRunning, "q"),
			fakeWorker("lives", Free, StatusRunning, "q"),
		}}
		f.onInspect = func(id string) {
			if id == "dies" { // between the offer and the assignment
				f.workers[3] = fakeWorker("dies", Dead, StatusRunning, "q")
			}
		}
		q := &fakeQueue{}
		d := testDispatcher(f, q)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		if _, id, err := d.AssignAny(ctx, testTask("q")); err != nil || id != "lives" {
			t.Errorf("assigned to %q, want lives; error %v", id, err)
		}
		if fmt.Sprint(q.assigned) != "[t to lives]" {
			t.Errorf("assigned %v, want one task to lives", q.assigned)
		}
		short, end := context.WithTimeout(ctx, time.Minute)
		defer end()
		if _, _, err := d.AssignAny(short, testTask("unserved")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a queue that no worker serves: error %v, want DeadlineExceeded", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

// An invalid task is refused before any worker is asked or waited for.
// A worker of another queue would refuse the task: it is not offered.
func TestOnlyWorkersOfTheQueuesAreOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeFleet{workers: []Worker{
			fakeWorker("other", Free, StatusRunning, "r"),
			fakeWorker("first", Free, StatusRunning, "q"),
			fakeWorker("second", Free, StatusRunning, "r", "p"),
		}}
		q := &fakeQueue{}
		d := newDispatcher(DispatcherOptions{Interval: time.Second, Queues: []string{"q", "p"}}, f, q, q)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }() // ends with ctx
		for range 2 {
			for _, want := range []string{"first", "second"} {
				if w := <-d.Free(); w.ID != want {
					t.Errorf("worker %s is offered, want %s", w.ID, want)
				}
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v, want nil after the end of its context", err)
		}
	})
}

func TestAssignRefusesInvalidTasks(t *testing.T) {
	f := &fakeFleet{workers: []Worker{fakeWorker("w", Free, StatusRunning, "q")}, onInspect: func(id string) {
		t.Errorf("worker %s is asked", id)
	}}
	later, untyped := testTask("q"), testTask("q")
	later.In, untyped.Type = time.Hour, ""
	for _, task := range []Task{later, untyped} {
		q := &fakeQueue{}
		var invalid *InvalidTaskError
		if _, err := testDispatcher(f, q).Assign(t.Context(), "w", task); !errors.As(err, &invalid) || len(q.tasks) != 0 {
			t.Errorf("assign %+v: error %v, want an InvalidTaskError; sent %v", task, err, q.tasks)
		}
		if _, _, err := testDispatcher(f, q).AssignAny(t.Context(), task); !errors.As(err, &invalid) || len(q.tasks) != 0 {
			t.Errorf("assign %+v to any: error %v, want an InvalidTaskError; sent %v", task, err, q.tasks)
		}
	}
}
