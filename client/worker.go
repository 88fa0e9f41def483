package client

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/status"
)

// State says whether a worker would take a task now.
type State string

// The states of a worker.
const (
	Free State = "FREE" // would take a task now
	Busy State = "BUSY" // alive, but all its slots are taken, or it takes no tasks: Worker.Status and Reason tell
	Dead State = "DEAD" // does not answer: nobody should give it anything. Worker.Cause tells why
)

// Status is what a worker does.
type Status string

// The statuses of a worker.
const (
	StatusStarting   Status = "starting"
	StatusRunning    Status = "running"
	StatusDegraded   Status = "degraded"   // no Python process, and none is started before an operator asks for it
	StatusRestarting Status = "restarting" // another Python process is about to run
	StatusDraining   Status = "draining"   // takes no new task and ends when those that run are done
)

// Cause is the kind of reason why a worker is [Dead].
type Cause string

// The causes of [Dead].
const (
	CauseRefused          Cause = "refused"           // its address refuses connections
	CauseTimeout          Cause = "timeout"           // it does not answer in time
	CauseUnauthorised     Cause = "unauthorised"      // it does not accept the user and password of Options
	CauseTLS              Cause = "tls"               // no TLS connection comes about
	CauseHeartbeatExpired Cause = "heartbeat_expired" // it is silent in Redis
	CauseWrongIdentity    Cause = "wrong_identity"    // another process answers at its address
	CauseProcessGone      Cause = "process_gone"      // its process does not exist any more on this host
	CauseError            Cause = "error"             // anything else
)

// Worker is a registered worker, as [Client.Workers] and [Dispatcher.Free] found it at one moment. Of a worker without
// a heartbeat (Alive is false) only ID, State, Cause, Reason, Expiry and Err are sure to be set; the rest is what is
// remembered of it, if anything.
type Worker struct {
	ID     string
	State  State
	Cause  Cause  // why it is Dead; else empty
	Reason string // why it is not Free, for people; empty for a free worker

	Alive   bool // it has a heartbeat in Redis
	Healthy bool // it is not Dead, and reports that it works: its Python process, Redis and the database
	Status  Status
	// HealthReason is why it is not healthy, in one line, as its last heartbeat tells: a worker that has become
	// unhealthy within the last 100 ms has none yet, and a healthy one has none.
	HealthReason string
	// Stderr is what its Python process wrote last to standard error, oldest line first, for a worker that is not
	// healthy. It may hold what tasks carry: show it only to people who may see that. It is not encoded as JSON.
	Stderr []string `json:"-"`

	Queues      []string // that it serves, by priority
	Concurrency int      // how many tasks it has at the same time at most
	ActiveTask  string   // ID of the task that runs longest; empty: none
	ActiveTasks []string // IDs of the tasks that it has
	Processed   int64    // finished attempts, since Started
	Failed      int64    // failed attempts among them
	Restarts    int64    // of its Python process, since Started
	Crashes     int64    // of its Python process, since Started

	Host         string // its host's name
	Address      string // host:port of its HTTP server; empty: it has none and is judged by its heartbeat
	PID          int    // process ID on its host
	PythonPID    int    // of its Python process; 0: there is none
	Version      string // of the worker program
	Environment  string // the key environment of its configuration
	EventLoopLag time.Duration

	Started  time.Time     // when the worker started, on its own clock
	LastBeat time.Time     // when its heartbeat was last written, on its own clock
	Age      time.Duration // of the heartbeat when it was read, as Redis counts; 0 where Interval is 0: not known
	Interval time.Duration // between two heartbeats; 0: the worker does not tell
	TTL      time.Duration // what was left of the heartbeat's life when it was read
	Expiry   time.Time     // when the heartbeat expires or has expired, on Redis' clock, to the second

	// Died is the end of the last process with this ID that was found dead within the last hour and has left the
	// registry; nil: none. Its Earlier tells whether it is this process's.
	Died *Death

	Err error // what of its heartbeat could not be read; nil: nothing
}

// Death tells of a process of a worker that was found dead.
type Death struct {
	At     time.Time     // on Redis' clock
	Age    time.Duration // since then
	Cause  Cause
	Reason string // for people
	// Tasks are how many are known to have been taken back from it: they run elsewhere or, lost too often, are archived. What
	// a successor or a dispatcher took back may be missing, so 0 does not say that it had none.
	Tasks int
	// Earlier says that it was another process than the one that is registered with this ID now, or is not known to be the
	// same.
	Earlier bool
}

// TakesTasks reports whether a task that is assigned to the worker will be run by it, now or when a slot is free: it is
// alive and well, not degraded, starting or draining.
func (w Worker) TakesTasks() bool {
	return w.State == Free || w.State == Busy && w.Alive && w.Healthy && w.Status == StatusRunning
}

// Serves reports whether the worker takes tasks from a queue.
func (w Worker) Serves(queue string) bool { return slices.Contains(w.Queues, queue) }

// newWorker is the one place that turns the checker's result into the public type.
func newWorker(w fleet.Worker) Worker {
	b := w.Beat
	return Worker{
		ID: w.ID, State: State(w.State), Cause: Cause(w.Cause), Reason: w.Reason,
		Alive: w.Alive, Healthy: b.Healthy && w.State != status.Dead, Status: Status(b.Status), HealthReason: b.Reason.Summary, Stderr: b.Reason.Stderr,
		Queues: b.Queues, Concurrency: b.Concurrency, ActiveTask: b.ActiveTask, ActiveTasks: b.ActiveTasks,
		Processed: b.Processed, Failed: b.Failed, Restarts: b.Restarts, Crashes: b.Crashes,
		Host: b.Host, Address: b.Address, PID: b.PID, PythonPID: b.PythonPID, Version: b.Version, Environment: b.Environment,
		EventLoopLag: b.EventLoopLag,
		Started:      b.Started, LastBeat: b.LastBeat, Age: w.Age, Interval: b.Interval, TTL: w.TTL, Expiry: w.Expiry,
		Err: w.Err,
	}
}

// newWorkers returns the workers of the registry and those that died within the last hour and are not in it any more,
// by ID.
func newWorkers(list []fleet.Worker, deaths []fleet.Death) []Worker {
	workers := make([]Worker, len(list), len(list)+len(deaths))
	at := make(map[string]int, cap(workers))
	for i, w := range list {
		workers[i] = newWorker(w)
		at[w.ID] = i
	}
	for _, d := range deaths { // the latest first
		i, known := at[d.ID]
		earlier := known && (d.Nonce == "" || i >= len(list) || list[i].Beat.Nonce != d.Nonce)
		if !known {
			i, at[d.ID] = len(workers), len(workers)
			workers = append(workers, Worker{
				ID: d.ID, State: Dead, Cause: Cause(d.Cause), Reason: d.Reason, Queues: d.Queues, Host: d.Host, Address: d.Address,
			})
		}
		if workers[i].Died == nil {
			workers[i].Died = &Death{At: d.At, Age: d.Age, Cause: Cause(d.Cause), Reason: d.Reason, Tasks: d.Tasks, Earlier: earlier}
		}
	}
	slices.SortFunc(workers, func(a, b Worker) int { return strings.Compare(a.ID, b.ID) })
	return workers
}

// Workers reads the registry, asks every registered worker at the same time and returns them by ID, and with them those
// that died within the last hour: a dead worker leaves the registry when the fleet's checker has recovered its tasks, and
// then has [Worker.Died]. Where there is no checker, it stays in the registry for about an hour. It takes
// little longer than [Options].PingTimeout; calls at the same time wait for one another. An error says that Redis could
// not be read, or that ctx ended; a worker that does not answer is no error.
func (c *Client) Workers(ctx context.Context) ([]Worker, error) {
	select {
	case c.round <- struct{}{}:
		defer func() { <-c.round }()
	case <-ctx.Done():
		return nil, fmt.Errorf("ask the workers: %w", ctx.Err())
	}
	workers, err := c.checker.Round(ctx)
	if err != nil {
		return nil, err
	}
	deaths, err := c.store.Deaths(ctx)
	if err != nil {
		return nil, fmt.Errorf("list who died: %w", err)
	}
	return newWorkers(workers, deaths), nil
}
