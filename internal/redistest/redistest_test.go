package redistest

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// A pool that was closed while its server was down notices within a second.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

func TestServerAnswersAndRestarts(t *testing.T) {
	s := Start(t)
	ctx := t.Context()
	if err := s.Client.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	pid := s.PID()
	s.Kill()
	if s.PID() != 0 {
		t.Fatalf("PID() = %d after Kill", s.PID())
	}
	s.Restart()
	if s.PID() == pid || s.PID() == 0 {
		t.Fatalf("PID() = %d after Restart, was %d", s.PID(), pid)
	}
	if n, err := s.Client.Exists(ctx, "k").Result(); err != nil || n != 0 {
		t.Fatalf("a killed server without persistence kept its data: n=%d err=%v", n, err)
	}
}

func TestFreezeHangsTheServer(t *testing.T) {
	s := Start(t)
	client := redis.NewClient(&redis.Options{Addr: s.Addr, ReadTimeout: 100 * time.Millisecond, MaxRetries: -1})
	defer client.Close()
	s.Freeze()
	if err := client.Ping(t.Context()).Err(); err == nil {
		t.Fatal("a frozen server answered")
	}
	s.Thaw()
	eventually(t, func() bool { return client.Ping(t.Context()).Err() == nil })
}

func TestEveryKindAnswers(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *Server{
		"unix":     func(t testing.TB) *Server { return StartUnix(t, "--requirepass", "pw") },
		"password": func(t testing.TB) *Server { return Start(t, "--requirepass", "pw") },
		"tls":      func(t testing.TB) *Server { return StartTLS(t, "--tls-auth-clients", "yes") },
		"cluster":  func(t testing.TB) *Server { return StartCluster(t) },
		"sentinel": func(t testing.TB) *Server { return StartSentinel(t, Start(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := start(t).Client.Ping(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestProxyCutsEveryNthCommand(t *testing.T) {
	s := Start(t)
	for name, tc := range map[string]struct {
		mode CutMode
		want int64 // how many of 20 INCRs arrive
	}{
		"request":   {CutRequest, 18},
		"reply":     {CutReply, 20},
		"alternate": {CutAlternate, 19},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			p := StartProxy(t, s.Addr)
			client := redis.NewClient(&redis.Options{Addr: p.Addr, MaxRetries: -1, PoolSize: 1, DisableIdentity: true, Protocol: 2})
			defer client.Close()
			p.CutEveryMatching(10, tc.mode, func(name string) bool { return name == "INCR" })
			failed := 0
			for range 20 {
				if client.Incr(ctx, name).Err() != nil {
					failed++
				}
			}
			if failed != 2 || p.Cuts() != 2 {
				t.Errorf("failed = %d, cuts = %d, want 2 and 2", failed, p.Cuts())
			}
			// The server may still be executing the last command whose answer is lost.
			eventually(t, func() bool {
				n, err := s.Client.Get(ctx, name).Int64()
				return err == nil && n == tc.want
			})
		})
	}
}

func TestAShiftedServerTellsAnotherTime(t *testing.T) {
	for _, shift := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		s := StartShifted(t, shift)
		told := s.Client.Time(t.Context()).Val()
		if off := time.Until(told) - shift; off.Abs() > time.Minute {
			t.Errorf("shifted by %v it tells %v, %v beside that", shift, told, off)
		}
	}
}

func TestProxyStopFreezeResume(t *testing.T) {
	s := Start(t)
	p := StartProxy(t, s.Addr)
	client := redis.NewClient(&redis.Options{Addr: p.Addr, MaxRetries: -1, DialerRetries: 1, ReadTimeout: 200 * time.Millisecond})
	defer client.Close()
	ping := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return client.Ping(ctx).Err()
	}
	if err := ping(); err != nil {
		t.Fatal(err)
	}
	p.Stop()
	if ping() == nil {
		t.Fatal("a stopped proxy passes commands")
	}
	p.Resume()
	eventually(t, func() bool { return ping() == nil })
	p.Freeze()
	if ping() == nil {
		t.Fatal("a frozen proxy passes commands")
	}
	p.Thaw()
	eventually(t, func() bool { return ping() == nil })
}

func eventually(t *testing.T, check func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !check() {
		if time.Now().After(deadline) {
			t.Fatal("not so within 20 s")
		}
		time.Sleep(5 * time.Millisecond)
	}
}
