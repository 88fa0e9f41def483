package programs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy passes TCP connections through and delays what it passes, as a longer way does: the same time for each byte,
// without a limit on how much is under way. It can also stop passing anything on, or refuse connections.
type Proxy struct {
	Addr string // where it listens

	target  string
	delay   atomic.Int64 // one way, nanoseconds
	running sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener  // nil while it refuses
	conns    []net.Conn    // the open ones, and some that are closed
	gate     chan struct{} // closed while it passes on
	stopped  chan struct{}
}

// StartProxy listens on a free port of the loopback interface.
func StartProxy(ctx context.Context, target string, delay time.Duration) (*Proxy, error) {
	// A goroutine in awaitDue keeps its processor for a moment; the others need theirs.
	const processors = 16
	if runtime.GOMAXPROCS(0) < processors {
		runtime.GOMAXPROCS(processors)
	}
	p := &Proxy{Addr: "127.0.0.1:0", target: target, gate: make(chan struct{}), stopped: make(chan struct{})}
	close(p.gate)
	p.delay.Store(int64(delay))
	if err := p.Resume(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// SetDelay changes how long what is passed from now on is under way, in each direction.
func (p *Proxy) SetDelay(d time.Duration) { p.delay.Store(int64(d)) }

// Freeze keeps connections open, accepts more, and passes nothing on until Thaw.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
		p.gate = make(chan struct{})
	default:
	}
}

// Thaw ends Freeze: what has waited is passed on.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

// Cut closes every connection; new ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// Refuse closes every connection and accepts no more until Resume.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.mu.Unlock()
	p.Cut()
}

// Resume accepts connections, at the address that it has had.
func (p *Proxy) Resume(ctx context.Context) error {
	l, err := net.Listen("tcp", p.Addr)
	if err != nil {
		return fmt.Errorf("listen as a proxy: %w", err)
	}
	p.mu.Lock()
	p.listener, p.Addr = l, l.Addr().String()
	p.mu.Unlock()
	p.running.Go(func() { p.accept(ctx, l) })
	return nil
}

// Stop closes every connection and returns when all of its goroutines have ended.
func (p *Proxy) Stop() {
	close(p.stopped)
	p.Refuse()
	p.running.Wait()
}

func (p *Proxy) accept(ctx context.Context, l net.Listener) {
	var dialer net.Dialer
	for {
		near, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		far, err := dialer.DialContext(ctx, "tcp", p.target)
		if err != nil {
			_ = near.Close()
			continue
		}
		if !p.keep(near, far) {
			continue
		}
		p.running.Go(func() { p.pass(near, far) })
		p.running.Go(func() { p.pass(far, near) })
	}
}

// keep has Refuse and Cut close the connections; false: it refuses already, and they are closed.
func (p *Proxy) keep(near, far net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		_ = near.Close()
		_ = far.Close()
		return false
	}
	p.conns = append(p.conns, near, far)
	return true
}

// pass copies one direction. The reader never waits for the writer's delay, so that what follows is delayed by as much
// and no more.
func (p *Proxy) pass(from, to net.Conn) {
	type chunk struct {
		data []byte
		due  time.Time
	}
	const most = 4096 // chunks under way
	chunks := make(chan chunk, most)
	p.running.Go(func() {
		defer to.Close()
		for c := range chunks {
			awaitDue(c.due)
			p.awaitOpen()
			if _, err := to.Write(c.data); err != nil {
				_ = from.Close()
			}
		}
	})
	defer close(chunks)
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			delay := time.Duration(p.delay.Load())
			chunks <- chunk{append([]byte(nil), buffer[:n]...), time.Now().Add(delay)}
		}
		if err != nil {
			return
		}
	}
}

// awaitOpen waits while the proxy is frozen.
func (p *Proxy) awaitOpen() {
	p.mu.Lock()
	gate := p.gate
	p.mu.Unlock()
	select {
	case <-gate:
	case <-p.stopped:
	}
}

// awaitDue returns at a time, not much later: Go's own timers are late by up to a millisecond, so the last part is left to
// the system.
func awaitDue(due time.Time) {
	const coarse = 2 * time.Millisecond
	if left := time.Until(due); left > coarse {
		time.Sleep(left - coarse)
	}
	for left := time.Until(due); left > 0; left = time.Until(due) { // a signal ends it early
		sleepExactly(left)
	}
}
