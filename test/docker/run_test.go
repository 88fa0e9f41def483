package docker

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// hardened are the flags of docker run that the documentation gives.
var hardened = []string{"--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"}

// startRedis runs a Redis on a network of the test's own, where the others find it as redis.
func (e *engine) startRedis(t *testing.T) (redis keeper, network string) {
	t.Helper()
	network = e.run + "-" + strings.ToLower(filepath.Base(t.Name()))
	docker(t, "network", "create", network)
	t.Cleanup(func() { discard(t, "network", "rm", network) })
	var image string
	for _, line := range e.env {
		if name, value, _ := strings.Cut(line, "="); name == "REDIS_IMAGE" {
			image = value
		}
	}
	redis = keeper{e.start(t, network, "redis", "--network-alias", "redis", image)}
	eventually(t, "Redis answers", func() error {
		_, err := tryRun(commandTime, "docker", "exec", string(redis.container), "redis-cli", "ping")
		return err
	})
	return redis, network
}

// start runs a container until the test ends.
func (e *engine) start(t *testing.T, network, name string, args ...string) container {
	t.Helper()
	c := container(network + "-" + name)
	t.Cleanup(func() {
		c.logs(t, name)
		discard(t, "rm", "--force", "--volumes", string(c))
	})
	docker(t, append([]string{"run", "--detach", "--name", string(c), "--network", network}, args...)...)
	return c
}

// testRun builds the image of docs/operations.md, with the program of README.md in it, and runs it as they say.
func (e *engine) testRun(t *testing.T) {
	dir := t.TempDir()
	from := "FROM " + e.image
	dockerfile := strings.Replace(block(t, "docs/operations.md", "dockerfile"), "FROM runqy-worker:latest", from, 1)
	if !strings.HasPrefix(dockerfile, from) {
		t.Fatalf("the Dockerfile of docs/operations.md: %q", dockerfile)
	}
	for name, text := range map[string]string{
		"Dockerfile": dockerfile, "main.py": block(t, "README.md", "python"), "worker.yaml": block(t, "README.md", "yaml"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatalf("write %s: %v", name, err)
		}
	}
	image := e.run + "-tasks"
	t.Cleanup(func() { discard(t, "rmi", "--force", image) })
	run(t, buildTime, "docker", "build", "--quiet", "--tag", image, dir)

	redis, network := e.startRedis(t)
	tasks := e.start(t, network, "tasks", slices.Concat(hardened, []string{"--env", "RUNQY_REDIS_URL=redis://redis:6379/0", image})...)
	tasks.waitHealth(t, "healthy", 0)
	if out := tasks.exec(t, "runqy-worker", "healthcheck"); !strings.Contains(out, `"worker":"healthy"`) {
		t.Errorf("healthcheck: %s", out)
	}
	greet(t, tasks)
	if got := tasks.status(t, "1")["Name"]; got != "tini" {
		t.Errorf("process 1 is %q, want tini", got)
	}
	tasks.wantPrivileges(t, "1", redis.beat(t, "worker-abc123", "pid"), redis.beat(t, "worker-abc123", "python_pid"))
}

// testDrain stops a worker whose task does not end in time: it goes back as if nobody had taken it.
func (e *engine) testDrain(t *testing.T) {
	redis, network := e.startRedis(t)
	app, err := filepath.Abs(filepath.Join(root, "deploy/app"))
	if err != nil {
		t.Fatalf("the path of deploy/app: %v", err)
	}
	args := slices.Concat(hardened, []string{"--volume", app + ":/app:ro", "--env", "RUNQY_CONFIG=/app/worker.yaml",
		"--env", "RUNQY_REDIS_URL=redis://redis:6379/0", "--env", "RUNQY_WORKER_ID=worker-1",
		"--env", "RUNQY_WORKER_SHUTDOWN_TIMEOUT=1s", "--env", "RUNQY_PYTHON_STOP_TIMEOUT=2s", e.image})
	worker := e.start(t, network, "worker", args...)
	worker.waitHealth(t, "healthy", 0)
	worker.exec(t, "runqy-worker", "enqueue", queueName, "sleep", `{"seconds": 600}`, "--id", "given-back")
	redis.waitActive(t, "worker-1", "given-back")
	docker(t, "stop", "--time", "50", string(worker))
	if state := worker.inspect(t).State; state.Status != "exited" || state.ExitCode != 0 {
		t.Errorf("the worker is %s with exit code %d, want exited with 0", state.Status, state.ExitCode)
	}
	redis.wantTask(t, "given-back", "pending")
	for list, want := range map[string]string{"pending": "1", "active": "0"} {
		if got := redis.cli(t, "LLEN", fmt.Sprintf("asynq:{%s}:%s", queueName, list)); got != want {
			t.Errorf("%s tasks are %s, want %s", got, list, want)
		}
	}
}

// block is the first block of code in that language in a page of the documentation.
func block(t *testing.T, page, language string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatalf("read %s: %v", page, err)
	}
	found := regexp.MustCompile("(?ms)^```" + language + "\n(.*?)^```").FindSubmatch(text)
	if found == nil {
		t.Fatalf("%s has no block of %s", page, language)
	}
	return string(found[1])
}
