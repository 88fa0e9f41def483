// Package docker builds the image from the Dockerfile and runs it as deploy/compose.yaml and the documentation do, on
// the Docker engine of this machine. It is asked for with RUNQY_TEST_DOCKER=1, which `make docker-test` sets.
package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// waitTimeout bounds every wait. It asserts no speed: a loaded machine is no reason to fail.
	waitTimeout = 3 * time.Minute
	pollTick    = 250 * time.Millisecond
	// commandTime bounds one docker command, and buildTime one that builds or makes images.
	commandTime = 2 * time.Minute
	buildTime   = 20 * time.Minute
)

// root is the repository, seen from this folder.
const root = "../.."

// interrupted is closed by Ctrl-C: waits end, the test fails, and what it started is removed.
var interrupted <-chan struct{}

func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	interrupted = ctx.Done()
	code := m.Run()
	stop()
	os.Exit(code)
}

// engine is the Docker engine of this machine, and what one run of the tests has on it.
type engine struct {
	run     string   // a name of this run's own, which the names of all it creates begin with
	image   string   // the worker's, under test
	base    string   // the image below it
	env     []string // for compose: the images
	compose []string // the command
}

// TestContainers has everything below it, so that the image is built once.
func TestContainers(t *testing.T) {
	if os.Getenv("RUNQY_TEST_DOCKER") == "" {
		t.Skip("not asked for: set RUNQY_TEST_DOCKER=1, or run make docker-test")
	}
	e := newEngine(t)
	t.Run("Image", e.testImage)
	if t.Failed() {
		t.FailNow()
	}
	t.Run("Run", e.testRun)
	t.Run("Drain", e.testDrain)
	t.Run("Compose", e.testCompose)
}

// newEngine builds the image under test, on bases that are there or are made.
func newEngine(t *testing.T) *engine {
	t.Helper()
	if version, err := tryRun(commandTime, "docker", "version", "--format", "{{.Server.Version}}"); err != nil {
		t.Skipf("no Docker engine answers: %v", err)
	} else {
		t.Logf("Docker engine %s", strings.TrimSpace(version))
	}
	e := &engine{run: "runqy-test-" + strconv.FormatInt(time.Now().UnixNano(), 36)}
	e.image = e.run + ":latest"
	for _, command := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		if _, err := tryRun(commandTime, command[0], append(command[1:], "version")...); err == nil {
			e.compose = command
			break
		}
	}
	if e.compose == nil {
		t.Skip("neither docker compose nor docker-compose is there")
	}
	bases := run(t, buildTime, filepath.Join(root, "scripts/docker-bases"))
	e.env = append(strings.Fields(bases), "GOPROXY="+strings.TrimSpace(run(t, commandTime, "go", "env", "GOPROXY")))
	build := []string{"build", "--quiet", "--tag", e.image}
	for _, line := range e.env {
		switch name, value, _ := strings.Cut(line, "="); name {
		case "BASE_IMAGE":
			e.base = value
			fallthrough
		case "BUILD_IMAGE", "GOPROXY":
			build = append(build, "--build-arg", line)
		}
	}
	began := time.Now()
	t.Cleanup(func() { discard(t, "rmi", "--force", e.image) })
	run(t, buildTime, "docker", append(build, root)...)
	t.Logf("built on %s in %v", e.base, time.Since(began).Round(time.Second))
	return e
}

// discard removes something that may not be there.
func discard(t *testing.T, args ...string) {
	t.Helper()
	if _, err := tryRun(commandTime, "docker", args...); err != nil && !strings.Contains(strings.ToLower(err.Error()), "no such") {
		t.Errorf("clean up: %v", err)
	}
}

// docker runs a docker command, which must succeed, and returns what it wrote to standard output.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, commandTime, "docker", args...)
}

// run runs a command, which must succeed, and returns what it wrote to standard output.
func run(t *testing.T, limit time.Duration, name string, args ...string) string {
	t.Helper()
	out, err := tryRun(limit, name, args...)
	if err != nil {
		t.Fatalf("run %s: %v", name, err)
	}
	return out
}

func tryRun(limit time.Duration, name string, args ...string) (string, error) {
	return tryRunWith(limit, nil, name, args...)
}

// tryRunWith runs a command with variables added to its environment. The error has what it wrote to standard error.
func tryRunWith(limit time.Duration, env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("not done within %v (%w)", limit, err)
		}
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, tail(errOut.String()+out.String()))
	}
	return out.String(), nil
}

// tail is the end of a long text.
func tail(text string) string {
	const most = 4 << 10
	text = strings.TrimSpace(text)
	return text[max(0, len(text)-most):]
}

// eventually waits until check returns nil; it fails the test after waitTimeout.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.After(waitTimeout)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-time.After(pollTick):
		case <-deadline:
			t.Fatalf("%s: not within %v: %v", what, waitTimeout, err)
		case <-interrupted:
			t.Fatalf("%s: %v", what, errors.New("interrupted"))
		}
	}
}
