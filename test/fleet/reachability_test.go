package fleet

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// How a port behaves that is in front of a worker's.
const (
	portWell = iota
	portRefuses
	portIsMute
	portWantsPassword
)

// port stands in front of a worker's HTTP server, and has the address that the worker advertises.
type port struct {
	t    *testing.T
	addr string
	done chan struct{}
	wg   sync.WaitGroup

	mu       sync.Mutex // guards the rest
	target   string
	mode     int
	listener net.Listener
	conns    map[net.Conn]bool
}

func newPort(t *testing.T) *port {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	p := &port{t: t, addr: l.Addr().String(), done: make(chan struct{}), listener: l, conns: map[net.Conn]bool{}}
	p.wg.Go(func() { p.accept(l) })
	t.Cleanup(func() {
		close(p.done)
		p.set(portRefuses)
		p.wg.Wait()
	})
	return p
}

// leadsTo names the server behind the port.
func (p *port) leadsTo(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = address
}

// set changes how the port behaves and closes its connections. portRefuses cannot be undone.
func (p *port) set(mode int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = mode
	if mode == portRefuses {
		_ = p.listener.Close()
	}
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *port) accept(l net.Listener) { // ends when the listener is closed
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns[c] = true
		mode, target := p.mode, p.target
		p.mu.Unlock()
		p.wg.Go(func() {
			defer p.drop(c)
			p.serve(c, mode, target)
		})
	}
}

func (p *port) drop(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *port) serve(c net.Conn, mode int, target string) {
	switch mode {
	case portIsMute:
		_, _ = io.Copy(io.Discard, c)
	case portWantsPassword:
		buf := make([]byte, 4096)
		if _, err := c.Read(buf); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		}
	case portWell:
		server, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer server.Close()
		p.wg.Go(func() {
			_, _ = io.Copy(c, server)
			_ = c.Close()
		})
		_, _ = io.Copy(server, c)
	}
}

// Workers that cannot be reached any more, each in its way, and whose heartbeats go on: no task is assigned to them any
// more, and they keep what they have.
func TestUnreachableWorkersKeepTheirTasks(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t)
	checker := f.StartChecker("checker", nil)
	noChecker := harness.Settings{"fleet.enabled": false, "heartbeat.interval": "3s", "heartbeat.ttl": "12s"}
	well := f.StartWorker("well", noChecker)
	f.AwaitRunning("well")
	other := f.Hold() // so that well takes nothing else
	f.AwaitStart(other, "well")

	cut := map[string]struct {
		mode  int
		cause string
	}{
		"refuses": {portRefuses, "refused"}, "mute": {portIsMute, "timeout"}, "password": {portWantsPassword, "unauthorised"},
	}
	ports, tasks := map[string]*port{}, map[string]string{}
	for id := range cut {
		ports[id] = newPort(t)
		w := f.StartWorker(id, noChecker.With("health.advertise", ports[id].addr))
		ports[id].leadsTo(w.Addr())
		f.AwaitRunning(id)
		checker.AwaitListed(id, "FREE", "")
		tasks[id] = "task-for-" + id
		out := checker.Command("enqueue", harness.QueueName, "hold", f.PayloadText(), "--worker", id, "--id", tasks[id], "--retention", "1h")
		if out.Code != 0 || !strings.Contains(out.Out, id) {
			t.Fatalf("enqueue --worker %s: %+v, want exit code 0", id, out)
		}
		f.AwaitStart(tasks[id], id)
		checker.AwaitListed(id, "BUSY", "")
	}
	before := f.Owners()

	for id, how := range cut {
		ports[id].set(how.mode)
		checker.AwaitListed(id, "DEAD", how.cause)
		out := checker.Command("enqueue", harness.QueueName, "who", f.PayloadText(), "--worker", id)
		if out.Code != 1 || !strings.Contains(out.ErrOut, "DEAD") || !strings.Contains(out.ErrOut, id) {
			t.Errorf("enqueue --worker %s: %+v, want exit code 1 and \"DEAD\" on stderr", id, out)
		}
	}
	// Longer than two of their intervals.
	harness.Consistently(t, 8*time.Second, func() error {
		now := f.Owners()
		for id, task := range tasks {
			if now[task] != id || before[task] != id {
				return fmt.Errorf("task %s is held by %q, want %s still", task, now[task], id)
			}
			if f.Heartbeat(id)["healthy"] != "true" {
				return fmt.Errorf("the heartbeat of %s is not healthy", id)
			}
		}
		return nil
	})
	if now := harness.Samples(t, checker.Addr()); now[`runqy_fleet_workers{state="DEAD"}`] != 3 || now[`runqy_fleet_workers{state="BUSY"}`] != 1 ||
		harness.SumSamples(now, "runqy_fleet_dead_total") != 0 {
		t.Errorf("the checker's samples are %v, want three DEAD workers, of which none has died, and one BUSY", harness.SelectSamples(now, "fleet"))
	}
	f.OpenGate()
	for id, task := range tasks {
		if got := f.Result(task); got != `"`+id+`"` {
			t.Errorf("the task of %s was done by %s, want itself", id, got)
		}
		if runs := f.Starts()[task]; len(runs) != 1 || f.Recoveries(task) != 0 {
			t.Errorf("the task of %s has the runs %v and %d recoveries, want one and none", id, runs, f.Recoveries(task))
		}
	}
	f.AwaitEmpty()
	if now := harness.Samples(t, checker.Addr()); harness.SumSamples(now, "runqy_tasks_recovered_total") != 0 {
		t.Errorf("the samples are %v, want no recovered task", harness.SelectSamples(now, "recovered"))
	}
	for id := range cut {
		if !f.Registered(id) {
			t.Errorf("%s has left the registry, want it there", id)
		}
	}
	well.Stop()
}

// A worker that is cut off while it works, by one means or another, for so long that another has done its task.
func TestWorkersThatComeBackLate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cut, mend func(t *testing.T, w *harness.Worker, p *redistest.Proxy)
	}{
		"frozen": {
			func(t *testing.T, w *harness.Worker, _ *redistest.Proxy) { harness.SignalTree(t, w, syscall.SIGSTOP) },
			func(t *testing.T, w *harness.Worker, _ *redistest.Proxy) { harness.SignalTree(t, w, syscall.SIGCONT) },
		},
		"cut off from Redis": {
			func(_ *testing.T, _ *harness.Worker, p *redistest.Proxy) { p.Stop() },
			func(_ *testing.T, _ *harness.Worker, p *redistest.Proxy) { p.Resume() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := harness.NewFleet(t)
			proxy := redistest.StartProxy(t, f.Server.Addr)
			checker := f.StartChecker("checker", nil)
			late := f.StartWorker("late", harness.Settings{"redis.url": proxy.URL, "fleet.enabled": false})
			f.AwaitRunning("late")
			task := f.Hold()
			f.AwaitStart(task, "late")
			other := f.StartWorker("other", harness.Settings{"fleet.enabled": false})
			f.AwaitRunning("other")

			cutAt := time.Now()
			test.cut(t, late, proxy)
			again := f.AwaitStart(task, "other")
			took := again.At.Sub(cutAt)
			if f.Recoveries(task) != 1 {
				t.Errorf("%d recoveries are counted, want 1", f.Recoveries(task))
			}
			if row, there := checker.ListWorkers()["late"]; there && row.State != "DEAD" {
				t.Errorf("the worker that was cut off is listed as %+v, want DEAD or nothing", row)
			}
			f.OpenGate()
			if got := f.Result(task); got != `"other"` {
				t.Fatalf("the result is %s, want %s", got, `"other"`)
			}
			f.AwaitState(task, asynq.TaskStateCompleted)

			test.mend(t, late, proxy)
			f.AwaitRunning("late")
			checker.AwaitListed("late", "FREE", "")
			harness.Eventually(t, "the late acknowledgement is refused and counted", func() error {
				now := harness.Samples(t, late.Addr())
				if n := now[`runqy_tasks_fenced_total{queue="`+harness.QueueName+`"}`]; n != 1 {
					return fmt.Errorf("%v are", n)
				}
				return nil
			})
			if got := f.Result(task); got != `"other"` {
				t.Errorf("the result is %s now", got)
			}
			if info := f.AwaitState(task, asynq.TaskStateCompleted); info.Retried != 0 || len(f.Starts()[task]) != 2 {
				t.Errorf("it was retried %d times and has the runs %v, want 0 and two", info.Retried, f.Starts()[task])
			}
			t.Logf("the task ran again %v after the last sign of life (45 s promised)", took.Round(time.Millisecond))

			// It goes on working.
			harness.KillWorkers(t, other)
			next := f.Hold()
			if got := f.Result(next); got != `"late"` {
				t.Errorf("the next task was done by %s, want %s", got, `"late"`)
			}
			checker.AwaitListed("late", "FREE", "")
			f.AwaitEmpty()
		})
	}
}
