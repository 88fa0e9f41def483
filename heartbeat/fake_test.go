package heartbeat

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

func mustIdentity(t *testing.T) Identity {
	t.Helper()
	id, err := NewIdentity()
	if err != nil {
		t.Fatalf("identify this process: %v", err)
	}
	return id
}

// remote is the identity of a process on another host.
func remote(nonce string) Identity {
	return Identity{Host: "elsewhere", PID: 4321, Nonce: nonce, BootID: "other", PIDNamespace: "pid:[9]", PIDStart: 5}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

var errDown = errors.New("connection refused")

// fakeKey is one heartbeat key in memory, on the clock of the test's bubble.
type fakeKey struct {
	mu       sync.Mutex
	hash     map[string]string // guarded by mu, as all below
	expires  time.Time
	down     bool
	writes   []time.Time
	tries    []time.Time
	entries  int // in the registry
	removals int
}

func (k *fakeKey) expire() {
	if k.hash != nil && !k.expires.IsZero() && !time.Now().Before(k.expires) {
		k.hash = nil
	}
}

func (k *fakeKey) set(b Beat, ttl time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hash, k.expires = hashOf(b), time.Now().Add(ttl)
}

func (k *fakeKey) setDown(down bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = down
}

func (k *fakeKey) written() []time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]time.Time(nil), k.writes...)
}

func (k *fakeKey) get(field string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.expire()
	return k.hash[field]
}

// fakeStore is the key as the process with that nonce reaches it.
type fakeStore struct {
	*fakeKey
	nonce string
}

func (s fakeStore) write(_ context.Context, r writeRequest) (*holder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries = append(s.tries, time.Now())
	if s.down {
		return nil, errDown
	}
	s.expire()
	if n := s.hash["nonce"]; s.hash != nil && n != s.nonce {
		free, replaceable := n == "" && !r.strict, n != "" && n == r.replace
		if !free && !replaceable {
			return &holder{nonce: n, host: s.hash["host"], pid: s.hash["pid"]}, nil
		}
	}
	s.hash = make(map[string]string)
	for i := 0; i < len(r.fields); i += 2 {
		s.hash[r.fields[i]] = r.fields[i+1]
	}
	s.expires = time.Now().Add(r.ttl)
	s.writes = append(s.writes, time.Now())
	return nil, nil
}

func (s fakeStore) register(context.Context, time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return errDown
	}
	s.entries++
	return nil
}

func (s fakeStore) read(context.Context) (map[string]string, time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, 0, errDown
	}
	s.expire()
	if s.hash == nil {
		return nil, 0, nil
	}
	if s.expires.IsZero() {
		return maps.Clone(s.hash), pttlForever, nil
	}
	return maps.Clone(s.hash), time.Until(s.expires), nil
}

func (s fakeStore) remove(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.down {
		return errDown
	}
	if s.hash["nonce"] == s.nonce {
		s.hash = nil
	}
	s.removals++
	return nil
}

// newFakeWriter writes to k every 5 s with a TTL of 15 s.
func newFakeWriter(k *fakeKey, id Identity, source func() Beat) *Writer {
	if source == nil {
		source = func() Beat { return Beat{Status: status.Running, State: status.Free, Healthy: true} }
	}
	return newWriter(fakeStore{k, id.Nonce}, Options{ID: "w1", Identity: id, Logger: quiet(), Source: source})
}
