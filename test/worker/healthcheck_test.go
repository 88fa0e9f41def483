package worker

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/crypto/bcrypt"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// checkup is what the healthcheck command prints, to the last key.
type checkup struct {
	Worker     string `json:"worker"`
	Broker     string `json:"broker"`
	Database   string `json:"database"`
	QueueDepth int    `json:"queue_depth"` // -1: null
	Processing int    `json:"processing"`
	Failed     int    `json:"failed"`
	Report     string `json:"report"`
	Error      string `json:"error,omitempty"`
}

func readCheckup(t *testing.T, out harness.Outcome) checkup {
	t.Helper()
	c := checkup{QueueDepth: -1, Processing: -1, Failed: -1} // null leaves them as they are
	decoder := json.NewDecoder(strings.NewReader(out.Out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		t.Fatalf("healthcheck prints %+v: %v", out, err)
	}
	return c
}

func TestHealthcheckCommand(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.NewWorker(t, server.URL, harness.Settings{"health.listen": ""}) // the socket is enough
	ask := func(code int, want checkup, args ...string) {
		t.Helper()
		out := w.Command(append([]string{"healthcheck"}, args...)...)
		got := readCheckup(t, out)
		if (got.Error == "") != (want.Error == "") || !strings.Contains(got.Error, want.Error) {
			t.Errorf("healthcheck %q: error %q, want %q", args, got.Error, want.Error)
		}
		if told := strings.Contains(got.Report, "; age="); told != (want.Processing >= 0) {
			t.Errorf("healthcheck %q names the report %q", args, got.Report)
		}
		got.Error, got.Report = want.Error, ""
		if out.Code != code || got != want {
			t.Errorf("healthcheck %q ends with %d and prints %s, want %d and %+v", args, out.Code, out.Out, code, want)
		}
	}
	nobody := checkup{
		Worker: "unhealthy", Broker: "unknown", Database: "not configured", QueueDepth: -1, Processing: -1, Failed: -1,
		Error: "no worker answers at the unix socket",
	}
	ask(1, nobody)
	ask(1, nobody, "--live")

	w.Start("run", "-c", w.Config)
	pid := q.PythonPID(w.ID)
	if address := q.Heartbeat(w.ID)["address"]; address != "" {
		t.Errorf("without a server the address is %q, want none", address)
	}
	well := checkup{Worker: "healthy", Broker: "healthy", Database: "not configured"}
	ask(0, well)
	ask(0, well, "--live")
	ask(0, well, "--ready")

	task := q.Enqueue("sleep", map[string]any{"seconds": 600})
	q.AwaitHeartbeat(w.ID, "active_task="+task)
	q.Enqueue("echo", 1)
	q.Enqueue("echo", 2)
	busy := well
	busy.Processing, busy.QueueDepth = 1, 2
	harness.Eventually(t, "the depth is told", func() error {
		got := readCheckup(t, w.Command("healthcheck"))
		if got.Report = ""; got != busy {
			return harness.NotYet(w, "%+v", got)
		}
		return nil
	})

	harness.Kill(t, pid, syscall.SIGKILL)
	q.AwaitHeartbeat(w.ID, "status=degraded", "active_task=")
	q.AwaitReason(w.ID, "SIGKILL")
	q.AwaitState(task, asynq.TaskStateRetry)
	degraded := checkup{Worker: "unhealthy", Broker: "healthy", Database: "not configured", QueueDepth: 2, Failed: 1, Error: "SIGKILL"}
	ask(1, degraded)
	ask(0, degraded, "--live")
	ask(1, degraded, "--ready")

	// A worker that does not run on does not make the command hang.
	w.Signal(syscall.SIGSTOP)
	frozen := nobody
	frozen.Error = "does not answer"
	began := time.Now()
	ask(1, frozen)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the answer took %v, want 20s at most", took)
	} else {
		t.Logf("answered %v after asking a stopped worker", took)
	}
	ask(1, frozen, "--live")
	w.Signal(syscall.SIGCONT)
	w.Stop()
	ask(1, nobody)

	// With a wrong configuration it is not healthy, and says why in the same form.
	if err := os.WriteFile(w.Config, []byte("worker:\n  concurrency: none\n"), 0o600); err != nil {
		t.Fatalf("write a wrong configuration: %v", err)
	}
	wrong := nobody
	wrong.Database, wrong.Error = "unknown", "worker.concurrency" // nobody can tell whether there is one
	ask(1, wrong)
}

// With a web_config every path on the port wants its credentials over TLS; the unix socket does not.
func TestHealthBehindTLSAndPassword(t *testing.T) {
	t.Parallel()
	server := redistest.StartTLS(t)
	q := harness.NewQueue(t, server.Client)
	hash, err := bcrypt.GenerateFromPassword([]byte("port-password"), bcrypt.MinCost)
	if err != nil {
		t.Fatalf("hash the password: %v", err)
	}
	file := filepath.Join(t.TempDir(), "web.yaml")
	text := "tls_server_config: {cert_file: " + server.CertFile + ", key_file: " + server.KeyFile + "}\n" +
		"basic_auth_users: {probe: '" + string(hash) + "'}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatalf("write the web_config: %v", err)
	}
	w := harness.StartWorker(t, server.URL, harness.Settings{"health.web_config": file})
	q.PythonPID(w.ID)

	authority, err := os.ReadFile(server.CAFile)
	if err != nil {
		t.Fatalf("read the authority: %v", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	client := &http.Client{Timeout: 30 * time.Second, Transport: transport}
	for _, path := range []string{"/", "/health", "/livez", "/readyz", "/metrics", "/health/v2/queues"} {
		for password, want := range map[string]int{"": 401, "wrong": 401, "port-password": 200} {
			req, err := http.NewRequest(http.MethodGet, "https://"+w.Addr()+path, nil)
			if err != nil {
				t.Fatalf("make a request: %v", err)
			}
			if password != "" {
				req.SetBasicAuth("probe", password)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatalf("ask for %s: %v", path, err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s with password %q answers %d, want %d", path, password, resp.StatusCode, want)
			}
		}
	}
	if code, body := harness.Get(t, "http://"+w.Addr()+"/health"); code == 200 {
		t.Errorf("/health without TLS answers %d %s, want a failure", code, body)
	}
	if out := w.Command("healthcheck", "--ready"); out.Code != 0 {
		t.Errorf("healthcheck: %+v, want exit code 0", out)
	}
	w.Stop()
}

// A database that refuses makes the worker unhealthy and closes the gate.
func TestDatabaseThatRefuses(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{
		"health.database_url": "postgres://user:db-password@127.0.0.1:" + harness.RefusingPort(t) + "/db",
	})
	q.AwaitHeartbeat(w.ID, "status=running", "healthy=false", "state=BUSY")
	q.AwaitReason(w.ID, "database")
	task := q.Enqueue("echo", 1)
	harness.Consistently(t, 2*time.Second, func() error {
		info, err := q.Inspector.GetTaskInfo(harness.QueueName, task)
		if err == nil && info.State != asynq.TaskStatePending {
			err = fmt.Errorf("the task is %s", info.State)
		}
		return err
	})
	w.AwaitAnswer("/health", 503, harness.UnhealthyBody)
	w.AwaitAnswer("/livez", 200, "")
	out := w.Command("healthcheck")
	if got := readCheckup(t, out); out.Code != 1 || got.Worker != "unhealthy" || got.Broker != "healthy" || got.Database != "unhealthy" || got.Error == "" {
		t.Errorf("healthcheck: %+v, want exit code 1", out)
	}
	w.Stop()
	if strings.Contains(w.Log.String(), "db-password") {
		t.Errorf("the log shows the database's password")
	}
}
