package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// testTimeout bounds every wait in these tests; no test passes by waiting it out.
const testTimeout = 2 * time.Minute

func childCommand(script string, args ...string) []string {
	path, err := filepath.Abs(filepath.Join("..", "test", "children", script))
	if err != nil {
		panic(err)
	}
	return append([]string{"python3", path}, args...)
}

func testOptions(script string, args ...string) Options {
	return Options{
		Command:        childCommand(script, args...),
		Env:            os.Environ(),
		Concurrency:    8,
		StartupTimeout: testTimeout,
		StopTimeout:    4 * time.Second,
		OnCrash:        PolicyDegrade,
		Restart:        RestartPolicy{Max: 3, Window: time.Minute, InitialDelay: 10 * time.Millisecond, MaxDelay: 50 * time.Millisecond},
		MaxMessage:     1 << 20,
		BlockThreshold: 5 * time.Second,
	}
}

// harness is a running supervisor with its log and its events.
type harness struct {
	t *testing.T
	*Supervisor
	log    *logBuffer
	err    chan error // Run's, once
	cancel context.CancelFunc

	mu       sync.Mutex // guards the two below
	crashed  []string
	restarts []string
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func start(t *testing.T, o Options) *harness {
	t.Helper()
	r := &harness{t: t, log: &logBuffer{}, err: make(chan error, 1)}
	o.Logger = slog.New(slog.NewTextHandler(r.log, nil))
	o.Events = Events{
		RoomChanged: o.Events.RoomChanged,
		Crashed: func(cause string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.crashed = append(r.crashed, cause)
		},
		Restarted: func(cause string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.restarts = append(r.restarts, cause)
		},
	}
	s, err := New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	r.Supervisor = s
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.err <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", r.log.String())
		}
	})
	return r
}

func startReady(t *testing.T, o Options) *harness {
	t.Helper()
	r := start(t, o)
	r.await("running", func(s Snapshot) bool { return s.Status == StatusRunning })
	return r
}

// await waits until a snapshot satisfies ok, woken by Changed and by a poll for what Changed does not announce.
func (r *harness) await(what string, ok func(Snapshot) bool) Snapshot {
	r.t.Helper()
	limit := time.NewTimer(testTimeout)
	defer limit.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		changed := r.Changed()
		s := r.Snapshot()
		if ok(s) {
			return s
		}
		select {
		case <-changed:
		case <-poll.C:
		case <-limit.C:
			r.t.Fatalf("not %s within %v: %+v\n%s", what, testTimeout, s, r.log.String())
		}
	}
}

func (r *harness) awaitStatus(want Status) Snapshot {
	r.t.Helper()
	return r.await(string(want), func(s Snapshot) bool { return s.Status == want })
}

type answer struct {
	Reply
	err error
}

// blockingCaller is the Caller of Do: it hands the end of a request over, and all else to another.
type blockingCaller struct {
	inner Caller // nil: nobody
	ended chan answer
}

func (c *blockingCaller) Began(at time.Time) {
	if c.inner != nil {
		c.inner.Began(at)
	}
}

func (c *blockingCaller) Progress(fraction float64, message string) {
	if c.inner != nil {
		c.inner.Progress(fraction, message)
	}
}

func (c *blockingCaller) Ended(reply Reply, err error) { c.ended <- answer{reply, err} }

// Do submits a request and waits for its end. While the process has no place for it, or a planned replacement is under
// way, it tries again. When ctx ends, the request is cancelled.
func (s *Supervisor) Do(ctx context.Context, r Request) (Reply, error) {
	inner := r.Caller
	for {
		if ctx.Err() != nil {
			return Reply{}, fmt.Errorf("%w: %w", ErrNotRun, context.Cause(ctx))
		}
		c := &blockingCaller{inner: inner, ended: make(chan answer, 1)}
		r.Caller = c
		s.Submit(r)
		var a answer
		refused := false
		select {
		case a = <-c.ended: // at once
			refused = errors.Is(a.err, ErrNotRun)
		default:
			select {
			case a = <-c.ended:
			case <-ctx.Done():
				s.Cancel(r.TaskID)
				a = <-c.ended
			}
		}
		if now := s.Snapshot(); !refused || !now.Healthy || now.Status == StatusDraining {
			return a.Reply, a.err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// send begins a Do.
func (r *harness) send(ctx context.Context, q Request) <-chan answer {
	out := make(chan answer, 1)
	go func() {
		reply, err := r.Do(ctx, q)
		out <- answer{reply, err}
	}()
	return out
}

func (r *harness) receive(c <-chan answer) answer {
	r.t.Helper()
	select {
	case a := <-c:
		return a
	case <-time.After(testTimeout):
		r.t.Fatalf("no answer within %v: %+v\n%s", testTimeout, r.Snapshot(), r.log.String())
	}
	return answer{}
}

func (r *harness) do(q Request) answer {
	r.t.Helper()
	return r.receive(r.send(context.Background(), q))
}

// inFlight waits until n requests are with the process.
func (r *harness) inFlight(n int) {
	r.t.Helper()
	r.await(strconv.Itoa(n)+" in flight", func(s Snapshot) bool { return s.InFlight == n })
}

func (r *harness) causes() (crashed, restarts []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.crashed...), append([]string(nil), r.restarts...)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testTimeout); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", testTimeout, what)
		}
	}
}

func isNotRun(err error) bool { return errors.Is(err, ErrNotRun) }

func task(id string, payload any) Request {
	data, err := json.Marshal(payload)
	if err != nil {
		panic(err)
	}
	return Request{TaskID: id, Type: "test", Queue: "default", Payload: data}
}
