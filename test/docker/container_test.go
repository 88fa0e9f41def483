package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// container is one container, by its id or name.
type container string

// details are what `docker inspect` knows of a container, as far as the tests ask.
type details struct {
	RestartCount int
	State        struct {
		Status   string
		ExitCode int
		Health   *struct {
			Status string
			Log    []probe // the last five
		}
	}
	HostConfig struct {
		ReadonlyRootfs bool
		CapDrop        []string
		SecurityOpt    []string
	}
	NetworkSettings struct {
		Ports map[string][]struct {
			HostIP   string `json:"HostIp"`
			HostPort string
		}
	}
}

// probe is one run of the health check.
type probe struct {
	Start    time.Time
	ExitCode int
	Output   string
}

func (c container) inspect(t *testing.T) details {
	t.Helper()
	var found []details
	if err := json.Unmarshal([]byte(docker(t, "inspect", string(c))), &found); err != nil || len(found) != 1 {
		t.Fatalf("docker inspect %s: %d containers, %v", c, len(found), err)
	}
	return found[0]
}

// exec runs a command in the container, which must succeed.
func (c container) exec(t *testing.T, command ...string) string {
	t.Helper()
	return docker(t, append([]string{"exec", string(c)}, command...)...)
}

// waitHealth waits until the engine calls the container healthy, or unhealthy, after at least so many restarts.
func (c container) waitHealth(t *testing.T, want string, restarts int) details {
	t.Helper()
	var d details
	eventually(t, fmt.Sprintf("%s is %s", c, want), func() error {
		d = c.inspect(t)
		switch {
		case d.State.Health == nil:
			return errors.New("it has no health check")
		case d.State.Health.Status != want || d.RestartCount < restarts:
			return fmt.Errorf("it is %s and %s, after %d restarts; probes: %+v", d.State.Status, d.State.Health.Status,
				d.RestartCount, d.State.Health.Log)
		}
		return nil
	})
	return d
}

// address is where a port of the container is reached from this machine.
func (c container) address(t *testing.T, port string) string {
	t.Helper()
	bound := c.inspect(t).NetworkSettings.Ports[port+"/tcp"]
	if len(bound) != 1 || bound[0].HostIP != "127.0.0.1" {
		t.Fatalf("port %s of %s is published as %+v, want once, on 127.0.0.1", port, c, bound)
	}
	return bound[0].HostIP + ":" + bound[0].HostPort
}

// logs adds what the container wrote to the test's output, when the test failed.
func (c container) logs(t *testing.T, name string) {
	t.Helper()
	if !t.Failed() {
		return
	}
	text, err := tryRun(commandTime, "sh", "-c", `docker logs --tail 60 "$0" 2>&1`, string(c))
	if err != nil {
		text += err.Error()
	}
	t.Logf("log of %s:\n%s", name, text)
}

// killPython kills a worker's Python process as nothing but the kernel or a user of the container would, and returns
// the time after which it was gone.
func (c container) killPython(t *testing.T, pid string) time.Time {
	t.Helper()
	c.exec(t, "sh", "-c", `kill -9 "$0"`, pid)
	return time.Now()
}

// status reads /proc/PID/status in the container.
func (c container) status(t *testing.T, pid string) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for line := range strings.Lines(c.exec(t, "cat", "/proc/"+pid+"/status")) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.Join(strings.Fields(value), " ")
	}
	return fields
}

// wantPrivileges checks that processes of the container have none, whatever the engine was asked for.
func (c container) wantPrivileges(t *testing.T, pids ...string) {
	t.Helper()
	for _, pid := range pids {
		status := c.status(t, pid)
		for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
			if strings.Trim(status[set], "0") != "" || status[set] == "" {
				t.Errorf("process %s (%s) has capabilities: %s %q", pid, status["Name"], set, status[set])
			}
		}
		if status["NoNewPrivs"] != "1" {
			t.Errorf("process %s (%s): NoNewPrivs %q, want 1", pid, status["Name"], status["NoNewPrivs"])
		}
		for _, ids := range []string{"Uid", "Gid"} {
			if status[ids] == "" || strings.HasPrefix(status[ids], "0 ") {
				t.Errorf("process %s (%s): %s %q, want not root", pid, status["Name"], ids, status[ids])
			}
		}
	}
	// As root, so that nothing but the file system itself can refuse.
	_, err := tryRun(commandTime, "docker", "exec", "--user", "0", string(c), "sh", "-c", "echo > /usr/written")
	if err == nil || !strings.Contains(err.Error(), "Read-only file system") {
		t.Errorf("a write to the root file system: %v, want it to be read-only", err)
	}
}

// keeper is a Redis, seen with its own redis-cli.
type keeper struct{ container }

func (r keeper) cli(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(r.exec(t, append([]string{"redis-cli"}, args...)...))
}

// beat is a field of a worker's heartbeat.
func (r keeper) beat(t *testing.T, worker, field string) string {
	t.Helper()
	return r.cli(t, "HGET", "asynq:workers:"+worker, field)
}

// waitActive waits until the worker runs the task.
func (r keeper) waitActive(t *testing.T, worker, task string) {
	t.Helper()
	eventually(t, "the task runs", func() error {
		if got := r.beat(t, worker, "active_task"); got != task {
			return fmt.Errorf("%s runs %q", worker, got)
		}
		return nil
	})
}

// wantTask checks what redis-cli shows of a task.
func (r keeper) wantTask(t *testing.T, id, state string) {
	t.Helper()
	for field, want := range map[string]string{"state": state, "retried": "0"} {
		if got := r.cli(t, "HGET", "asynq:t:"+id, field); got != want {
			t.Errorf("task %s: %s is %q, want %q", id, field, got, want)
		}
	}
}
