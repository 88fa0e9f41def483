package redisclient

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// A pool that was closed while its server was down notices within a second.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		url, text  string // what String says
		addrs      string
		db         int
		user, pass string
	}{
		{url: "redis://localhost:6379/0", text: "redis://localhost:6379", addrs: "localhost:6379"},
		{url: "redis://localhost", text: "redis://localhost:6379", addrs: "localhost:6379"},
		{url: "redis://", text: "redis://localhost:6379", addrs: "localhost:6379"},
		{url: "REDIS://h:1/3/", text: "redis://h:1/3", addrs: "h:1", db: 3},
		{url: "redis://h:1?db=4", text: "redis://h:1/4?db=4", addrs: "h:1", db: 4},
		{url: "redis://:p%40ss%2Fw@h:1/2", text: "redis://:***@h:1/2", addrs: "h:1", db: 2, pass: "p@ss/w"},
		{url: "redis://:p@ss@h:1", text: "redis://:***@h:1", addrs: "h:1", pass: "p@ss"},
		{url: "redis://ann:s3cret@[::1]:7000", text: "redis://ann:***@[::1]:7000", addrs: "[::1]:7000", user: "ann", pass: "s3cret"},
		{url: "redis://[::1]", text: "redis://[::1]:6379", addrs: "[::1]:6379"},
		{url: "rediss://h", text: "rediss://h:6379", addrs: "h:6379"},
		{url: "redis-socket:///run/redis.sock?db=2", text: "redis-socket:///run/redis.sock?db=2", addrs: "/run/redis.sock", db: 2},
		{url: "unix://:pw@/run/redis.sock", text: "redis-socket://:***@/run/redis.sock", addrs: "/run/redis.sock", pass: "pw"},
		{
			url: "redis-sentinel://:pw@a:1,b,[::1]:3/5?master=m&sentinel_password=other", addrs: "a:1,b:26379,[::1]:3", db: 5, pass: "pw",
			text: "redis-sentinel://:***@a:1,b:26379,[::1]:3/5?master=m&sentinel_password=***",
		},
		{url: "redis-cluster://:pw@a:7001,b:7002", text: "redis-cluster://:***@a:7001,b:7002", addrs: "a:7001,b:7002", pass: "pw"},
		{url: "embedded://", text: "embedded://127.0.0.1:0", addrs: "127.0.0.1:0"},
		{url: "embedded://127.0.0.1:6390", text: "embedded://127.0.0.1:6390", addrs: "127.0.0.1:6390"},
	} {
		t.Run(tc.url, func(t *testing.T) {
			target, err := Parse(tc.url)
			if err != nil {
				t.Fatal(err)
			}
			if got := target.String(); got != tc.text {
				t.Errorf("String() = %q, want %q", got, tc.text)
			}
			o := target.opts
			if got := strings.Join(o.Addrs, ","); got != tc.addrs || o.DB != tc.db || o.Username != tc.user || o.Password != tc.pass {
				t.Errorf("options: addrs %q db %d user %q password %q, want %q %d %q %q",
					got, o.DB, o.Username, o.Password, tc.addrs, tc.db, tc.user, tc.pass)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for _, tc := range []struct{ url, want string }{
		{"", "no scheme"},
		{"localhost:6379", "no scheme"},
		{"http://h", `unknown scheme "http"`},
		{"redis://h:port", `port "port"`},
		{"redis://h:70000", `port "70000"`},
		{"redis://h:0", `port "0"`},
		{"redis://a:1:2", "not host:port"},
		{"redis://a b", "characters that no host name has"},
		{"redis://h/x", `database "x" is not a number`},
		{"redis://h/-1", `database "-1"`},
		{"redis://h/1?db=2", "two database numbers"},
		{"redis://a,b", "2 hosts in a redis URL"},
		{"redis://h?nonsense=1", "unknown option nonsense"},
		{"redis://h?pool_size=many", "not a whole number"},
		{"redis://h?pool_size=1&pool_size=2", "given 2 times"},
		{"redis://h?read_timeout=fast", "not a duration"},
		{"redis://h?pool_fifo=maybe", "neither true nor false"},
		{"redis://h?ca_file=/x", "needs TLS"},
		{"rediss://h?ca_file=" + missing, "option ca_file"},
		{"rediss://h?cert_file=/x", "belong together"},
		{"redis://ann@h", "a user without a password"},
		{"redis://:pw%zz@h", "percent-encoding"},
		{"redis://:se/cret@h:1", "unescaped / ? or #"},
		{"redis-socket://run/redis.sock", "three slashes"},
		{"redis-socket://", "no socket path"},
		{"redis-sentinel://h", "add ?master=NAME"},
		{"redis-cluster://h/1", "database 0 only"},
		{"redis-cluster://h,,k", "an empty host"},
	} {
		t.Run(strings.ReplaceAll(tc.url, missing, "missing.pem"), func(t *testing.T) {
			_, err := Parse(tc.url)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want one with %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "cret") {
				t.Fatalf("the error shows the password: %v", err)
			}
		})
	}
}

func TestQueryOptions(t *testing.T) {
	target, err := Parse("redis://h?pool_size=7&read_timeout=250ms&dial_timeout=2&client_name=me&max_retries=-1")
	if err != nil {
		t.Fatal(err)
	}
	o := target.opts
	if o.PoolSize != 7 || o.ReadTimeout != 250*time.Millisecond || o.DialTimeout != 2*time.Second || o.ClientName != "me" || o.MaxRetries != -1 {
		t.Fatalf("the options are %+v, want those of the query", o)
	}
	if !o.ContextTimeoutEnabled {
		t.Fatal("a context's deadline is not respected")
	}
}

func TestNotACertificate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("rediss://h?ca_file=" + file); err == nil || !strings.Contains(err.Error(), "holds no PEM certificate") {
		t.Fatalf("got %v, want an error that says that the file holds no certificate", err)
	}
}

func TestModsDoNotLeakIntoTheNextClient(t *testing.T) {
	target, err := Parse("redis-cluster://a:1,b:2")
	if err != nil {
		t.Fatal(err)
	}
	first := target.Open(func(o *redis.UniversalOptions) { o.Addrs[0] = "changed:1"; o.PoolSize = 1 })
	defer first.Close()
	if _, ok := first.(*redis.ClusterClient); !ok {
		t.Fatalf("the client is a %T, want a *redis.ClusterClient", first)
	}
	second := target.Open(func(o *redis.UniversalOptions) {
		if o.Addrs[0] != "a:1" || o.PoolSize != 0 {
			t.Errorf("the second client has the addresses %v and a pool of %d, want its own", o.Addrs, o.PoolSize)
		}
	})
	defer second.Close()
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"redis://h:1/0":                                     "redis://h:1/0",
		"redis://:pw@h:1":                                   "redis://:***@h:1",
		"redis://ann:pw@h:1":                                "redis://ann:***@h:1",
		"redis://:p/w?x#@h:1":                               "redis://:***@h:1",
		"redis://tok@h":                                     "redis://***@h",
		"postgres://u:p@h/d?sslmode=a":                      "postgres://u:***@h/d?sslmode=a",
		"postgres://h/d?user=u&Password=p":                  "postgres://h/d?user=u&Password=***",
		"redis-sentinel://a?sentinel_pass%77ord=p&master=m": "redis-sentinel://a?sentinel_pass%77ord=***&master=m",
		"u:secret@h":                                        "u:***@h",
		"plain":                                             "plain",
		"":                                                  "",
	} {
		if got := Redact(in); got != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"redis://:hunter2@h:1/0", "rediss://h?skip_verify=true", "redis-sentinel://:hunter2@a,b/1?master=m",
		"redis-cluster://[::1]:1", "embedded://:hunter2@", "unix:///x", "redis://hunter2", "redis://a:hunter2@b?x=%",
		"redis-socket:///a%3Fb%25",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if strings.Contains(raw, "_file") {
			t.Skip("would read the file system")
		}
		target, err := Parse(raw)
		if err != nil {
			return
		}
		// What String shows of a target parses again, to the same text.
		again, err := Parse(target.String())
		if err != nil {
			t.Fatalf("Parse(%q).String() = %q does not parse: %v", raw, target, err)
		}
		if again.String() != target.String() {
			t.Fatalf("%q became %q", target, again)
		}
	})
}
