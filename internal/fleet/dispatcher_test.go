package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/enqueue"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/queue"
)

// roster is a fleet that a test makes up.
type roster struct {
	workers []fleet.Worker
	looked  func(id string) // called before a look is answered
}

func (r *roster) Round(context.Context) ([]fleet.Worker, error) { return r.workers, nil }

func (r *roster) Inspect(_ context.Context, id string) (fleet.Worker, bool, error) {
	if r.looked != nil {
		r.looked(id)
	}
	for _, w := range r.workers {
		if w.ID == id {
			return w, true, nil
		}
	}
	return fleet.Worker{}, false, nil
}

// sent keeps what was enqueued and assigned.
type sent struct {
	tasks    []enqueue.Task
	assigned []string
	err      error // of Assign
}

func (s *sent) Enqueue(_ context.Context, t enqueue.Task) (enqueue.Info, error) {
	s.tasks = append(s.tasks, t)
	return enqueue.Info{ID: t.ID, Queue: t.Queue, State: "scheduled"}, nil
}

func (s *sent) Assign(_ context.Context, _, taskID, workerID string) error {
	if s.err != nil {
		return s.err
	}
	s.assigned = append(s.assigned, taskID+" to "+workerID)
	return nil
}

func member(id string, state status.State, does status.Status, queues ...string) fleet.Worker {
	w := fleet.Worker{State: state}
	w.ID, w.Alive = id, state != status.Dead
	w.Beat = heartbeat.Beat{Queues: queues, Status: does, Healthy: does == status.Running}
	return w
}

func dispatcher(r *roster, s *sent) *fleet.Dispatcher {
	return fleet.NewDispatcher(fleet.DispatcherOptions{Roster: r, Sender: s, Assigner: s, Interval: time.Second})
}

func TestAssignRefusesWhoWouldNotRunTheTask(t *testing.T) {
	r := &roster{workers: []fleet.Worker{
		member("free", status.Free, status.Running, "q"),
		member("full", status.Busy, status.Running, "q"),
		member("degraded", status.Busy, status.Degraded, "q"),
		member("dead", status.Dead, status.Running, "q"),
	}}
	for id, want := range map[string]string{
		"free": "", "full": "", "degraded": "status is degraded", "dead": "DEAD", "nobody": "no such worker",
	} {
		s := &sent{}
		_, err := dispatcher(r, s).Assign(t.Context(), id, enqueue.Task{Queue: "q", ID: "t"})
		switch {
		case want == "" && (err != nil || fmt.Sprint(s.assigned) != "[t to "+id+"]"):
			t.Errorf("%s: %v, assigned %v", id, err, s.assigned)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || len(s.tasks) != 0):
			t.Errorf("%s: error %v, want %q; sent %v", id, err, want, s.tasks)
		}
	}
	s := &sent{}
	var unfit *fleet.NotFreeError
	if _, err := dispatcher(r, s).Assign(t.Context(), "free", enqueue.Task{Queue: "other"}); !errors.As(err, &unfit) || len(s.tasks) != 0 {
		t.Errorf("a queue it does not serve: %v", err)
	}
}

// When the second step fails, the task is in scheduled for a minute and then anybody's: the error says so.
func TestAssignThatFailsHalfWayLosesNothing(t *testing.T) {
	r := &roster{workers: []fleet.Worker{member("w", status.Free, status.Running, "q")}}
	s := &sent{err: errors.New("connection lost")}
	_, err := dispatcher(r, s).Assign(t.Context(), "w", enqueue.Task{Queue: "q", ID: "t"})
	if err == nil || !strings.Contains(err.Error(), "within a minute") || len(s.tasks) != 1 || s.tasks[0].In != time.Minute {
		t.Errorf("%v, sent %+v", err, s.tasks)
	}
}

func TestFreeWorkersAreOfferedAndDeadOnesAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &roster{workers: []fleet.Worker{
			member("dead", status.Dead, status.Running, "q"),
			member("elsewhere", status.Free, status.Running, "other"),
			member("full", status.Busy, status.Running, "q"),
			member("dies", status.Free, status.Running, "q"),
			member("lives", status.Free, status.Running, "q"),
		}}
		r.looked = func(id string) {
			if id == "dies" { // between the offer and the assignment
				r.workers[3] = member("dies", status.Dead, status.Running, "q")
			}
		}
		s := &sent{}
		d := dispatcher(r, s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		if _, id, err := d.AssignAny(ctx, enqueue.Task{Queue: "q", ID: "t"}); err != nil || id != "lives" {
			t.Errorf("assigned to %q, %v", id, err)
		}
		if fmt.Sprint(s.assigned) != "[t to lives]" {
			t.Errorf("assigned %v", s.assigned)
		}
		short, end := context.WithTimeout(ctx, time.Minute)
		defer end()
		if _, _, err := d.AssignAny(short, enqueue.Task{Queue: "nobody's"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a queue that nobody serves: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// An orchestrator takes a free worker off the channel and gives it a task by name.
func ExampleDispatcher() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	embedded, err := redisclient.StartEmbedded("")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer embedded.Close()
	client := embedded.Target().Open()
	defer func() { _ = client.Close() }()

	// A worker that beats; one without an HTTP address is judged by its heartbeat.
	identity, err := heartbeat.NewIdentity()
	if err != nil {
		fmt.Println(err)
		return
	}
	worker := heartbeat.NewWriter(client, heartbeat.Options{ID: "worker-1", Identity: identity, Source: func() heartbeat.Beat {
		return heartbeat.Beat{
			Healthy: true, Status: status.Running, State: status.Free, Queues: []string{"inference_default"},
		}
	}})
	if err := worker.Register(ctx); err != nil {
		fmt.Println(err)
		return
	}

	dispatcher := fleet.NewDispatcher(fleet.DispatcherOptions{
		Roster:   fleet.NewChecker(fleet.CheckerOptions{Registry: fleet.NewStore(client), Self: identity}),
		Sender:   enqueue.New(client),
		Assigner: queue.NewDirects(client),
	})
	done := make(chan error, 1)
	go func() { done <- dispatcher.Run(ctx) }()

	free := <-dispatcher.Free()
	info, err := dispatcher.Assign(ctx, free.ID, enqueue.Task{
		Queue: "inference_default", Type: "greet", Payload: []byte(`{"name":"Ada"}`), ID: "task-1",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(info.ID, "waits for", free.ID)
	fmt.Println(client.LRange(ctx, "runqy:{inference_default}:direct:worker-1", 0, -1).Val())
	cancel()
	if err := <-done; err != nil {
		fmt.Println(err)
	}
	// Output:
	// task-1 waits for worker-1
	// [task-1]
}
