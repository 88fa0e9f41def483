package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"
)

// proxy passes TCP connections through and delays what it passes, as a longer way does: the same time for each byte,
// without a limit on how much is under way.
type proxy struct {
	listener net.Listener
	target   string
	delay    time.Duration // one way
	running  sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	conns   []net.Conn
}

// startProxy listens on a free port of the loopback interface.
func startProxy(ctx context.Context, target string, delay time.Duration) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen as a proxy: %w", err)
	}
	// A goroutine in awaitDue keeps its processor for a moment; the others need theirs.
	const processors = 16
	if runtime.GOMAXPROCS(0) < processors {
		runtime.GOMAXPROCS(processors)
	}
	p := &proxy{listener: l, target: target, delay: delay}
	p.running.Go(func() { p.accept(ctx) })
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// stop closes every connection and returns when all of its goroutines have ended.
func (p *proxy) stop() {
	p.mu.Lock()
	p.stopped = true
	_ = p.listener.Close()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (p *proxy) accept(ctx context.Context) {
	var dialer net.Dialer
	for {
		near, err := p.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		far, err := dialer.DialContext(ctx, "tcp", p.target)
		if err != nil || !p.keep(near, far) {
			_ = near.Close()
			continue
		}
		p.running.Go(func() { p.pass(near, far) })
		p.running.Go(func() { p.pass(far, near) })
	}
}

// keep has stop close the connections; false: it has been called already, and they are closed.
func (p *proxy) keep(near, far net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		_ = far.Close()
		return false
	}
	p.conns = append(p.conns, near, far)
	return true
}

// pass copies one direction. The reader never waits for the writer's delay, so that what follows is delayed by as much
// and no more.
func (p *proxy) pass(from, to net.Conn) {
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
			chunks <- chunk{append([]byte(nil), buffer[:n]...), time.Now().Add(p.delay)}
		}
		if err != nil {
			return
		}
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
