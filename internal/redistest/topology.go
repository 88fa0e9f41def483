package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// StartCluster runs a cluster of one node that owns all 16384 slots, enough to meet every CROSSSLOT and MOVED rule, and
// waits until it is up. URL is a redis-cluster:// one; Client is a plain client of the node.
func StartCluster(t testing.TB, args ...string) *Server {
	t.Helper()
	s := startClusterNode(t, args...)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := s.Client.ClusterAddSlotsRange(ctx, 0, 16383).Err(); err != nil {
		t.Fatalf("redistest: assign slots: %v", err)
	}
	poll(t, ctx, "the cluster is not up", func() (bool, error) {
		info, err := s.Client.ClusterInfo(ctx).Result()
		return strings.Contains(info, "cluster_state:ok"), err
	})
	return s
}

// startClusterNode runs a server in cluster mode that knows no other node and owns no slot.
func startClusterNode(t testing.TB, args ...string) *Server {
	t.Helper()
	for attempt := 1; ; attempt++ {
		port := FreePort(t)
		if port > 55000 { // the default bus port is port+10000 on older servers
			port = 20000 + port%30000
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		password := argument(args, "--requirepass")
		s := &Server{
			Addr: addr,
			URL:  "redis-cluster://" + userinfo(password) + addr,
			args: append([]string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes"}, args...),
			opts: &redis.Options{Addr: addr, Password: password},
		}
		err := s.launch(t)
		if err == nil {
			return s
		}
		if attempt == 5 { // somebody may have taken one of its two ports
			t.Fatalf("redistest: %v", err)
		}
	}
}

// StartSentinel runs one sentinel (quorum 1) that watches master under the name "mymaster", and waits until it reports
// the master's address. URL is a redis-sentinel:// one that also carries the master's password.
func StartSentinel(t testing.TB, master *Server) *Server {
	t.Helper()
	return startSentinel(t, master, 1, 2*time.Second)
}

func startSentinel(t testing.TB, master *Server, quorum int, downAfter time.Duration) *Server {
	t.Helper()
	host, masterPort, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatalf("redistest: sentinel: %v", err)
	}
	password := master.opts.Password
	port := FreePort(t)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	dir := t.TempDir()
	file := filepath.Join(dir, "sentinel.conf")
	conf := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor mymaster %s %s %d\n"+
		"sentinel down-after-milliseconds mymaster %d\nsentinel failover-timeout mymaster 10000\n",
		port, dir, host, masterPort, quorum, downAfter.Milliseconds())
	if password != "" {
		conf += "sentinel auth-pass mymaster " + password + "\n"
	}
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatalf("redistest: sentinel: %v", err)
	}
	s := &Server{
		Addr: addr,
		URL:  "redis-sentinel://" + userinfo(password) + addr + "/0?master=mymaster",
		Dir:  dir,
		opts: &redis.Options{Addr: addr, DisableIdentity: true},

		sentinelFile: file,
	}
	if err := s.launch(t); err != nil {
		t.Fatalf("redistest: %v", err)
	}
	sentinel := redis.NewSentinelClient(&redis.Options{Addr: addr})
	defer sentinel.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	poll(t, ctx, "the sentinel does not know the master", func() (bool, error) {
		found, err := sentinel.GetMasterAddrByName(ctx, "mymaster").Result()
		return len(found) == 2 && found[1] == masterPort, err
	})
	return s
}

func poll(t testing.TB, ctx context.Context, failure string, check func() (bool, error)) {
	t.Helper()
	for {
		ok, err := check()
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("redistest: %s: %v", failure, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
