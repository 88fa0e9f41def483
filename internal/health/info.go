package health

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// infoAge is how old the figures of an info reader may be.
const infoAge = time.Second

// InfoSource returns a [BrokerSource] that asks Redis with INFO, at most once a second however often it is called. On a
// cluster one node answers for all.
func InfoSource(client redis.UniversalClient) BrokerSource {
	r := &infoReader{client: client, busy: make(chan struct{}, 1)}
	return r.read
}

type infoReader struct {
	client redis.UniversalClient
	busy   chan struct{} // capacity 1: holds an element while Redis is asked; guards the rest
	last   Broker
	at     time.Time
}

func (r *infoReader) read(ctx context.Context) (Broker, error) {
	select {
	case r.busy <- struct{}{}:
		defer func() { <-r.busy }()
	case <-ctx.Done():
		return Broker{}, fmt.Errorf("wait for INFO: %w", ctx.Err())
	}
	if !r.at.IsZero() && time.Since(r.at) < infoAge {
		return r.last, nil
	}
	// Without a section: older servers and miniredis know only one at a time.
	text, err := r.client.Info(ctx).Result()
	if err != nil {
		return Broker{}, fmt.Errorf("redis INFO: %w", err)
	}
	r.last, r.at = parseInfo(text), time.Now()
	return r.last, nil
}

func parseInfo(text string) Broker {
	b := Broker{ConnectedClients: -1}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "used_memory_human":
			b.MemoryUsed = value
		case "connected_clients":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && n >= 0 {
				b.ConnectedClients = n
			}
		}
	}
	return b
}
