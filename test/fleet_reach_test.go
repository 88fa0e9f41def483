package test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// How a port behaves that is in front of a worker's.
const (
	portWell = iota
	portRefuses
	portIsMute
	portWantsPassword
)

// port is what others take for a worker's HTTP server.
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
		t.Fatal(err)
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

// set changes the port's ways and breaks what is open. There is no way back from portRefuses.
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

// Workers that cannot be reached any more, each in its way, and that beat on: they are dead to who gives out tasks, and
// keep what they have.
func TestUnreachableWorkersAreRobbedOfNothing(t *testing.T) {
	t.Parallel()
	f := newFleetTest(t)
	checker := f.checker("checker", nil)
	noRole := settings{"fleet.enabled": false, "heartbeat.interval": "3s", "heartbeat.ttl": "12s"}
	well := f.worker("well", noRole)
	f.joined("well")
	other := f.hold() // so that well takes nothing else
	f.startedOn(other, "well")

	cut := map[string]struct {
		mode  int
		cause string
	}{
		"refuses": {portRefuses, "refused"}, "mute": {portIsMute, "timeout"}, "password": {portWantsPassword, "unauthorised"},
	}
	ports, tasks := map[string]*port{}, map[string]string{}
	for id := range cut {
		ports[id] = newPort(t)
		w := f.worker(id, with(noRole, "health.advertise", ports[id].addr))
		ports[id].leadsTo(w.Addr())
		f.joined(id)
		checker.isListed(id, "FREE", "")
		tasks[id] = "task-for-" + id
		out := checker.command("enqueue", queueName, "hold", f.payloadText(), "--worker", id, "--id", tasks[id], "--retention", "1h")
		if out.Code != 0 || !strings.Contains(out.Out, id) {
			t.Fatalf("enqueue --worker %s: %+v", id, out)
		}
		f.startedOn(tasks[id], id)
		checker.isListed(id, "BUSY", "")
	}
	before := f.owners()

	for id, how := range cut {
		ports[id].set(how.mode)
		checker.isListed(id, "DEAD", how.cause)
		out := checker.command("enqueue", queueName, "who", f.payloadText(), "--worker", id)
		if out.Code != 1 || !strings.Contains(out.ErrOut, "DEAD") || !strings.Contains(out.ErrOut, id) {
			t.Errorf("enqueue --worker %s: %+v", id, out)
		}
	}
	// Beyond two of their intervals.
	stays(t, 8*time.Second, func() error {
		now := f.owners()
		for id, task := range tasks {
			if now[task] != id || before[task] != id {
				return fmt.Errorf("task %s is held by %q", task, now[task])
			}
			if f.beat(id)["healthy"] != "true" {
				return fmt.Errorf("%s does not beat", id)
			}
		}
		return nil
	})
	if now := samples(t, checker.Addr()); now[`runqy_fleet_workers{state="DEAD"}`] != 3 || now[`runqy_fleet_workers{state="BUSY"}`] != 1 ||
		now[`runqy_fleet_dead_total{reason="refused"}`] < 1 || now[`runqy_fleet_dead_total{reason="timeout"}`] < 1 ||
		now[`runqy_fleet_dead_total{reason="unauthorised"}`] < 1 {
		t.Errorf("the checker's metrics: %v", about(now, "fleet"))
	}
	f.open()
	for id, task := range tasks {
		if got := f.result(task); got != `"`+id+`"` {
			t.Errorf("the task of %s was done by %s", id, got)
		}
		if runs := f.starts()[task]; len(runs) != 1 || f.crashes(task) != 0 {
			t.Errorf("the task of %s has run so: %v, %d crashes", id, runs, f.crashes(task))
		}
	}
	f.nothingLeft()
	if now := samples(t, checker.Addr()); sumOf(now, "runqy_tasks_recovered_total") != 0 {
		t.Errorf("tasks were recovered: %v", about(now, "recovered"))
	}
	for id := range cut {
		if !f.listedInRedis(id) {
			t.Errorf("%s has left the registry", id)
		}
	}
	well.Stop()
}

// A worker that is cut off while it works, by one means or another, for so long that another has done its task.
func TestWorkersThatComeBackLate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cut, mend func(t *testing.T, w *workerProcess, p *redistest.Proxy)
	}{
		"frozen": {
			func(t *testing.T, w *workerProcess, _ *redistest.Proxy) { signalAll(t, w, stop) },
			func(t *testing.T, w *workerProcess, _ *redistest.Proxy) { signalAll(t, w, goOn) },
		},
		"cut off from Redis": {
			func(_ *testing.T, _ *workerProcess, p *redistest.Proxy) { p.Stop() },
			func(_ *testing.T, _ *workerProcess, p *redistest.Proxy) { p.Resume() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleetTest(t)
			proxy := redistest.StartProxy(t, f.server.Addr)
			checker := f.checker("checker", nil)
			late := f.worker("late", settings{"redis.url": proxy.URL, "fleet.enabled": false})
			f.joined("late")
			task := f.hold()
			f.startedOn(task, "late")
			other := f.worker("other", settings{"fleet.enabled": false})
			f.joined("other")

			cutAt := time.Now()
			test.cut(t, late, proxy)
			again := f.startedOn(task, "other")
			took := again.At.Sub(cutAt)
			if f.crashes(task) != 1 {
				t.Errorf("%d crashes are counted", f.crashes(task))
			}
			if row, there := checker.workers()["late"]; there && row.State != "DEAD" {
				t.Errorf("it is listed as %+v", row)
			}
			f.open()
			if got := f.result(task); got != `"other"` {
				t.Fatalf("the result is %s", got)
			}
			f.inState(task, asynqCompleted)

			test.mend(t, late, proxy)
			f.joined("late")
			checker.isListed("late", "FREE", "")
			eventually(t, "the late acknowledgement is refused and counted", func() error {
				now := samples(t, late.Addr())
				if n := now[`runqy_tasks_fenced_total{queue="`+queueName+`"}`]; n != 1 {
					return fmt.Errorf("%v are", n)
				}
				return nil
			})
			if got := f.result(task); got != `"other"` {
				t.Errorf("the result is %s now", got)
			}
			if info := f.inState(task, asynqCompleted); info.Retried != 0 || len(f.starts()[task]) != 2 {
				t.Errorf("it was retried %d times and has run so: %v", info.Retried, f.starts()[task])
			}
			t.Logf("the task ran again %v after the last sign of life (45 s promised)", took.Round(time.Millisecond))

			// It goes on working.
			dies(t, other)
			next := f.hold()
			if got := f.result(next); got != `"late"` {
				t.Errorf("the next task was done by %s", got)
			}
			checker.isListed("late", "FREE", "")
			f.nothingLeft()
		})
	}
}
