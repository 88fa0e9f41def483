package test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// Neither the URL of Redis nor its password appears anywhere but in the configuration.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const password = "hidden-red1s"
	server := redistest.Start(t, "--requirepass", password)
	q := newQueueUser(t, server.Client)
	w := newWorker(t, "", nil)
	// Through the environment under another name, as container platforms do it.
	writeConfig(t, w.Config, settings{
		"redis.url": "${CACHE_URL}", "worker.id": w.ID, "worker.queues": []string{queueName},
		"python.command": []string{"python3", taskFile(t, "sync.py")}, "python.on_crash": "degrade",
		"health.listen": "127.0.0.1:0", "health.socket": filepath.Join(w.Dir, "s"),
		"heartbeat.interval": "1s", "heartbeat.ttl": "3s",
	})
	w.extraEnv = []string{
		"CACHE_URL=" + server.URL, "CACHE_PASSWORD=" + password, "RUNQY_REDIS_URL=" + server.URL, "HARMLESS=stays",
	}
	w.start("--log-level", "debug", "run", "-c", w.Config)
	q.pythonPID(w.ID)
	environment := q.result(q.enqueue("environ", nil))
	var vars map[string]string
	if err := json.Unmarshal([]byte(environment), &vars); err != nil || vars["HARMLESS"] != "stays" || vars["RUNQY_WORKER_CONCURRENCY"] != "1" {
		t.Errorf("the child's environment is %v (%v)", vars, err)
	}
	q.inState(q.enqueue("boom", nil), asynq.TaskStateRetry)
	_, metrics := get(t, "http://"+w.Addr()+"/metrics")
	_, verbose := get(t, "http://"+w.Addr()+"/health?verbose=1")
	_, queues := get(t, "http://"+w.Addr()+"/health/v2/queues")
	config := w.command("check-config")
	configJSON := w.command("check-config", "-o", "json")
	check := w.command("healthcheck")
	workers := w.command("workers", "-o", "json")
	server.Kill()
	w.answers("/health", 503, unhealthyBody)
	_, away := get(t, "http://"+w.Addr()+"/health?verbose=1")
	server.Restart()
	beat := ""
	q.pythonPID(w.ID)
	for name, value := range q.beat(w.ID) {
		beat += name + "=" + value + "\n"
	}
	w.Stop()
	if config.Code != 0 || configJSON.Code != 0 || check.Code != 0 || workers.Code != 0 {
		t.Errorf("commands: %+v %+v %+v %+v", config, configJSON, check, workers)
	}
	for where, text := range map[string]string{
		"the log": w.Log.String(), "/metrics": metrics, "/health?verbose=1": verbose, "/health without Redis": away,
		"/health/v2/queues": queues, "check-config": config.Out + config.ErrOut, "check-config -o json": configJSON.Out,
		"healthcheck": check.Out, "workers": workers.Out, "the heartbeat": beat, "the child's environment": environment,
	} {
		if text == "" {
			t.Errorf("%s is empty", where)
		}
		if strings.Contains(text, password) {
			t.Errorf("%s shows the password of Redis:\n%s", where, text)
		}
	}
}
