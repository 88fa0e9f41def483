package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const queueName = "inference_default"

// services are those of deploy/compose.yaml.
var services = []string{"redis", "worker-1", "worker-2", "prometheus", "alertmanager"}

// system is a running deploy/compose.yaml.
type system struct {
	*engine
	built        string // the image that compose builds, which is not there before
	redis        keeper
	one, two     container // the workers
	prometheus   container
	alertmanager container
}

// testCompose goes through what happens to a deployment, in an order in which the system is whole again after each.
func (e *engine) testCompose(t *testing.T) {
	s := &system{engine: e, built: e.run + "-compose:latest"}
	t.Cleanup(func() { s.down(t) })
	s.up(t)
	steps := []struct {
		name string
		run  func(t *testing.T)
	}{
		{"Hardened", s.testHardened},
		{"Task", s.testTask},
		{"Monitoring", s.testMonitoring},
		{"Degrade", s.testDegrade},
		{"Exit", s.testExit},
		{"Stop", s.testStop},
	}
	for _, step := range steps {
		if !t.Run(step.name, step.run) {
			return
		}
	}
}

// command runs docker compose for this run's project. The ports are whichever are free.
func (s *system) command(limit time.Duration, env []string, args ...string) (string, error) {
	file := filepath.Join(root, "deploy/compose.yaml")
	argv := slices.Concat(s.compose, []string{"--project-name", s.run, "--file", file}, args)
	env = slices.Concat(s.env, []string{"WORKER_IMAGE=" + s.built, "WORKER_1_PORT=0", "WORKER_2_PORT=0", "PROMETHEUS_PORT=0", "ALERTMANAGER_PORT=0"}, env)
	return tryRunWith(limit, env, argv[0], argv[1:]...)
}

// up starts every service as the file's first lines say, and waits until all are healthy.
func (s *system) up(t *testing.T) {
	t.Helper()
	if _, err := s.command(buildTime, nil, "up", "--build", "--detach"); err != nil {
		t.Fatalf("start the services: %v", err)
	}
	s.find(t)
	for _, c := range s.containers() {
		c.waitHealth(t, "healthy", 0)
	}
}

// find learns which containers the services have now.
func (s *system) find(t *testing.T) {
	t.Helper()
	for _, service := range services {
		id, err := s.command(commandTime, nil, "ps", "--quiet", service)
		c := container(strings.TrimSpace(id))
		if err != nil || c == "" {
			t.Fatalf("the container of %s: %q, %v", service, id, err)
		}
		switch service {
		case "redis":
			s.redis = keeper{c}
		case "worker-1":
			s.one = c
		case "worker-2":
			s.two = c
		case "prometheus":
			s.prometheus = c
		case "alertmanager":
			s.alertmanager = c
		}
	}
}

func (s *system) containers() []container {
	return []container{s.redis.container, s.one, s.two, s.prometheus, s.alertmanager}
}

// down removes everything, and sees that it is gone.
func (s *system) down(t *testing.T) {
	t.Helper()
	if t.Failed() {
		text, err := s.command(commandTime, nil, "logs", "--no-color", "--tail", "60")
		if err != nil {
			text += err.Error()
		}
		t.Logf("logs:\n%s", text)
	}
	if _, err := s.command(commandTime, nil, "down", "--volumes", "--remove-orphans", "--timeout", "20"); err != nil {
		t.Errorf("remove the containers: %v", err)
	}
	discard(t, "rmi", "--force", s.built)
	label := "label=com.docker.compose.project=" + s.run
	for _, list := range [][]string{{"ps", "--all"}, {"volume", "ls"}, {"network", "ls"}} {
		if left := docker(t, append(list, "--quiet", "--filter", label)...); left != "" {
			t.Errorf("docker %s shows what is left: %s", strings.Join(list, " "), left)
		}
	}
}

// testHardened sees that no container has what it does not need.
func (s *system) testHardened(t *testing.T) {
	for _, c := range s.containers() {
		host := c.inspect(t).HostConfig
		if !host.ReadonlyRootfs || !slices.Contains(host.CapDrop, "ALL") || !slices.Contains(host.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s: %+v", c, host)
		}
		c.wantPrivileges(t, "1")
	}
	s.one.wantPrivileges(t, "1", s.redis.beat(t, "worker-1", "pid"), s.redis.beat(t, "worker-1", "python_pid"))
	if got := s.one.status(t, "1")["Uid"]; !strings.HasPrefix(got, "65532 ") {
		t.Errorf("the worker runs as %q, want 65532", got)
	}
}

// testTask types what the file's first lines say.
func (s *system) testTask(t *testing.T) {
	for _, c := range []container{s.one, s.two} {
		greet(t, c)
	}
	var health struct{ Worker, Broker string }
	out := s.one.exec(t, "runqy-worker", "healthcheck")
	if err := json.Unmarshal([]byte(out), &health); err != nil || health.Worker != "healthy" || health.Broker != "healthy" {
		t.Errorf("healthcheck: %q, %v", out, err)
	}
	if code, _ := get(t, "http://"+s.one.address(t, "8001")+"/health", nil); code != http.StatusOK {
		t.Errorf("/health on the published port: %d", code)
	}
}

func greet(t *testing.T, c container, flags ...string) {
	t.Helper()
	args := append([]string{"runqy-worker", "enqueue", queueName, "greet", `{"name": "Ada"}`, "--wait"}, flags...)
	if got := strings.TrimSpace(c.exec(t, args...)); got != `{"greeting":"Hello, Ada!"}` {
		t.Errorf("the result is %q", got)
	}
}

// get reads JSON, unless into is nil, from a server of the system.
func get(t *testing.T, url string, into any) (int, error) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	response, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if into != nil {
		err = json.NewDecoder(response.Body).Decode(into)
	}
	return response.StatusCode, err
}

// testMonitoring asks Prometheus what it watches and whom it tells.
func (s *system) testMonitoring(t *testing.T) {
	api := "http://" + s.prometheus.address(t, "9090") + "/api/v1/"
	eventually(t, "Prometheus scrapes both workers", func() error {
		var targets struct {
			Data struct {
				ActiveTargets []struct {
					Labels            map[string]string
					Health, LastError string
				}
			}
		}
		if _, err := get(t, api+"targets?state=active", &targets); err != nil {
			return err
		}
		var up []string
		for _, target := range targets.Data.ActiveTargets {
			if target.Health == "up" {
				up = append(up, target.Labels["job"]+" "+target.Labels["instance"])
			}
		}
		slices.Sort(up)
		if want := []string{"runqy-worker worker-1:8001", "runqy-worker worker-2:8001"}; !slices.Equal(up, want) {
			return fmt.Errorf("up are %q of %+v, want %q", up, targets.Data.ActiveTargets, want)
		}
		return nil
	})
	eventually(t, "Prometheus knows Alertmanager", func() error {
		var known struct {
			Data struct{ ActiveAlertmanagers []struct{ URL string } }
		}
		if _, err := get(t, api+"alertmanagers", &known); err != nil {
			return err
		}
		if all := known.Data.ActiveAlertmanagers; len(all) != 1 || !strings.HasPrefix(all[0].URL, "http://alertmanager:9093/") {
			return fmt.Errorf("it knows %v", all)
		}
		return nil
	})
	eventually(t, "the rules are evaluated", func() error {
		var rules struct {
			Data struct {
				Groups []struct {
					Rules []struct{ Name, Health, LastError string }
				}
			}
		}
		if _, err := get(t, api+"rules", &rules); err != nil {
			return err
		}
		var count int
		for _, group := range rules.Data.Groups {
			for _, rule := range group.Rules {
				if count++; rule.Health != "ok" {
					return fmt.Errorf("rule %s is %s %s", rule.Name, rule.Health, rule.LastError)
				}
			}
		}
		if count == 0 {
			return errors.New("there are none")
		}
		return nil
	})
	if code, err := get(t, "http://"+s.alertmanager.address(t, "9093")+"/-/ready", nil); code != http.StatusOK {
		t.Errorf("Alertmanager on its published port: %d, %v", code, err)
	}
}

// testDegrade kills the Python process of a worker that waits for a person then, and is that person.
func (s *system) testDegrade(t *testing.T) {
	pid := s.redis.beat(t, "worker-1", "python_pid")
	killed := s.one.killPython(t, pid)
	d := s.one.waitHealth(t, "unhealthy", 0)
	var failed int
	for _, p := range d.State.Health.Log {
		if !p.Start.After(killed) {
			continue
		}
		if failed++; p.ExitCode == 0 {
			t.Errorf("a probe %v after the kill found it healthy: %s", p.Start.Sub(killed), p.Output)
		}
	}
	// The engine needs three failures to say so (retries); it may have had one more until it was asked.
	t.Logf("unhealthy after %d failed probes", failed)
	if code, _ := get(t, "http://"+s.one.address(t, "8001")+"/health", nil); code != http.StatusServiceUnavailable {
		t.Errorf("/health on the published port: %d", code)
	}
	greet(t, s.one) // by the other worker

	s.one.exec(t, "runqy-worker", "restart", "worker-1")
	s.one.waitHealth(t, "healthy", 0)
	if again := s.redis.beat(t, "worker-1", "python_pid"); again == pid {
		t.Errorf("the process is %s, as before the kill", again)
	}
	greet(t, s.one, "--worker", "worker-1")
}

// testExit has a worker end when its Python process does, and the engine start it again.
func (s *system) testExit(t *testing.T) {
	if _, err := s.command(buildTime, []string{"RUNQY_PYTHON_ON_CRASH=exit"}, "up", "--detach", "--no-deps", "worker-2"); err != nil {
		t.Fatalf("start worker-2 again: %v", err)
	}
	s.find(t)
	s.two.waitHealth(t, "healthy", 0)
	since := time.Now()
	s.two.killPython(t, s.redis.beat(t, "worker-2", "python_pid"))
	s.two.waitHealth(t, "healthy", 1)
	if codes := s.two.deaths(t, since); !slices.Equal(codes, []string{"70"}) {
		t.Errorf("the container ended with the codes %q, want 70, once", codes)
	}
	greet(t, s.two, "--worker", "worker-2")
}

// deaths are the exit codes with which the container ended since then.
func (c container) deaths(t *testing.T, since time.Time) []string {
	t.Helper()
	seconds := func(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
	out := docker(t, "events", "--since", seconds(since), "--until", seconds(time.Now().Add(time.Second)),
		"--filter", "container="+string(c), "--filter", "event=die", "--format", "{{.Actor.Attributes.exitCode}}")
	return strings.Fields(out)
}

// testStop stops a worker with a task that ends in time.
func (s *system) testStop(t *testing.T) {
	s.one.exec(t, "runqy-worker", "enqueue", queueName, "sleep", `{"seconds": 5}`, "--id", "drained", "--worker", "worker-1")
	s.redis.waitActive(t, "worker-1", "drained")
	docker(t, "stop", string(s.one))
	if state := s.one.inspect(t).State; state.Status != "exited" || state.ExitCode != 0 {
		t.Errorf("the worker is %s with exit code %d, want exited with 0", state.Status, state.ExitCode)
	}
	s.redis.wantTask(t, "drained", "completed")
	if got := s.redis.cli(t, "GET", "asynq:result:drained"); got != `{"slept":5.0}` && got != `{"slept":5}` {
		t.Errorf("its result is %q", got)
	}
	if got := s.redis.cli(t, "EXISTS", "asynq:workers:worker-1"); got != "0" {
		t.Error("the heartbeat is still there")
	}
	greet(t, s.two)
}
