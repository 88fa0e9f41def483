package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a worker that does what the test says.
type source struct {
	mu      sync.Mutex
	state   State
	wedged  string // why it is not live; empty: it is
	changed chan struct{}
}

func newSource(state State) *source { return &source{state: state, changed: make(chan struct{})} }

func (s *source) set(change func(*source)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *source) options() Options {
	return Options{
		State: func() State {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.state
		},
		Changed: func() <-chan struct{} {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.changed
		},
		Live: func() (bool, string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.wedged == "", s.wedged
		},
		StopTimeout: 50 * time.Second,
		Logger:      slog.New(slog.DiscardHandler),
	}
}

// manager keeps what it is sent.
type manager struct {
	mu       sync.Mutex
	messages []string
	err      error
}

func (m *manager) send(message string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.messages = append(m.messages, message)
	return nil
}

func (m *manager) refuse(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// take returns the lines of all messages since the last call, once the notifier has nothing more to do.
func (m *manager) take() []string {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	lines := strings.Split(strings.Join(m.messages, "\n"), "\n")
	m.messages = nil
	return slices.DeleteFunc(lines, func(l string) bool { return l == "" })
}

func count(lines []string, line string) (n int) {
	for _, l := range lines {
		if l == line {
			n++
		}
	}
	return n
}

// follow runs a notifier in the bubble of a test until stop is called.
func follow(t *testing.T, s *source, m *manager, watchdog time.Duration, log *slog.Logger) (stop func()) {
	t.Helper()
	n, err := NewNotifier(s.options())
	if err != nil {
		t.Fatal(err)
	}
	n.opts.Logger = log
	n.send, n.watchdog = m.send, watchdog
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run returns %v, want nil", err)
		}
	}
}

func TestFollowsAWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(State{Starting: true, Text: "Starting: imports"})
		m := new(manager)
		stop := follow(t, s, m, 0, slog.New(slog.DiscardHandler))
		want := []string{"STATUS=Starting: imports", "EXTEND_TIMEOUT_USEC=15000000"}
		if got := m.take(); !slices.Equal(got, want) {
			t.Errorf("sent at first: %q, want %q", got, want)
		}
		time.Sleep(time.Minute)
		if got := m.take(); count(got, "EXTEND_TIMEOUT_USEC=15000000") < 11 || count(got, "READY=1") > 0 {
			t.Errorf("sent in a minute of starting: %q, want only more time", got)
		}
		s.set(func(s *source) { s.state = State{Text: "Running"} })
		if got, want := m.take(), []string{"READY=1", "STATUS=Running"}; !slices.Equal(got, want) {
			t.Errorf("sent when it runs: %q, want %q", got, want)
		}
		time.Sleep(time.Minute)
		if got := m.take(); len(got) > 0 {
			t.Errorf("sent without a watchdog: %q, want nothing", got)
		}
		s.set(func(s *source) { s.state = State{Text: "Degraded: it died"} })
		s.set(func(s *source) { s.state = State{Starting: true, Text: "Degraded: it died"} })
		if got, want := m.take(), []string{"STATUS=Degraded: it died"}; !slices.Equal(got, want) {
			t.Errorf("sent when degraded: %q, want %q", got, want)
		}
		s.set(func(s *source) { s.state = State{Stopping: true, Text: "Draining"} })
		want = []string{"STOPPING=1", "EXTEND_TIMEOUT_USEC=50000000", "STATUS=Draining"}
		if got := m.take(); !slices.Equal(got, want) {
			t.Errorf("sent when it stops: %q, want %q", got, want)
		}
		stop()
		if got := m.take(); len(got) > 0 {
			t.Errorf("sent at the end: %q, want nothing", got)
		}
	})
}

// The watchdog is fed whatever the state, as long as the loop turns, and not a moment longer.
func TestWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(State{Starting: true, Text: "Starting"})
		m := new(manager)
		stop := follow(t, s, m, 6*time.Second, slog.New(slog.DiscardHandler))
		for _, state := range []State{
			{Starting: true, Text: "Starting"}, {Text: "Running"}, {Text: "Degraded"}, {Stopping: true, Text: "Draining"},
		} {
			s.set(func(s *source) { s.state = state })
			m.take()
			time.Sleep(30 * time.Second)
			if n := count(m.take(), "WATCHDOG=1"); n < 14 {
				t.Errorf("%s: fed %d times in 30 s with a watchdog of 6 s", state.Text, n)
			}
		}
		s.set(func(s *source) { s.wedged = "The supervisor's loop has not turned for 11s." })
		if got, want := m.take(), []string{"STATUS=The supervisor's loop has not turned for 11s."}; !slices.Equal(got, want) {
			t.Errorf("sent when wedged: %q, want %q", got, want)
		}
		time.Sleep(time.Minute)
		if got := m.take(); len(got) > 0 {
			t.Errorf("sent while wedged for a minute: %q, want nothing", got)
		}
		s.set(func(s *source) { s.wedged = "" })
		time.Sleep(6 * time.Second)
		if n := count(m.take(), "WATCHDOG=1"); n == 0 {
			t.Error("the loop turns again, but the watchdog is not fed")
		}
		stop()
	})
}

func TestAWedgedStartGetsNoMoreTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(State{Starting: true, Text: "Starting"})
		s.wedged = "It hangs."
		m := new(manager)
		stop := follow(t, s, m, 6*time.Second, slog.New(slog.DiscardHandler))
		time.Sleep(time.Minute)
		if got, want := m.take(), []string{"STATUS=It hangs."}; !slices.Equal(got, want) {
			t.Errorf("sent %q, want %q", got, want)
		}
		stop()
		if got := m.take(); !slices.Equal(got, []string{"STOPPING=1"}) {
			t.Errorf("sent at the end: %q, want STOPPING=1", got)
		}
	})
}

// What could not be sent is sent later, and the failure is logged once.
func TestUnsentMessagesAreSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(State{Text: "Running"})
		var log bytes.Buffer
		m := &manager{err: errors.New("no buffer space")}
		stop := follow(t, s, m, 6*time.Second, slog.New(slog.NewTextHandler(&log, nil)))
		time.Sleep(time.Minute)
		if got := m.take(); len(got) > 0 {
			t.Errorf("sent %q, want nothing", got)
		}
		m.refuse(nil)
		time.Sleep(2 * time.Second)
		if got, want := m.take(), []string{"READY=1", "STATUS=Running", "WATCHDOG=1"}; !slices.Equal(got, want) {
			t.Errorf("sent %q, want %q", got, want)
		}
		stop()
		if n := strings.Count(log.String(), "no buffer space"); n != 1 {
			t.Errorf("the failure is logged %d times, want once:\n%s", n, log.String())
		}
	})
}

// A reason may carry what a Python process wrote before it died.
func TestTheStatusStaysOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"it said:\nMAINPID=1\r\nREADY=1\x00": "it said: MAINPID=1 READY=1",
		"  spaces \t everywhere ":            "spaces everywhere",
		"bad \xff bytes":                     "bad bytes",
		strings.Repeat("é", 300):             strings.Repeat("é", 200) + "…",
		"x" + strings.Repeat("é", 300):       "x" + strings.Repeat("é", 199) + "…",
	} {
		if got := oneLine(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

// Real sockets: one in the file system and one in the abstract name space.
func TestSendsDatagrams(t *testing.T) {
	dir, err := os.MkdirTemp("", "sd") // not t.TempDir: the path of a socket must stay short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{filepath.Join(dir, "notify"), fmt.Sprintf("@runqy-worker-test-%d", os.Getpid())} {
		t.Run(name[:1], func(t *testing.T) {
			conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			t.Setenv("NOTIFY_SOCKET", name)
			t.Setenv("WATCHDOG_USEC", "30000000")
			t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
			n, err := NewNotifier(newSource(State{Text: "Running"}).options())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- n.Run(ctx) }()
			if got, want := receive(t, conn), "READY=1\nSTATUS=Running\nWATCHDOG=1"; got != want {
				t.Errorf("first sent %q, want %q", got, want)
			}
			cancel()
			if got := receive(t, conn); got != "STOPPING=1" {
				t.Errorf("then sent %q, want STOPPING=1", got)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func receive(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	buffer := make([]byte, 4096)
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	size, err := conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:size])
}

func TestEnvironment(t *testing.T) {
	for _, c := range []struct {
		socket, usec, pid string
		tells, fails      bool
		watchdog          time.Duration
	}{
		{},
		{usec: "30000000"}, // a watchdog alone is not for us
		{socket: "/run/notify", tells: true},
		{socket: "@abstract", usec: "30000000", tells: true, watchdog: 30 * time.Second},
		{socket: "/run/notify", usec: "30000000", pid: "1", tells: true}, // another process's
		{socket: "/run/notify", usec: "soon", fails: true},
		{socket: "vsock:2:1234", fails: true},
	} {
		t.Setenv("NOTIFY_SOCKET", c.socket)
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		n, err := NewNotifier(newSource(State{}).options())
		if (err != nil) != c.fails {
			t.Errorf("%+v: got the error %v, want one: %v", c, err, c.fails)
		}
		if err == nil && (n.watchdog != c.watchdog || (n.send != nil) != c.tells) {
			t.Errorf("%+v: the watchdog is %v and messages are sent: %v, want %v and %v", c, n.watchdog, n.send != nil, c.watchdog, c.tells)
		}
	}
}

func TestWithoutAManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n, err := NewNotifier(newSource(State{}).options())
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}
