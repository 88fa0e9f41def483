package health

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
)

func TestInfoOfARealServerIsCached(t *testing.T) {
	s := redistest.Start(t)
	read := InfoSource(s.Client)
	for range 20 {
		b, err := read(t.Context())
		if err != nil || b.MemoryUsed == "" || b.ConnectedClients < 1 {
			t.Fatalf("the figures are %+v, error %v", b, err)
		}
	}
	// INFO itself counts the INFOs; a slow machine may need more than one.
	stats := s.Client.Info(t.Context(), "commandstats").Val()
	calls := parseCalls(t, stats, "cmdstat_info:calls=")
	if calls > 10 {
		t.Errorf("%d INFO commands for 20 questions", calls)
	}
}

func TestInfoOfMiniredis(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	defer c.Close()
	b, err := InfoSource(c)(t.Context())
	if err != nil || b.MemoryUsed != "" {
		t.Errorf("the figures are %+v, error %v", b, err)
	}
}

func TestInfoErrorsAndContexts(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	defer c.Close()
	read := InfoSource(c)
	if _, err := read(t.Context()); err == nil {
		t.Error("no error without a server")
	}
	r := &infoReader{client: c, busy: make(chan struct{}, 1)}
	r.busy <- struct{}{} // Redis is asked and does not answer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.read(ctx); err == nil {
		t.Error("the call waits after its context is over")
	}
}

func FuzzParseInfo(f *testing.F) {
	f.Add("# Memory\r\nused_memory_human:2.50M\r\nconnected_clients:3\r\n")
	f.Add("connected_clients:-4")
	f.Fuzz(func(t *testing.T, text string) {
		if b := parseInfo(text); b.ConnectedClients < -1 {
			t.Fatalf("parsed figures are %+v, want none that is negative but -1", b)
		}
	})
}

// parseCalls reads the number behind prefix in INFO commandstats.
func parseCalls(t *testing.T, stats, prefix string) int {
	t.Helper()
	_, rest, ok := strings.Cut(stats, prefix)
	if !ok {
		t.Fatalf("no %s in %s", prefix, stats)
	}
	digits, _, _ := strings.Cut(rest, ",")
	n, err := strconv.Atoi(digits)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
