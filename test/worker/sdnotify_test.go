package worker

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// serviceManager receives what a service tells by sd_notify, on a socket like systemd's.
type serviceManager struct {
	t    *testing.T
	conn *net.UnixConn

	mu       sync.Mutex
	messages []string
}

// manage gives a worker that has not been started a service manager with a watchdog.
func manage(t *testing.T, w *harness.Worker, socket string, watchdog time.Duration) *serviceManager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatalf("listen on %s: %v", socket, err)
	}
	m := &serviceManager{t: t, conn: conn}
	ended := make(chan struct{})
	go func() { // ends with the socket; the cleanup waits for it
		defer close(ended)
		buffer := make([]byte, 8192)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.messages = append(m.messages, string(buffer[:n]))
			m.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-ended
	})
	w.ExtraEnv = append(w.ExtraEnv, "NOTIFY_SOCKET="+socket, fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds()))
	return m
}

// lines are all assignments so far.
func (m *serviceManager) lines() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Split(strings.Join(m.messages, "\n"), "\n")
}

// await waits for an assignment with that part, among those from a place on, and returns the place after it.
func (m *serviceManager) await(from int, part string) int {
	m.t.Helper()
	var after int
	harness.Eventually(m.t, "the service manager hears "+part, func() error {
		lines := m.lines()
		for i := min(from, len(lines)); i < len(lines); i++ {
			if strings.Contains(lines[i], part) {
				after = i + 1
				return nil
			}
		}
		return fmt.Errorf("it has heard %q", lines[min(from, len(lines)):])
	})
	return after
}

func TestNotifiesServiceManager(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	for _, abstract := range []bool{false, true} {
		t.Run(fmt.Sprintf("abstract=%v", abstract), func(t *testing.T) {
			w := harness.NewWorker(t, server.URL, harness.Settings{"worker.id": fmt.Sprintf("worker-%v", abstract)})
			socket := filepath.Join(w.Dir, "notify")
			if abstract {
				socket = "@" + socket
			}
			m := manage(t, w, socket, time.Second)
			w.Start("run", "-c", w.Config)

			at := m.await(0, "READY=1")
			m.await(0, "STATUS=Running: takes the tasks of "+harness.QueueName+".")
			if before := m.lines()[:at]; !slices.ContainsFunc(before, func(l string) bool { return strings.HasPrefix(l, "STATUS=Starting") }) {
				t.Errorf("no status before READY=1: %q", before)
			}
			if code, body := harness.Get(t, "http://"+w.Addr()+"/readyz"); code != 200 {
				t.Errorf("after READY=1 /readyz answers %d %s, want 200", code, body)
			}
			m.await(at, "WATCHDOG=1")

			python := q.PythonPID(w.ID)
			if environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", python)); err != nil {
				t.Logf("the environment of the Python process is not looked at: %v", err)
			} else if strings.Contains(string(environ), "NOTIFY_SOCKET") || strings.Contains(string(environ), "WATCHDOG_") {
				t.Errorf("the Python process could speak to the service manager: %q", environ)
			}
			harness.Kill(t, python, syscall.SIGKILL)
			at = m.await(at, "STATUS=Degraded: ")
			for range 3 { // a degraded worker lives
				at = m.await(at, "WATCHDOG=1")
			}
			if outcome := w.Command("restart", w.ID); outcome.Code != 0 {
				t.Fatalf("restart: %+v, want exit code 0", outcome)
			}
			at = m.await(at, "STATUS=Running: ")

			w.Signal(syscall.SIGTERM)
			stop := m.await(at, "STOPPING=1")
			m.await(stop, "EXTEND_TIMEOUT_USEC=")
			m.await(stop, "STATUS=Draining")
			if code := w.WaitExit(); code != 0 {
				t.Errorf("exit code %d, want %d", code, 0)
			}
			for _, once := range []string{"READY=1", "STOPPING=1"} {
				if n := len(slices.DeleteFunc(m.lines(), func(l string) bool { return l != once })); n != 1 {
					t.Errorf("%s came %d times, want once", once, n)
				}
			}
		})
	}
}

// systemd must not kill a worker at the end of its start timeout, and again and again, because Python or Redis fails.
func TestReadyDespiteFailedStart(t *testing.T) {
	t.Parallel()
	t.Run("Python fails", func(t *testing.T) {
		w := harness.NewWorker(t, redistest.Start(t).URL, harness.Settings{"python.command": []string{"python3", "-c", "raise SystemExit(3)"}})
		m := manage(t, w, filepath.Join(w.Dir, "notify"), time.Second)
		w.Start("run", "-c", w.Config)
		m.await(m.await(0, "READY=1"), "WATCHDOG=1")
		m.await(0, "STATUS=Degraded: ")
	})
	t.Run("Redis is away", func(t *testing.T) {
		w := harness.NewWorker(t, "redis://127.0.0.1:"+harness.RefusingPort(t)+"/0", nil)
		m := manage(t, w, filepath.Join(w.Dir, "notify"), time.Second)
		w.Start("run", "-c", w.Config)
		m.await(m.await(0, "READY=1"), "WATCHDOG=1")
		m.await(0, "has not been started: waiting for Redis (")
		w.Stop()
		m.await(0, "STOPPING=1")
	})
}

// A start that takes its time is no failed one: the worker asks for more time until Python is ready.
func TestSlowStartExtendsTimeout(t *testing.T) {
	t.Parallel()
	w := harness.NewWorker(t, redistest.Start(t).URL, harness.Settings{"python.command": []string{"python3", "-c", "import time; time.sleep(600)"}})
	m := manage(t, w, filepath.Join(w.Dir, "notify"), time.Second)
	w.Start("run", "-c", w.Config)
	at := m.await(0, "EXTEND_TIMEOUT_USEC=")
	at = m.await(at, "EXTEND_TIMEOUT_USEC=")
	if lines := m.lines()[:at]; slices.Contains(lines, "READY=1") {
		t.Errorf("READY=1 before Python is ready: %q", lines)
	}
}

func TestCheckerNotifiesServiceManager(t *testing.T) {
	t.Parallel()
	w := harness.NewWorker(t, redistest.Start(t).URL, nil)
	m := manage(t, w, filepath.Join(w.Dir, "notify"), time.Second)
	w.Start("fleet", "-c", w.Config)
	m.await(m.await(0, "READY=1"), "WATCHDOG=1")
	m.await(0, "STATUS=Running: ")
	w.Stop()
	m.await(0, "STOPPING=1")
}
