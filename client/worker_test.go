package client

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/status"
)

// The public words are those of the packages behind them.
func TestWordsAreTheFleetsWords(t *testing.T) {
	causes := []string{
		string(CauseRefused), string(CauseTimeout), string(CauseUnauthorised), string(CauseTLS), string(CauseHeartbeatExpired),
		string(CauseWrongIdentity), string(CauseProcessGone), string(CauseError),
	}
	want := fleet.Causes()
	slices.Sort(causes)
	slices.Sort(want)
	if !slices.Equal(causes, want) {
		t.Errorf("causes %v, want those of the fleet: %v", causes, want)
	}
	for got, want := range map[State]status.State{Free: status.Free, Busy: status.Busy, Dead: status.Dead} {
		if string(got) != string(want) {
			t.Errorf("state %q, want %q", got, want)
		}
	}
	for got, want := range map[Status]status.Status{
		StatusStarting: status.Starting, StatusRunning: status.Running, StatusDegraded: status.Degraded,
		StatusRestarting: status.Restarting, StatusDraining: status.Draining,
	} {
		if string(got) != string(want) {
			t.Errorf("status %q, want %q", got, want)
		}
	}
	for got, want := range map[TaskState]status.TaskState{TaskPending: status.Pending, TaskScheduled: status.Scheduled} {
		if string(got) != string(want) {
			t.Errorf("task state %q, want %q", got, want)
		}
	}
}

// Every field of a Worker comes from the checker's result.
func TestNewWorkerFillsEveryField(t *testing.T) {
	now := time.Now()
	w := fleet.Worker{State: status.Busy, Cause: fleet.CauseRefused, Reason: "connection refused"}
	w.Worker = heartbeat.Worker{ID: "w", Alive: true, TTL: 1, Age: 1, Expiry: now, Err: errors.New("field pid")}
	w.Beat = heartbeat.Beat{
		Started: now, Healthy: true, Queues: []string{"q"}, ActiveTask: "t", Status: status.Running,
		Reason:   status.Reason{Summary: "exit status 1", Stderr: []string{"a secret"}},
		LastBeat: now, ActiveTasks: []string{"t"}, Concurrency: 1, Processed: 1, Failed: 1, Restarts: 1, Crashes: 1,
		EventLoopLag: 1, PythonPID: 1, Version: "v", Environment: "e", Address: "h:1", Interval: 1,
	}
	w.Beat.Host, w.Beat.PID = "h", 1
	got := newWorkers([]fleet.Worker{w}, []fleet.Death{{ID: "w"}})[0]
	v := reflect.ValueOf(got)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("field %s of %+v is not set", v.Type().Field(i).Name, got)
		}
	}
	got.Err = nil
	if data, err := json.Marshal(got); err != nil || strings.Contains(string(data), "secret") {
		t.Errorf("as JSON: %s, %v, want it without what the process wrote", data, err)
	}
}

// Whoever died within the last hour is listed, in the place of its ID, and a successor beside it says so.
func TestNewWorkersListsWhoDied(t *testing.T) {
	dead := fleet.Worker{State: status.Dead}
	dead.Worker = heartbeat.Worker{ID: "c", Alive: true, Beat: heartbeat.Beat{Healthy: true}}
	back := fleet.Worker{State: status.Free}
	back.Worker = heartbeat.Worker{ID: "b", Alive: true, Beat: heartbeat.Beat{Healthy: true}}
	got := newWorkers([]fleet.Worker{back, dead}, []fleet.Death{
		{ID: "a", Cause: "refused", Reason: "no", Queues: []string{"q"}, Tasks: 3, Age: time.Minute}, {ID: "b", Tasks: 1}, {ID: "a", Tasks: 9, Age: time.Hour},
	})
	if len(got) != 3 || got[0].ID != "a" || got[0].State != Dead || got[0].Alive || got[0].Died.Tasks != 3 || got[0].Cause != CauseRefused {
		t.Fatalf("workers %+v, want a, which died last with three tasks, b and c", got)
	}
	if got[1].State != Free || !got[1].Healthy || got[1].Died == nil || got[2].Died != nil {
		t.Errorf("workers %+v, want b free, after a death, and c", got[1:])
	}
	if got[0].Died.Earlier || !got[1].Died.Earlier {
		t.Errorf("the death of a is of an earlier process: %t, that of b: %t; want only the second", got[0].Died.Earlier, got[1].Died.Earlier)
	}
	if got[2].Healthy {
		t.Error("a worker that is DEAD is healthy")
	}
}

// An old death is not told of a new process with the same ID, also while that is dead itself.
func TestADeathIsOfOneProcess(t *testing.T) {
	dead := fleet.Worker{State: status.Dead, Cause: fleet.CauseTimeout}
	dead.Worker = heartbeat.Worker{ID: "w", Alive: true}
	dead.Beat.Nonce = "new"
	silent := dead
	silent.Worker = heartbeat.Worker{ID: "w"} // which process it was is not known
	for _, c := range []struct {
		name    string
		worker  fleet.Worker
		nonce   string
		earlier bool
	}{
		{"another", dead, "old", true}, {"the same", dead, "new", false}, {"unknown", silent, "old", true}, {"nothing known", silent, "", true},
	} {
		got := newWorkers([]fleet.Worker{c.worker}, []fleet.Death{{ID: "w", Nonce: c.nonce, Tasks: 3}})
		if len(got) != 1 || got[0].Died == nil || got[0].Died.Earlier != c.earlier {
			t.Errorf("%s: %+v, want a death of an earlier process: %t", c.name, got, c.earlier)
		}
	}
}

func TestTakesTasks(t *testing.T) {
	unhealthy := fakeWorker("w", Busy, StatusRunning)
	unhealthy.Healthy = false
	for name, test := range map[string]struct {
		worker Worker
		want   bool
	}{
		"free":      {fakeWorker("w", Free, StatusRunning), true},
		"full":      {fakeWorker("w", Busy, StatusRunning), true},
		"unhealthy": {unhealthy, false},
		"degraded":  {fakeWorker("w", Busy, StatusDegraded), false},
		"starting":  {fakeWorker("w", Busy, StatusStarting), false},
		"draining":  {fakeWorker("w", Busy, StatusDraining), false},
		"dead":      {fakeWorker("w", Dead, StatusRunning), false},
		"unknown":   {Worker{}, false},
	} {
		if got := test.worker.TakesTasks(); got != test.want {
			t.Errorf("%s: takes tasks %t, want %t", name, got, test.want)
		}
	}
}
