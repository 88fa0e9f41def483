package worker

import (
	"slices"
	"strings"
	"testing"

	"github.com/runqy/runqy-worker/internal/config"
)

func environ(cfg *config.Config, own ...string) map[string]string {
	vars := make(map[string]string)
	for _, entry := range childEnviron(own, "/sdk", cfg) {
		name, value, _ := strings.Cut(entry, "=")
		vars[name] = value
	}
	return vars
}

// Whatever the name of a variable: what carries the worker's credentials stays with the worker.
func TestSecretsDoNotReachTheChild(t *testing.T) {
	passwordFile := t.TempDir() + "/password"
	write(t, passwordFile, "fleet-passw0rd\n")
	for _, c := range []struct{ redis, database, variable string }{
		{"redis://:long-s3cret@localhost:6379/0", "", "REDIS_URL=redis://:long-s3cret@localhost:6379/0"},
		{"redis://:long-s3cret@localhost:6379/0", "", "OTHER_DB=redis://:long-s3cret@localhost:6379/5"},
		{"redis://:long-s3cret@localhost:6379/0", "", "REDIS_PASSWORD=long-s3cret"},
		{"redis://:pw@localhost:6379/0", "", "REDIS_PASSWORD=pw"},
		{"redis://:pw@localhost:6379/0", "", "OTHER_DB=redis://:pw@localhost:6379/5"},
		{"redis://:long-s3cret@localhost:6379/0", "", `SETTINGS={"broker":"redis://other:long-s3cret@localhost"}`},
		{"redis://:long-random-s3cret@localhost:6379/0", "", `SETTINGS={"password":"long-random-s3cret"}`},
		{"rediss://worker:p%40ss-w0rd@localhost:6379/0", "", "REDIS_PASSWORD=p@ss-w0rd"},
		{"rediss://worker:p%40ss-w0rd@localhost:6379/0", "", "REDIS_PASSWORD=p%40ss-w0rd"},
		{"redis-sentinel://:long-s3cret@h1:26379,h2:26379/0?master=m", "", "REDIS_URL=redis-sentinel://:long-s3cret@h1:26379,h2:26379/0?master=m"},
		{"redis-sentinel://:long-s3cret@h1:26379,h2:26379/0?master=m", "", "REDIS_PASSWORD=long-s3cret"},
		{"redis-cluster://:long-s3cret@h1:6379,h2:6379", "", "REDIS_PASSWORD=long-s3cret"},
		{"redis-sentinel://h1:26379/0?master=m&sentinel_password=s%20entry", "", "SENTINEL=s entry"},
		{"redis://localhost:6379/0", "postgres://u:db-s3cret@db:5432/app", "DATABASE_URL=postgres://u:db-s3cret@db:5432/app"},
		{"redis://localhost:6379/0", "postgres://db:5432/app?user=u&password=db-s3cret", "PGPASSWORD=db-s3cret"},
		{"redis://localhost:6379/0", "", "FLEET=fleet-passw0rd"},
		{"redis://localhost:6379/0", "", "RUNQY_REDIS_URL=redis://localhost:6379/0"},
		{"redis://localhost:6379/0", "", "RUNQY_ANYTHING=1"},
		{"redis://localhost:6379/0", "", "NOTIFY_SOCKET=/run/systemd/notify"},
		{"redis://localhost:6379/0", "", "WATCHDOG_USEC=30000000"},
		{"redis://localhost:6379/0", "", "WATCHDOG_PID=1"},
	} {
		cfg := config.Default()
		cfg.Redis.URL, cfg.Health.DatabaseURL, cfg.Fleet.Client.PasswordFile = c.redis, c.database, passwordFile
		name, _, _ := strings.Cut(c.variable, "=")
		if value, there := environ(cfg, c.variable, "HOME=/root")[name]; there {
			t.Errorf("redis %s, database %s: the child gets %s=%s", c.redis, c.database, name, value)
		}
	}
}

func TestChildEnviron(t *testing.T) {
	cfg := config.Default()
	cfg.Redis.URL = "redis://:pw@localhost:6379/0"
	cfg.Health.DatabaseURL = "postgres://postgres:postgres@db/app"
	cfg.Worker.Concurrency = 7
	cfg.Python.Env = map[string]string{"MODEL": "small", "PYTHONPATH": "/mine", "REDIS_URL": "redis://:pw@localhost:6379/9"}
	got := environ(cfg, "HOME=/root", "PATH=/bin", "MODEL=large", "PYTHONPATH=/theirs", "SPWORD=pwd", "PGHOME=/home/postgres", "ODD", "EMPTY=")
	for name, want := range map[string]string{
		"HOME": "/root", "PATH": "/bin", "EMPTY": "",
		"MODEL":                    "small",                        // python.env wins
		"PYTHONPATH":               "/sdk:/mine",                   // behind the SDK
		"REDIS_URL":                "redis://:pw@localhost:6379/9", // given on purpose
		"SPWORD":                   "pwd",                          // holds a short password by chance
		"PGHOME":                   "/home/postgres",               // likewise
		"PYTHONUNBUFFERED":         "1",
		"RUNQY_WORKER_CONCURRENCY": "7",
	} {
		if value, there := got[name]; !there || value != want {
			t.Errorf("%s is %q (%v), want %q", name, value, there, want)
		}
	}
	if len(got) != 10 {
		t.Errorf("the child gets %v", got)
	}
	if env := childEnviron([]string{"B=1", "A=1"}, "", config.Default()); !slices.IsSorted(env) || slices.Contains(env, "PYTHONPATH=") {
		t.Errorf("without an SDK: %v", env)
	}
	cfg.Python.Env = map[string]string{"PYTHONUNBUFFERED": ""}
	if value := environ(cfg)["PYTHONUNBUFFERED"]; value != "" {
		t.Errorf("PYTHONUNBUFFERED is %q although python.env says otherwise", value)
	}
}
