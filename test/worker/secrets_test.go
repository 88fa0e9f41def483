package worker

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// Neither the URL of Redis nor its password appears anywhere but in the configuration.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const password = "hidden-red1s"
	server := redistest.Start(t, "--requirepass", password)
	q := harness.NewQueue(t, server.Client)
	w := harness.NewWorker(t, "", nil)
	// Through the environment under another name, as container platforms do it.
	harness.WriteConfig(t, w.Config, harness.Settings{
		"redis.url": "${CACHE_URL}", "worker.id": w.ID, "worker.queues": []string{harness.QueueName},
		"python.command": []string{"python3", harness.TaskFile(t, "sync.py")}, "python.on_crash": "degrade",
		"health.listen": "127.0.0.1:0", "health.socket": filepath.Join(w.Dir, "s"),
		"heartbeat.interval": "1s", "heartbeat.ttl": "3s",
	})
	w.ExtraEnv = []string{
		"CACHE_URL=" + server.URL, "CACHE_PASSWORD=" + password, "RUNQY_REDIS_URL=" + server.URL, "HARMLESS=stays",
	}
	w.Start("--log-level", "debug", "run", "-c", w.Config)
	q.PythonPID(w.ID)
	environment := q.Result(q.Enqueue("environ", nil))
	var vars map[string]string
	if err := json.Unmarshal([]byte(environment), &vars); err != nil || vars["HARMLESS"] != "stays" || vars["RUNQY_WORKER_CONCURRENCY"] != "1" {
		t.Errorf("the child's environment is %v (%v), want HARMLESS and RUNQY_WORKER_CONCURRENCY in it", vars, err)
	}
	q.AwaitState(q.Enqueue("boom", nil), asynq.TaskStateRetry)
	_, metrics := harness.Get(t, "http://"+w.Addr()+"/metrics")
	_, verbose := harness.Get(t, "http://"+w.Addr()+"/health?verbose=1")
	_, queues := harness.Get(t, "http://"+w.Addr()+"/health/v2/queues")
	config := w.Command("check-config")
	configJSON := w.Command("check-config", "-o", "json")
	check := w.Command("healthcheck")
	workers := w.Command("workers", "-o", "json")
	server.Kill()
	w.AwaitAnswer("/health", 503, harness.UnhealthyBody)
	_, away := harness.Get(t, "http://"+w.Addr()+"/health?verbose=1")
	server.Restart()
	beat := ""
	q.PythonPID(w.ID)
	for name, value := range q.Heartbeat(w.ID) {
		beat += name + "=" + value + "\n"
	}
	w.Stop()
	if config.Code != 0 || configJSON.Code != 0 || check.Code != 0 || workers.Code != 0 {
		t.Errorf("commands: %+v %+v %+v %+v, want exit code 0", config, configJSON, check, workers)
	}
	for where, text := range map[string]string{
		"the log": w.Log.String(), "/metrics": metrics, "/health?verbose=1": verbose, "/health without Redis": away,
		"/health/v2/queues": queues, "check-config": config.Out + config.ErrOut, "check-config -o json": configJSON.Out,
		"healthcheck": check.Out, "workers": workers.Out, "the heartbeat": beat, "the child's environment": environment,
	} {
		if text == "" {
			t.Errorf("%s is empty, want text", where)
		}
		if strings.Contains(text, password) {
			t.Errorf("%s shows the password of Redis:\n%s", where, text)
		}
	}
}
