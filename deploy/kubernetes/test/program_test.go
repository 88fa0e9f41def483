package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

const timeout = 60 * time.Second

// program builds the worker of this checkout, once; with the race detector when the tests have it, so that what was
// compiled for the main module's tests is used again.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "runqy-k8s")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "runqy-worker")
	args := []string{"build", "-C", "../../..", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "./cmd/runqy-worker")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the worker: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// container lays the ConfigMap out as the pod would have it, below a folder, and returns the variables that it would
// see there, with something plausible for what the cluster fills in.
func container(t *testing.T, config *corev1.ConfigMap, d *appsv1.Deployment) (env []string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range config.Data {
		if name == "worker.yaml" { // python.dir is /app
			text = strings.Replace(text, "dir: /app\n", "dir: "+dir+"\n", 1)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range webSecret() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	filled := map[string]string{
		"field metadata.name": "runqy-worker-6d4b9c7f5-x2x8k", "field status.podIP": "10.1.2.3",
		"secret runqy-worker-redis url": "redis://:password@redis:6379/0", "secret runqy-worker-web username": "prometheus",
	}
	env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir}
	for name, value := range environment(d) {
		if known, ok := filled[value]; ok {
			value = known
		}
		value = strings.ReplaceAll(value, "$(POD_IP)", filled["field status.podIP"])
		value = strings.Replace(value, "/app/", dir+"/", 1)
		env = append(env, name+"="+strings.Replace(value, "/etc/runqy-web/", dir+"/", 1))
	}
	return env
}

// webSecret is what the secret of the protected port holds, but for the user's name.
func webSecret() map[string]string {
	return map[string]string{
		"password": "password\n",
		"web.yml":  "basic_auth_users: {prometheus: $2y$04$SWraT6lJnvJvnEqqd4LYUuiHrWu9NhNjse2wT/oygg5.Ia9s8uA1.}\n", // of that password
	}
}

// configuration is what check-config says is in force.
type configuration map[string]any

// text is the value of a key with dots.
func (c configuration) text(key string) string {
	var at any = map[string]any(c)
	for part := range strings.SplitSeq(key, ".") {
		branch, _ := at.(map[string]any)
		at = branch[part]
	}
	return fmt.Sprint(at)
}

func (c configuration) duration(t *testing.T, key string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(c.text(key))
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return d
}

// checkedConfig has the program itself judge the configuration of the manifests.
func checkedConfig(t *testing.T, config *corev1.ConfigMap, d *appsv1.Deployment) configuration {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "check-config", "-o", "json")
	cmd.Env = container(t, config, d)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil || errOut.Len() > 0 {
		t.Fatalf("check-config: %v\n%s%s", err, out, errOut.String())
	}
	var told struct{ Config configuration }
	if err := json.Unmarshal(out, &told); err != nil {
		t.Fatalf("check-config: %v\n%s", err, out)
	}
	return told.Config
}

func TestTheWorkerAcceptsItsConfiguration(t *testing.T) {
	for name, components := range map[string][]string{"base": nil, "protected port": {protectedPort}} {
		t.Run(name, func(t *testing.T) {
			objects := render(t, components...)
			config := checkedConfig(t, one[corev1.ConfigMap](t, objects), one[appsv1.Deployment](t, objects))
			for key, want := range map[string]string{
				"worker.id": "runqy-worker-6d4b9c7f5-x2x8k", "health.advertise": "10.1.2.3:8001", "health.listen": ":8001",
			} {
				if got := config.text(key); got != want {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
		})
	}
}

// The worker runs with the manifests' configuration and handler, and answers at the paths that are probed and scraped.
func TestTheWorkerServesWhatIsProbed(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		if os.Getenv("RUNQY_TEST_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	objects := render(t)
	d := one[appsv1.Deployment](t, objects)
	cmd := exec.Command(path, "--log-format", "json", "--redis", "embedded://127.0.0.1:0", "run")
	cmd.Env = append(container(t, one[corev1.ConfigMap](t, objects), d), "RUNQY_HEALTH_LISTEN=127.0.0.1:0")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	ended := make(chan string, 1)
	go func() { // ends with the process
		var log strings.Builder
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var line struct{ Msg, Address string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "http server listening" {
				address <- line.Address
			}
			log.WriteString(lines.Text() + "\n")
		}
		ended <- log.String()
	}()
	stop := time.AfterFunc(3*timeout, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		log := <-ended
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("the worker ended with %v:\n%s", err, log)
		}
	}()
	var at string
	select {
	case at = <-address:
	case <-time.After(timeout):
		t.Fatal("the worker does not serve")
	}
	for _, probe := range []*corev1.Probe{worker(d).StartupProbe, worker(d).LivenessProbe, worker(d).ReadinessProbe} {
		if err := ok("http://" + at + probe.HTTPGet.Path); err != nil {
			t.Error(err)
		}
	}
	if err := ok("http://" + at + "/metrics"); err != nil {
		t.Error(err)
	}
	for _, probe := range []*corev1.Probe{worker(d).StartupProbe, worker(d).ReadinessProbe} {
		flag := map[string]string{"/livez": "--live", "/readyz": "--ready"}[probe.HTTPGet.Path]
		check := exec.Command(path, "healthcheck", flag)
		check.Env = cmd.Env
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("healthcheck %s: %v %s", flag, err, out)
		}
	}
}

// ok waits until an address answers 200.
func ok(url string) error {
	client := &http.Client{Timeout: 5 * time.Second}
	var last string
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		resp, err := client.Get(url)
		if err != nil {
			last = err.Error()
			continue
		}
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		last = resp.Status + " " + string(body)
	}
	return fmt.Errorf("%s: %s", url, last)
}
