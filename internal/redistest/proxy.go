package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// maxBulk bounds what the proxy accepts as one command argument.
const maxBulk = 512 << 20

// CutMode says what happens to the command on which the proxy cuts.
type CutMode int

const (
	// CutRequest drops the command: the server never sees it.
	CutRequest CutMode = iota
	// CutReply lets the server execute the command and loses its answer.
	CutReply
	// CutAlternate does one and the other in turn.
	CutAlternate
)

// Proxy is a TCP proxy in front of a Redis server that understands where a command begins and ends, and so can break a
// connection exactly there. All methods may be called from any goroutine. It is closed when the test ends.
type Proxy struct {
	// Addr is the proxy's own host:port. URL is its redis:// form.
	Addr, URL string

	t      testing.TB
	target string // host:port, or the path of a unix socket
	done   chan struct{}
	wg     sync.WaitGroup // the accept loop and every connection

	mu       sync.Mutex
	listener net.Listener           // guarded by mu; nil while stopped
	conns    map[*proxyConn]bool    // guarded by mu
	gate     chan struct{}          // guarded by mu; open (not closed) while frozen
	every    int                    // guarded by mu
	mode     CutMode                // guarded by mu
	commands int                    // guarded by mu
	cuts     int                    // guarded by mu
	match    func(name string) bool // guarded by mu; nil: every command counts
	delay    time.Duration          // guarded by mu; of each answer
	rewrite  func(raw []byte)       // guarded by mu; nil: commands pass as they are
}

type proxyConn struct {
	client, server net.Conn
	lost           chan struct{} // closed when the next answer must not reach the client
}

// StartProxy starts a proxy on a free loopback port in front of target, a host:port or the path of a unix socket.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p := &Proxy{t: t, target: target, done: make(chan struct{}), conns: make(map[*proxyConn]bool), gate: make(chan struct{})}
	close(p.gate)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("redistest: proxy: %v", err)
	}
	p.Addr = l.Addr().String()
	p.URL = "redis://" + p.Addr + "/0"
	p.serve(l)
	t.Cleanup(func() {
		close(p.done)
		p.Stop()
		p.wg.Wait()
	})
	return p
}

// CutEvery breaks the connection that carries the n-th, 2n-th, … command from now on, counted over all connections. 0
// switches cutting off.
func (p *Proxy) CutEvery(n int, mode CutMode) { p.CutEveryMatching(n, mode, nil) }

// CutEveryMatching is CutEvery for the commands whose upper-case name match accepts ("EVALSHA"); others pass uncounted.
// A nil match accepts all.
func (p *Proxy) CutEveryMatching(n int, mode CutMode, match func(name string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.every, p.mode, p.match, p.commands, p.cuts = n, mode, match, 0, 0
}

// Delay has each answer come so much later from now on.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Rewrite has each command from now on changed in place by f, which gets its bytes as they are sent; nil: none is.
func (p *Proxy) Rewrite(f func(raw []byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rewrite = f
}

func (p *Proxy) rewritten(raw []byte) []byte {
	p.mu.Lock()
	f := p.rewrite
	p.mu.Unlock()
	if f != nil {
		f(raw)
	}
	return raw
}

// late waits for as long as an answer is to come late.
func (p *Proxy) late() {
	p.mu.Lock()
	delay := p.delay
	p.mu.Unlock()
	if delay <= 0 {
		return
	}
	select {
	case <-time.After(delay):
	case <-p.done:
	}
}

// Cuts is how many connections CutEvery has broken since it was last set.
func (p *Proxy) Cuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

// CutAll breaks every open connection now. New ones are accepted.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.close()
	}
}

// Stop refuses new connections and breaks the open ones: the server is "down".
func (p *Proxy) Stop() {
	p.mu.Lock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	p.mu.Unlock()
	p.CutAll()
}

// Resume listens again on the same address after Stop.
func (p *Proxy) Resume() {
	p.t.Helper()
	p.mu.Lock()
	stopped := p.listener == nil
	p.mu.Unlock()
	if !stopped {
		return
	}
	var err error
	for range 200 { // the port may be taken for a moment by somebody's outgoing connection
		var l net.Listener
		if l, err = net.Listen("tcp", p.Addr); err == nil {
			p.serve(l)
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	p.t.Fatalf("redistest: proxy cannot listen on %s again: %v", p.Addr, err)
}

// Freeze keeps connections open and passes nothing on, in either direction, until Thaw: the network "hangs".
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate: // closed: traffic flows
		p.gate = make(chan struct{})
	default:
	}
}

// Thaw ends Freeze.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

func (p *Proxy) serve(l net.Listener) {
	p.mu.Lock()
	p.listener = l
	p.mu.Unlock()
	p.wg.Go(func() { // ends when Stop closes the listener
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.handle(client) })
		}
	})
}

func (p *Proxy) handle(client net.Conn) {
	network := "tcp"
	if strings.HasPrefix(p.target, "/") {
		network = "unix"
	}
	server, err := net.DialTimeout(network, p.target, 10*time.Second)
	if err != nil {
		client.Close()
		return
	}
	c := &proxyConn{client: client, server: server, lost: make(chan struct{})}
	p.mu.Lock()
	p.conns[c] = true
	stopped := p.listener == nil
	p.mu.Unlock()
	if stopped {
		c.close()
	}
	defer func() {
		c.close()
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	}()
	var replies sync.WaitGroup
	replies.Go(func() { p.forwardReplies(c) })
	p.forwardCommands(c)
	replies.Wait()
}

func (c *proxyConn) close() {
	c.client.Close()
	c.server.Close()
}

// pass blocks while the proxy is frozen and tells whether it is still open.
func (p *Proxy) pass() bool {
	p.mu.Lock()
	gate := p.gate
	p.mu.Unlock()
	select {
	case <-gate:
		return true
	case <-p.done:
		return false
	}
}

func (p *Proxy) forwardCommands(c *proxyConn) {
	r := bufio.NewReaderSize(c.client, 64<<10)
	for {
		name, raw, err := readCommand(r)
		if err != nil || !p.pass() {
			c.close()
			return
		}
		cut, mode := p.count(name)
		if cut && mode == CutRequest {
			c.close()
			return
		}
		if cut {
			close(c.lost)
		}
		if _, err := c.server.Write(p.rewritten(raw)); err != nil {
			c.close()
			return
		}
		if cut {
			// Half-close, so that the server executes what it was sent before it learns that nobody listens any more;
			// then the answers end.
			c.client.Close()
			if h, ok := c.server.(interface{ CloseWrite() error }); ok {
				_ = h.CloseWrite()
			}
			return
		}
	}
}

func (p *Proxy) forwardReplies(c *proxyConn) {
	defer c.close()
	buf := make([]byte, 64<<10)
	for {
		n, err := c.server.Read(buf)
		if n > 0 {
			p.late()
		}
		if !p.pass() {
			return
		}
		select {
		case <-c.lost: // swallowed until the server hangs up
		default:
			if _, werr := c.client.Write(buf[:n]); werr != nil {
				select {
				case <-c.lost:
				default:
					return
				}
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) count(name string) (cut bool, mode CutMode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.every <= 0 || (p.match != nil && !p.match(strings.ToUpper(name))) {
		return false, 0
	}
	p.commands++
	if p.commands%p.every != 0 {
		return false, 0
	}
	p.cuts++
	mode = p.mode
	if mode == CutAlternate {
		mode = CutMode(p.cuts % 2) // CutReply first
	}
	return true, mode
}

// readCommand reads one RESP command (or an inline one) and returns its name and its exact bytes.
func readCommand(r *bufio.Reader) (name string, raw []byte, err error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return "", nil, err
	}
	raw = line
	if line[0] != '*' {
		fields := strings.Fields(string(line))
		if len(fields) == 0 {
			return "", raw, nil
		}
		return fields[0], raw, nil
	}
	count, err := header(line)
	if err != nil {
		return "", nil, err
	}
	for i := range count {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return "", nil, err
		}
		if line[0] != '$' {
			return "", nil, fmt.Errorf("argument %d begins with %q", i, line[0])
		}
		size, err := header(line)
		if err != nil {
			return "", nil, err
		}
		raw = append(raw, line...)
		start := len(raw)
		raw = append(raw, make([]byte, size+2)...)
		if _, err := io.ReadFull(r, raw[start:]); err != nil {
			return "", nil, err
		}
		if i == 0 {
			name = string(raw[start : start+size])
		}
	}
	return name, raw, nil
}

func header(line []byte) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(string(line[1:])))
	if err != nil {
		return 0, err
	}
	if n < 0 || n > maxBulk {
		return 0, errors.New("length out of range")
	}
	return n, nil
}
