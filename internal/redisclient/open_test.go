package redisclient

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// use opens url and proves that the client works: a write and CheckServer.
func use(t *testing.T, url string) {
	t.Helper()
	target, err := Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	client := target.Open()
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := CheckServer(ctx, client); err != nil {
		t.Fatalf("CheckServer: got %v, want no error", err)
	}
	if err := client.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := client.Get(ctx, "k").Result(); err != nil || got != "v" {
		t.Fatalf("GET k = %q and error %v, want what was set", got, err)
	}
}

func TestOpenStandalone(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "pa:ss")
	use(t, strings.Replace(s.URL, "/0", "/3", 1))
	db3 := redis.NewClient(&redis.Options{Addr: s.Addr, Password: "pa:ss", DB: 3})
	defer db3.Close()
	if n, err := db3.Exists(t.Context(), "k").Result(); err != nil || n != 1 {
		t.Fatalf("the key is not in database 3: %d, %v", n, err)
	}
}

func TestOpenUnixSocket(t *testing.T) {
	use(t, redistest.StartUnix(t).URL)
	use(t, redistest.StartUnix(t, "--requirepass", "pw").URL)
}

func TestOpenTLS(t *testing.T) {
	s := redistest.StartTLS(t, "--tls-auth-clients", "yes")
	use(t, s.URL+"&cert_file="+s.CertFile+"&key_file="+s.KeyFile)
	use(t, "rediss://"+s.Addr+"?skip_verify=true&cert_file="+s.CertFile+"&key_file="+s.KeyFile)

	target, err := Parse("rediss://" + s.Addr + "?cert_file=" + s.CertFile + "&key_file=" + s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	client := target.Open()
	defer client.Close()
	if err := CheckServer(t.Context(), client); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Fatalf("an unknown authority was accepted: %v", err)
	}
}

func TestOpenSentinel(t *testing.T) {
	master := redistest.Start(t, "--requirepass", "pw")
	use(t, redistest.StartSentinel(t, master).URL)
	if n, err := master.Client.Exists(t.Context(), "k").Result(); err != nil || n != 1 {
		t.Fatalf("the key is not on the master: %d, %v", n, err)
	}
}

func TestOpenCluster(t *testing.T) {
	use(t, redistest.StartCluster(t).URL)
}

func TestWrongPassword(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "right")
	for _, url := range []string{"redis://:wrong-s3cret@" + s.Addr, "redis://" + s.Addr} {
		target, err := Parse(url)
		if err != nil {
			t.Fatal(err)
		}
		client := target.Open()
		err = CheckServer(t.Context(), client)
		client.Close()
		if !errors.Is(err, ErrCredentials) {
			t.Errorf("%s: error %v, want ErrCredentials", target, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func TestServerThatHidesInfo(t *testing.T) {
	s := redistest.Start(t)
	ctx := t.Context()
	if err := s.Client.Do(ctx, "ACL", "SETUSER", "shy", "on", ">pw", "~*", "+@all", "-info").Err(); err != nil {
		t.Fatal(err)
	}
	use(t, "redis://shy:pw@"+s.Addr)
}

func TestCheckVersion(t *testing.T) {
	for version, tooOld := range map[string]bool{
		"5.0.14": true, "6.0.16": true, "6.2.0": false, "6.2.14": false, "7.0.15": false, "8.0": false, "255.255.255": false, "": false, "dev": false,
	} {
		err := checkVersion("# Server\r\nredis_version:" + version + "\r\nos:Linux\r\n")
		if errors.Is(err, ErrTooOld) != tooOld {
			t.Errorf("version %q: got the error %v, want ErrTooOld: %v", version, err, tooOld)
		}
	}
}

func TestEmbedded(t *testing.T) {
	e, err := StartEmbedded("")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if !e.Target().Embedded() || !strings.HasPrefix(e.Addr(), "127.0.0.1:") {
		t.Fatalf("the target is %s and the address %s, want an embedded one on 127.0.0.1", e.Target(), e.Addr())
	}
	client := e.Target().Open()
	defer client.Close()
	ctx := t.Context()
	if err := CheckServer(ctx, client); err != nil {
		t.Fatalf("CheckServer: got %v, want no error", err)
	}
	if err := client.Set(ctx, "k", "v", 50*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); client.Exists(ctx, "k").Val() == 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a key with a TTL of 50 ms is still there")
		}
	}
	e.Close() // twice, with the deferred one
}

func TestEmbeddedWithPassword(t *testing.T) {
	target, err := Parse("embedded://:pw@127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e, err := StartEmbeddedTarget(target)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	client := e.Target().Open()
	defer client.Close()
	if err := CheckServer(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	stranger := redis.NewClient(&redis.Options{Addr: e.Addr()})
	defer stranger.Close()
	if err := CheckServer(t.Context(), stranger); !errors.Is(err, ErrCredentials) {
		t.Fatalf("without the password: got %v, want NOAUTH", err)
	}
}

func TestEmbeddedNotStartedSaysSo(t *testing.T) {
	target, err := Parse("embedded://")
	if err != nil {
		t.Fatal(err)
	}
	client := target.Open()
	defer client.Close()
	if err := client.Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "lives in the process that started it") {
		t.Fatalf("got %v, want an error that says where this Redis lives", err)
	}
}

func TestPortTaken(t *testing.T) {
	e, err := StartEmbedded("")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := StartEmbedded(e.Addr()); err == nil || !strings.Contains(err.Error(), e.Addr()) {
		t.Fatalf("error %v, want one that names %s", err, e.Addr())
	}
}

// go-redis alone asks a dead master for a whole minute.
func TestClusterClientFollowsFailover(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartShards(t, 3)
	target, err := Parse(cluster.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := target.Open()
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := client.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	dead := cluster.MasterOf("k")
	dead.Client.Wait(ctx, 1, 5*time.Second)
	dead.Kill()
	died := time.Now()
	cluster.MasterOf("k") // the replica has taken over
	elected := time.Now()
	for client.Set(ctx, "k", "w", 0).Err() != nil {
		if ctx.Err() != nil {
			t.Fatalf("the client has not found the new master in %v", time.Since(elected))
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("a new master after %v, found %v later", elected.Sub(died), time.Since(elected))
	if time.Since(elected) > 30*time.Second {
		t.Error("the client waited for its next regular reload of the slots")
	}
}
