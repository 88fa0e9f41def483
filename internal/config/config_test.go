package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// parse is Load for the bytes of a file. Errors call it name.
func parse(name string, data []byte, o Options) (*Config, []string, error) {
	l := newLoader(o.Env)
	l.file = name
	l.readFile(name, data)
	return l.finish(o)
}

var update = flag.Bool("update", false, "write the golden files of testdata/bad")

func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, _, err := parse("runqy.yaml", data, Options{Env: []string{"EMPTY="}})
			var faults *Error
			if c != nil || !errors.As(err, &faults) {
				t.Fatalf("got the configuration %v and the error %v, want none and an *Error", c, err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got := faults.Error() + "\n"; got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			if strings.Contains(faults.Error(), "hunter2") {
				t.Error("the error shows a password")
			}
		})
	}
}

func TestEveryDocumentedKeyLoads(t *testing.T) {
	c := load(t, `
environment: production
redis: {url: "redis://:pw@r:1/2"}
worker: {id: w1, queues: {a: 3, b: 1}, strict_priority: true, concurrency: 7, max_recoveries: 0, shutdown_timeout: 1m}
python:
  command: "python3 -u 'my main.py'"
  dir: /
  env: {MODEL: small, N: 3, B: true}
  startup_timeout: 1s
  stop_timeout: 2s
  on_crash: restart
  restart: {max: 6, window: 11m, initial_delay: 2s, max_delay: 6m}
  max_task_crashes: 4
  max_tasks: 100
  max_memory: 2GiB
  max_message: 1MiB
  stall_timeout: 0
  stack_signal: 40
  check_interval: 7s
  check_timeout: 2s
  check_failures: 4
  max_consecutive_failures: 20
  replace_timeout: 5m
heartbeat: {interval: 1s, ttl: 4s}
results: {ttl: 1h, redis_cli_views: false}
health:
  listen: "127.0.0.1:0"
  advertise: "host:80"
  socket: /tmp/s.sock
  event_loop_block_threshold: 3s
  task_idle_warning: 4m
  consume_timeout: 4s
  database_url: postgres://u:p@h/d
  web_config: web.yml
fleet: {enabled: false, interval: 2s, ping_timeout: 1s, client: {ca_file: ca.pem, username: u, password_file: p}}
dashboard: {show_payloads: true}
`, nil, nil)
	want := &Config{
		Environment: "production",
		Redis:       Redis{URL: "redis://:pw@r:1/2"},
		Worker: Worker{ID: "w1", IDSet: true, Queues: map[string]int{"a": 3, "b": 1}, StrictPriority: true, Concurrency: 7,
			ShutdownTimeout: time.Minute},
		Python: Python{
			Command: []string{"python3", "-u", "my main.py"}, Dir: "/",
			Env:            map[string]string{"MODEL": "small", "N": "3", "B": "true"},
			StartupTimeout: time.Second, StopTimeout: 2 * time.Second, OnCrash: "restart",
			Restart:        Restart{Max: 6, Window: 11 * time.Minute, InitialDelay: 2 * time.Second, MaxDelay: 6 * time.Minute},
			MaxTaskCrashes: 4, MaxTasks: 100, MaxMemory: 2 << 30, MaxMessage: 1 << 20,
			StackSignal:   "40",
			CheckInterval: 7 * time.Second, CheckTimeout: 2 * time.Second, CheckFailures: 4, ReplaceTimeout: 5 * time.Minute,
			MaxConsecutiveFailures: 20,
		},
		Heartbeat: Heartbeat{Interval: time.Second, TTL: 4 * time.Second},
		Results:   Results{TTL: time.Hour},
		Health: Health{Listen: "127.0.0.1:0", Advertise: "host:80", Socket: "/tmp/s.sock", EventLoopBlockThreshold: 3 * time.Second,
			TaskIdleWarning: 4 * time.Minute, ConsumeTimeout: 4 * time.Second,
			DatabaseURL: "postgres://u:p@h/d", WebConfig: "web.yml"},
		Fleet:     Fleet{Interval: 2 * time.Second, PingTimeout: time.Second, Client: FleetClient{CAFile: "ca.pem", Username: "u", PasswordFile: "p"}},
		Dashboard: Dashboard{ShowPayloads: true},
	}
	origins := c.origins
	c.origins, c.runtimeDir = nil, ""
	if !reflect.DeepEqual(c, want) {
		t.Errorf("the file loads as\n%+v\nwant\n%+v", c, want)
	}
	for _, f := range fields() {
		if origins[f.key].Name != "runqy.yaml" || origins[f.key].Line == 0 {
			t.Errorf("%s comes from %v, want a line of runqy.yaml", f.key, origins[f.key])
		}
	}
}

func TestDefaultsAreValid(t *testing.T) {
	c := load(t, "", nil, nil)
	if c.Worker.IDSet || !idPattern.MatchString(c.Worker.ID) || len(c.Worker.ID) != len("worker-3f9c2a") {
		t.Errorf("the default id is %q and set %v, want worker-<6 hex digits> and not set", c.Worker.ID, c.Worker.IDSet)
	}
	if other := load(t, "worker:\nredis: ~\n", nil, nil); other.Worker.ID == c.Worker.ID {
		t.Errorf("two workers are called %s", c.Worker.ID)
	}
	if !reflect.DeepEqual(c.Worker.Queues, map[string]int{"inference_default": 1}) {
		t.Errorf("the default queues are %v, want inference_default alone", c.Worker.Queues)
	}
}

func TestPythonDirNeedNotExistElsewhere(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	c, _, err := parse("runqy.yaml", []byte("python: {dir: "+missing+"}"), Options{Elsewhere: true})
	if err != nil || c.Python.Dir != missing {
		t.Errorf("got the configuration %+v and the error %v, want python.dir %s and none", c, err, missing)
	}
}

func TestPrecedence(t *testing.T) {
	const file = "worker: {concurrency: 2}\n"
	env := []string{"RUNQY_WORKER_CONCURRENCY=3"}
	flags := map[string]string{"worker.concurrency": "4"}
	for _, tc := range []struct {
		name, file string
		env        []string
		flags      map[string]string
		want       int
		origin     string
	}{
		{"default", "", nil, nil, 1, "default"},
		{"file", file, nil, nil, 2, "runqy.yaml:1"},
		{"environment", file, env, nil, 3, "RUNQY_WORKER_CONCURRENCY"},
		{"flag", file, env, flags, 4, "flag for worker.concurrency"},
	} {
		c := load(t, tc.file, tc.env, tc.flags)
		if c.Worker.Concurrency != tc.want || c.origins["worker.concurrency"].String() != tc.origin {
			t.Errorf("%s: %d from %v, want %d from %s", tc.name, c.Worker.Concurrency, c.origins["worker.concurrency"], tc.want, tc.origin)
		}
	}
}

func TestEveryKeyIsAVariable(t *testing.T) {
	c := load(t, "", []string{
		"RUNQY_ENVIRONMENT=staging", "RUNQY_REDIS_URL=redis://r", "RUNQY_WORKER_QUEUES=a:3, b", "RUNQY_WORKER_STRICT_PRIORITY=1",
		`RUNQY_PYTHON_COMMAND=["python3","a b"]`, `RUNQY_PYTHON_ENV={"A":"x,y","N":1.50}`, "RUNQY_PYTHON_MAX_MEMORY=512M",
		"RUNQY_PYTHON_RESTART_MAX=9", "RUNQY_FLEET_CLIENT_CA_FILE=ca", "RUNQY_HEALTH_LISTEN=", "RUNQY_PYTHON_MAX_TASKS=",
	}, nil)
	if c.Environment != "staging" || c.Redis.URL != "redis://r" || !c.Worker.StrictPriority || c.Python.MaxMemory != 512_000_000 ||
		c.Python.Restart.Max != 9 || c.Fleet.Client.CAFile != "ca" || c.Health.Listen != "" || c.Python.MaxTasks != 0 {
		t.Errorf("the variables give %+v, want the values of each", c)
	}
	if !reflect.DeepEqual(c.Worker.Queues, map[string]int{"a": 3, "b": 1}) {
		t.Errorf("RUNQY_WORKER_QUEUES gives %v, want a with weight 3 and b with 1", c.Worker.Queues)
	}
	if !reflect.DeepEqual(c.Python.Command, []string{"python3", "a b"}) {
		t.Errorf("RUNQY_PYTHON_COMMAND gives %q, want python3 and \"a b\"", c.Python.Command)
	}
	if !reflect.DeepEqual(c.Python.Env, map[string]string{"A": "x,y", "N": "1.50"}) {
		t.Errorf("RUNQY_PYTHON_ENV gives %v, want A and N", c.Python.Env)
	}
	if got := strings.Join(c.Worker.QueueNames(), ","); got != "a,b" {
		t.Errorf("QueueNames() = %s, want a,b", got)
	}
}

func TestShortVariables(t *testing.T) {
	c := load(t, "worker: {concurrency: 9}", []string{
		"ENVIRONMENT=production", "RUNQY_QUEUES=b,a", "RUNQY_CONCURRENCY=4", "RUNQY_WORKER_CONCURRENCY=4", "RUNQY_SHUTDOWN_TIMEOUT=7s",
		"RUNQY_WORKER_HEALTHCHECK_PORT=9000", "RUNQY_WORKER_HEALTHCHECK_ENABLED=true",
		"RUNQY_WORKER_HEALTHCHECK_EVENT_LOOP_BLOCK_THRESHOLD_SECONDS=2.5",
	}, nil)
	if c.Environment != "production" || c.Worker.Concurrency != 4 || c.Worker.ShutdownTimeout != 7*time.Second ||
		c.Health.Listen != ":9000" || c.Health.EventLoopBlockThreshold != 2500*time.Millisecond {
		t.Errorf("the other variables give %+v, want the values of each", c)
	}
	if !reflect.DeepEqual(c.Worker.Queues, map[string]int{"a": 1, "b": 1}) {
		t.Errorf("RUNQY_QUEUES gives %v, want equal weights", c.Worker.Queues)
	}
}

func TestHealthVariables(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		env        []string
		want       string
	}{
		{"disabled", "", []string{"RUNQY_WORKER_HEALTHCHECK_ENABLED=false", "RUNQY_WORKER_HEALTHCHECK_PORT=1"}, ""},
		{"disabled over the file", `health: {listen: ":9"}`, []string{"RUNQY_WORKER_HEALTHCHECK_ENABLED=no"}, ""},
		{"enabled over the file", `health: {listen: ""}`, []string{"RUNQY_WORKER_HEALTHCHECK_ENABLED=true"}, ":8001"},
		{"enabled keeps the file's", `health: {listen: ":9"}`, []string{"RUNQY_WORKER_HEALTHCHECK_ENABLED=true"}, ":9"},
		{"port keeps the host", `health: {listen: "127.0.0.1:9"}`, []string{"RUNQY_WORKER_HEALTHCHECK_PORT=10"}, "127.0.0.1:10"},
		{"same port twice", "", []string{"RUNQY_WORKER_HEALTHCHECK_PORT=10", "RUNQY_HEALTH_LISTEN=127.0.0.1:10"}, "127.0.0.1:10"},
		{"kubernetes link", "", []string{"RUNQY_WORKER_HEALTHCHECK_PORT=tcp://10.0.0.1:80"}, ":8001"},
	} {
		if c := load(t, tc.file, tc.env, nil); c.Health.Listen != tc.want {
			t.Errorf("%s: listen %q, want %q", tc.name, c.Health.Listen, tc.want)
		}
	}
}

func TestFaultsOutsideTheFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	for _, tc := range []struct {
		env   []string
		flags map[string]string
		want  string
	}{
		{[]string{"RUNQY_CONCURRENCY=2", "RUNQY_WORKER_CONCURRENCY=3"}, nil,
			`configuration: RUNQY_CONCURRENCY: worker.concurrency: "2" and RUNQY_WORKER_CONCURRENCY "3" are both set and say different things: unset one of them`},
		{[]string{"RUNQY_CONCURRENCY=many"}, nil, `configuration: RUNQY_CONCURRENCY: worker.concurrency: "many" is not a whole number: write digits, like 4`},
		{[]string{"RUNQY_WORKER_HEALTHCHECK_PORT=99999"}, nil, `configuration: RUNQY_WORKER_HEALTHCHECK_PORT: health.listen: "99999" is not a port from 0 to 65535`},
		{[]string{"RUNQY_WORKER_HEALTHCHECK_PORT=9", "RUNQY_HEALTH_LISTEN=:8"}, nil,
			`configuration: RUNQY_WORKER_HEALTHCHECK_PORT: health.listen: "9" and RUNQY_HEALTH_LISTEN ":8" are both set and say different things: unset one of them`},
		{[]string{"RUNQY_WORKER_HEALTHCHECK_ENABLED=false", "RUNQY_HEALTH_LISTEN=:8"}, nil,
			`configuration: RUNQY_WORKER_HEALTHCHECK_ENABLED: health.listen: "false" and RUNQY_HEALTH_LISTEN ":8" are both set and say different things: unset one of them`},
		{[]string{"RUNQY_QUEUES=a,servers"}, nil,
			`configuration: RUNQY_QUEUES: worker.queues: queue name "servers" is reserved: its keys would collide with others in Redis (so would t, result, workers, queues, schedulers, scheduler_history)`},
		{[]string{"RUNQY_PYTHON_ENV=hunter2"}, nil,
			`configuration: RUNQY_PYTHON_ENV: python.env: is not NAME=value,NAME=value; a value with commas needs JSON: {"NAME":"value"}`},
		{nil, map[string]string{"redis.url": "redis://:hunter2@h/x"},
			`configuration: --redis: redis.url: "redis://:***@h/x" is not a Redis URL: database "x" is not a number: write host:port/0`},
		{[]string{"RUNQY_CONFIG=" + missing}, nil,
			`configuration: ` + missing + `: cannot be read: stat ` + missing + `: no such file or directory`},
	} {
		_, _, err := Load(Options{Env: tc.env, Flags: tc.flags, FlagNames: map[string]string{"redis.url": "--redis"}})
		if err == nil || err.Error() != tc.want {
			t.Errorf("%v %v:\n got %v\nwant %s", tc.env, tc.flags, err, tc.want)
		}
	}
}

func TestUnknownVariablesAreWarnings(t *testing.T) {
	_, warnings, err := Load(Options{Env: []string{"RUNQY_CONCURENCY=hunter2", "RUNQY_PORT_8001_TCP=x", "RUNQY_LOG_LEVEL=debug", "RUNQY_TEST_REQUIRE=1", "OTHER=1"}})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(warnings, "\n")
	if len(warnings) != 2 || !strings.Contains(text, "RUNQY_CONCURENCY is not known and is ignored; did you mean RUNQY_CONCURRENCY?") ||
		!strings.Contains(text, "RUNQY_PORT_8001_TCP") || strings.Contains(text, "hunter2") {
		t.Errorf("warnings %q, want one for RUNQY_CONCURENCY with the nearest name, one for RUNQY_PORT_8001_TCP, and no value", warnings)
	}
}

func TestExpansion(t *testing.T) {
	env := []string{"HOST=r.example", "N=3", "INJECT=x\nworker: {id: evil}", "EMPTY=", "QUEUES=a:2,b"}
	c := load(t, `
environment: &e "$${HOST} costs 5$ $x$"
redis: {url: "redis://${HOST}:${PORT:-6380}/0"}
worker:
  concurrency: ${N}
  queues: ${QUEUES}
python:
  command: ["${EMPTY:-python3}", *e, "[${EMPTY}]"]
  env: {A: "${INJECT}"}
`, env, nil)
	if c.Redis.URL != "redis://r.example:6380/0" || c.Worker.Concurrency != 3 || c.Environment != "${HOST} costs 5$ $x$" {
		t.Errorf("expanded to %+v, want the values of the variables", c)
	}
	if !reflect.DeepEqual(c.Python.Command, []string{"python3", "${HOST} costs 5$ $x$", "[]"}) {
		t.Errorf("the command expands to %q, want python3, the anchor's text and []", c.Python.Command)
	}
	if c.Worker.IDSet || c.Python.Env["A"] != "x\nworker: {id: evil}" {
		t.Errorf("a value changed the structure: id %q env %q", c.Worker.ID, c.Python.Env)
	}
	if !reflect.DeepEqual(c.Worker.Queues, map[string]int{"a": 2, "b": 1}) {
		t.Errorf("the queues expand to %v, want a with weight 2 and b with 1", c.Worker.Queues)
	}
}

func TestAliasBombEnds(t *testing.T) {
	var b strings.Builder
	b.WriteString("worker:\n  queues:\n    - &b0 [x,x]\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&b, "    - &b%d [*b%d,*b%d]\n", i, i-1, i-1)
	}
	if _, _, err := parse("bomb.yaml", []byte(b.String()), Options{}); err == nil || len(err.Error()) > 10_000 {
		t.Fatalf("got %v, want a short error", err)
	}
}

func TestSettingsShowNoSecret(t *testing.T) {
	c := load(t, `
redis: {url: "redis://u:hunter2@r:1"}
python:
  command: [python3, "--db=postgres://u:hunter2@h/d"]
  env: {API_KEY: hunter2, DB: "postgres://u:hunter2@h/d", MODEL: small}
health: {database_url: "postgres://u:hunter2@h/d"}
`, nil, nil)
	tree := c.Tree()
	text := fmt.Sprint(tree)
	if strings.Contains(text, "hunter2") {
		t.Errorf("a secret is shown: %s", text)
	}
	if tree["python"].(map[string]any)["env"].(map[string]string)["MODEL"] != "small" {
		t.Errorf("python.env.MODEL is not shown as small: %v", tree)
	}
	for _, s := range c.Settings() {
		switch s.Key {
		case "redis.url":
			if s.Value != "redis://u:***@r:1" || s.Origin.String() != "runqy.yaml:2" {
				t.Errorf("redis.url is shown as %+v, want redis://u:***@r:1 from runqy.yaml:2", s)
			}
		case "python.max_message":
			if s.Value != "64MiB" || s.Origin.String() != "default" {
				t.Errorf("python.max_message is shown as %+v, want 64MiB from default", s)
			}
		case "python.startup_timeout":
			if s.Value != "1m" {
				t.Errorf("python.startup_timeout is shown as %+v, want 1m", s)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "64MiB": 64 << 20, "64 mib": 64 << 20, "2GB": 2e9, "512k": 512_000, "1.5GiB": 3 << 29, "1Ki": 1024, "7B": 7, "1TiB": 1 << 40,
	} {
		if got, err := parseSize(text); err != nil || int64(got) != want {
			t.Errorf("parseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1", "1XB", "1e", "NaN", "1.2.3", "99999999TiB", "MiB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", text, got)
		}
	}
}

func load(t *testing.T, file string, env []string, flags map[string]string) *Config {
	t.Helper()
	c, _, err := parse("runqy.yaml", []byte(file), Options{Env: env, Flags: flags, Elsewhere: true})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data), "a:1,b")
	}
	f.Add("worker: &a {queues: *a}", "")
	f.Add("x: &x [*x]\nworker: {queues: *x}", "${")
	f.Fuzz(func(t *testing.T, file, queues string) {
		if strings.Contains(file, "_file") {
			t.Skip("a Redis URL may name files")
		}
		c, _, err := parse("fuzz.yaml", []byte(file), Options{Env: []string{"RUNQY_QUEUES=" + queues, "V=v"}, Elsewhere: true})
		if (c == nil) == (err == nil) {
			t.Fatalf("got the configuration %v and the error %v, want exactly one of them", c, err)
		}
		if err != nil {
			return
		}
		for name := range c.Worker.Queues {
			if CheckQueueName(name) != nil {
				t.Fatalf("queue %q passed", name)
			}
		}
		if c.Heartbeat.TTL < 2*c.Heartbeat.Interval || c.Worker.Concurrency < 1 {
			t.Fatalf("an invalid configuration passed: %+v", c)
		}
	})
}

func TestStackSignal(t *testing.T) {
	for text, want := range map[string]int{"auto": 50, "0": 0, "64": 64} {
		if got := load(t, "python: {stack_signal: "+text+"}", nil, nil).Python.StackSignalNumber(); got != want {
			t.Errorf("stack_signal: %s is the signal %d, want %d", text, got, want)
		}
	}
}
