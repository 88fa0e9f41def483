package redisclient

import (
	"fmt"
	"net/url"
	"sync"

	"github.com/alicebob/miniredis/v2"
)

// Embedded is a Redis work-alike inside this process, on a TCP port that redis-cli can talk to. Nothing it holds
// survives Close.
type Embedded struct {
	server *miniredis.Miniredis
	target Target
	once   sync.Once
}

// StartEmbedded starts an embedded Redis on listen, a host:port as Target.Listen gives it; empty means a free port of
// 127.0.0.1. Time passes in it as on the clock: keys with a TTL expire. The caller closes it.
func StartEmbedded(listen string) (*Embedded, error) {
	return startEmbedded(listen, "")
}

// StartEmbeddedTarget is StartEmbedded for the address and the password of an embedded:// target.
func StartEmbeddedTarget(t Target) (*Embedded, error) {
	if !t.Embedded() {
		return nil, fmt.Errorf("start an embedded Redis for %s: not an embedded:// URL", t)
	}
	return startEmbedded(t.Listen(), t.pass)
}

func startEmbedded(listen, password string) (*Embedded, error) {
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	server := miniredis.NewMiniRedis()
	if password != "" {
		server.RequireAuth(password)
	}
	// Without it a TTL would never end.
	server.ClockTTL(true)
	if err := server.StartAddr(listen); err != nil {
		return nil, fmt.Errorf("start the embedded Redis on %s: %w", listen, err)
	}
	auth := ""
	if password != "" {
		auth = ":" + url.PathEscape(password) + "@"
	}
	target, err := Parse(schemeEmbedded + "://" + auth + server.Addr())
	if err != nil {
		server.Close()
		return nil, fmt.Errorf("start the embedded Redis on %s: %w", listen, err)
	}
	return &Embedded{server: server, target: target}, nil
}

// Target is the running server, with its bound port.
func (e *Embedded) Target() Target { return e.target }

// Addr is the bound host:port.
func (e *Embedded) Addr() string { return e.server.Addr() }

// Close ends the server, its connections and its goroutines. Everything in it is lost. Closing twice does nothing.
func (e *Embedded) Close() { e.once.Do(e.server.Close) }
