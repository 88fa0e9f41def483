package redistest

import (
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// StartShifted is [Start] for a server whose clock is ahead of everybody else's, or behind with a negative shift. A
// clock that is wrong for everybody but Redis is the same as a machine whose own clock is. It needs libfaketime, which
// Debian has in the package faketime, and skips the test without it as [Start] does without redis-server.
func StartShifted(t testing.TB, shift time.Duration) *Server {
	t.Helper()
	requireProgram(t, "faketime")
	// The wrapper starts the server as a child of its own and stays, so only what it would preload is taken from it. The
	// C library comes along: jemalloc, which the server's malloc would be without it, asks for the time before the faked
	// clock is ready, and ends the server.
	out, err := exec.Command("faketime", "-f", "+0", "printenv", "LD_PRELOAD").Output()
	if err != nil {
		t.Fatalf("redistest: ask faketime for its library: %v", err)
	}
	sign := "+"
	if shift < 0 {
		sign = "-"
	}
	port := strconv.Itoa(FreePort(t))
	addr := net.JoinHostPort("127.0.0.1", port)
	s := &Server{
		Addr: addr,
		URL:  "redis://" + addr + "/0",
		args: []string{"--port", port, "--bind", "127.0.0.1"},
		opts: &redis.Options{Addr: addr},
		by: []string{
			"env", "LD_PRELOAD=" + strings.TrimSpace(string(out)) + ":libc.so.6", "FAKETIME_DONT_FAKE_MONOTONIC=1",
			"FAKETIME=" + sign + strconv.FormatFloat(shift.Abs().Seconds(), 'f', -1, 64),
		},
	}
	if err := s.launch(t); err != nil {
		t.Fatalf("redistest: %v", err)
	}
	return s
}
