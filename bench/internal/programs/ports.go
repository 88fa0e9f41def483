package programs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports gives out loopback TCP ports, each once: whoever got one may be slow to listen on it. They are below those that the
// kernel gives to connections, of which hundreds of workers would soon take one that is not listened on yet. The zero value
// is ready; it is safe for concurrent use.
type Ports struct {
	mu    sync.Mutex // guards given
	given map[int]bool
}

// Free returns a port on which nobody listens.
func (p *Ports) Free() (int, error) {
	const lowest, number, tries = 20_000, 12_000, 1000
	p.mu.Lock()
	defer p.mu.Unlock()
	err := errors.New("all have been given out")
	for range tries {
		port := lowest + rand.N(number)
		if p.given[port] {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			if p.given == nil {
				p.given = make(map[int]bool)
			}
			p.given[port] = true
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}
