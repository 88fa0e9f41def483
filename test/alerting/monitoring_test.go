package alerting

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/test/harness"
)

// alertTimeout bounds the wait for a message, from the fault to the webhook.
const alertTimeout = 90 * time.Second

// watch is a real Prometheus that scrapes workers, a real Alertmanager that it sends alerts to, and a webhook that is
// notified.
type watch struct {
	prometheus   *server
	alertmanager *server
	hook         *webhook
}

// newWatch starts all three with the shipped configuration and rules. Further arguments are Prometheus'.
func newWatch(t *testing.T, targets []string, args ...string) *watch {
	t.Helper()
	w := &watch{hook: newWebhook(t)}
	w.alertmanager = startServer(t, "prometheus-alertmanager", func(addr string) []string {
		return []string{
			"--config.file=" + alertmanagerConfig(t, w.hook.url), "--storage.path=" + t.TempDir(),
			"--web.listen-address=" + addr, "--cluster.listen-address=",
		}
	})
	w.prometheus = startPrometheus(t, prometheusConfig(t, targets, w.alertmanager.addr), args...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end:\n%s", w)
		}
	})
	return w
}

func startPrometheus(t *testing.T, config string, args ...string) *server {
	t.Helper()
	p := startServer(t, "prometheus", func(addr string) []string {
		return append([]string{"--config.file=" + config, "--storage.tsdb.path=" + t.TempDir(), "--web.listen-address=" + addr}, args...)
	})
	p.rulesAreFine(t)
	return p
}

// rulesAreFine waits until every rule of both files has been evaluated, and fails where one could not be.
func (s *server) rulesAreFine(t *testing.T) {
	t.Helper()
	harness.Eventually(t, "every rule is evaluated", func() error {
		var answer struct {
			Data struct {
				Groups []struct {
					Name  string
					Rules []struct{ Name, Health, LastError string }
				}
			}
		}
		if err := s.ask("/api/v1/rules", nil, &answer); err != nil {
			return err
		}
		if len(answer.Data.Groups) < 3 {
			return fmt.Errorf("rule groups: %+v", answer)
		}
		for _, g := range answer.Data.Groups {
			for _, r := range g.Rules {
				if r.LastError != "" {
					return harness.Fatal("rule %s: %s", r.Name, r.LastError)
				}
				if r.Health != "ok" {
					return fmt.Errorf("rule %s is %s", r.Name, r.Health)
				}
			}
		}
		return nil
	})
}

// notification is one alert of a message to the webhook.
type notification struct {
	Receiver            string
	Status              string
	Labels, Annotations map[string]string
}

func (n notification) String() string {
	return fmt.Sprintf("%s to %s: %v %q", n.Status, n.Receiver, n.Labels, n.Annotations["summary"])
}

// is reports whether the notification has this alertname and these labels, "name=value" each.
func (n notification) is(alert string, labels ...string) bool {
	return n.Labels["alertname"] == alert && !slices.ContainsFunc(labels, func(l string) bool {
		name, value, _ := strings.Cut(l, "=")
		return n.Labels[name] != value
	})
}

// webhook is where Alertmanager sends its messages.
type webhook struct {
	url string

	mu   sync.Mutex
	told []notification // guarded by mu; in the order of their arrival
	bad  error          // guarded by mu
}

func newWebhook(t *testing.T) *webhook {
	t.Helper()
	h := &webhook{}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	h.url = s.URL
	return h
}

// ServeHTTP implements http.Handler.
func (h *webhook) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var message struct {
		Receiver string
		Alerts   []notification
	}
	err := json.NewDecoder(r.Body).Decode(&message)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil || "/"+message.Receiver != r.URL.Path {
		h.bad = fmt.Errorf("a message for %s: %+v, %w", r.URL.Path, message, err)
	}
	for _, a := range message.Alerts {
		a.Receiver = message.Receiver
		h.told = append(h.told, a)
	}
}

// about returns all notifications of an alert so far.
func (h *webhook) about(t *testing.T, alert string, labels ...string) []notification {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bad != nil {
		t.Errorf("the webhook was sent: %v", h.bad)
	}
	var found []notification
	for _, n := range h.told {
		if n.is(alert, labels...) {
			found = append(found, n)
		}
	}
	return found
}

// firing waits for the notification of an alert, until the deadline.
func (w *watch) firing(t *testing.T, deadline time.Time, alert string, labels ...string) notification {
	t.Helper()
	return w.told(t, deadline, "firing", alert, labels, func(all []notification) bool { return len(all) > 0 })
}

// resolved waits until the last notification of an alert is its end, until the deadline.
func (w *watch) resolved(t *testing.T, deadline time.Time, alert string, labels ...string) notification {
	t.Helper()
	return w.told(t, deadline, "resolved", alert, labels, func(all []notification) bool {
		return len(all) > 0 && all[len(all)-1].Status == "resolved"
	})
}

// told returns the last notification of an alert with this status, as soon as enough agrees.
func (w *watch) told(t *testing.T, deadline time.Time, status, alert string, labels []string, enough func([]notification) bool) notification {
	t.Helper()
	// Each alert has some time of its own, also when the one before it took all of it.
	limit := time.Now().Add(max(time.Until(deadline), 5*time.Second))
	for time.Now().Before(limit) {
		all := w.hook.about(t, alert, labels...)
		for _, n := range slices.Backward(all) {
			if n.Status == status && enough(all) {
				return n
			}
		}
		time.Sleep(harness.PollInterval)
	}
	t.Fatalf("no notification in time, want %s %s %v:\n%s", status, alert, labels, w)
	return notification{}
}

// alerts returns what Alertmanager has, with the state of each.
func (w *watch) alerts() ([]heldAlert, error) {
	var held []heldAlert
	err := w.alertmanager.ask("/api/v2/alerts", nil, &held)
	return held, err
}

type heldAlert struct {
	Labels map[string]string
	Status struct {
		State       string
		InhibitedBy []string
	}
}

// String returns the state of all three, for a message.
func (w *watch) String() string {
	var b strings.Builder
	var active struct {
		Data struct {
			Alerts []struct {
				Labels   map[string]string
				State    string
				ActiveAt time.Time
				Value    string
			}
		}
	}
	if err := w.prometheus.ask("/api/v1/alerts", nil, &active); err != nil {
		fmt.Fprintf(&b, "Prometheus: %v\n", err)
	}
	for _, a := range active.Data.Alerts {
		fmt.Fprintf(&b, "Prometheus: %s %v = %s since %s\n", a.State, a.Labels, a.Value, a.ActiveAt.Format(time.TimeOnly))
	}
	for _, s := range w.prometheus.query("up") {
		fmt.Fprintf(&b, "Prometheus: up %v = %s\n", s.Metric, s.Value[1])
	}
	held, err := w.alerts()
	if err != nil {
		fmt.Fprintf(&b, "Alertmanager: %v\n", err)
	}
	for _, a := range held {
		fmt.Fprintf(&b, "Alertmanager: %s %v %v\n", a.Status.State, a.Status.InhibitedBy, a.Labels)
	}
	w.hook.mu.Lock()
	defer w.hook.mu.Unlock()
	for _, n := range w.hook.told {
		fmt.Fprintf(&b, "webhook: %v\n", n)
	}
	return b.String()
}

// server is a program that serves HTTP, with its data in a folder of the test's; it is killed when the test ends.
type server struct {
	addr string
	log  harness.LogBuffer
	done chan struct{} // closed when the process has been waited for
}

// startServer runs a program on a free loopback port and waits until it is ready. args are its arguments for an
// address.
func startServer(t *testing.T, name string, args func(addr string) []string) *server {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("RUNQY_TEST_REQUIRE") == "1" {
			t.Fatalf("%s is not on PATH; scripts/install-tools %s installs it", name, name)
		}
		t.Skipf("%s is not on PATH; scripts/install-tools %s installs it", name, name)
	}
	for attempt := 1; ; attempt++ {
		s := &server{addr: "127.0.0.1:" + harness.FreePort(t), done: make(chan struct{})}
		cmd := exec.Command(path, args(s.addr)...)
		cmd.Env = harness.Environ()
		cmd.Stdout, cmd.Stderr = &s.log, &s.log
		cmd.SysProcAttr = harness.DieWithParent()
		started := make(chan error, 1)
		go func() { // ends with the process; the cleanup waits for it
			// The death signal is tied to the thread that starts the process.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			defer close(s.done)
			err := cmd.Start()
			started <- err
			if err == nil {
				_ = cmd.Wait()
			}
		}()
		if err := <-started; err != nil {
			t.Fatalf("start %s: %v", name, err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			<-s.done
			if t.Failed() {
				t.Logf("log of %s:\n%s", name, &s.log)
			}
		})
		ended := false
		harness.Eventually(t, name+" is ready", func() error {
			select {
			case <-s.done:
				ended = true
				return nil
			default:
			}
			if code, body := harness.Get(t, "http://"+s.addr+"/-/ready"); code != http.StatusOK {
				return fmt.Errorf("%d %s", code, body)
			}
			return nil
		})
		switch {
		case !ended:
			return s
		case attempt == 3: // somebody else may have taken the port meanwhile, but not three times
			t.Fatalf("%s ends at once:\n%s", name, &s.log)
		}
	}
}

// ask reads a JSON answer.
func (s *server) ask(path string, query url.Values, into any) error {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + s.addr + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("%s: %s: %w", path, resp.Status, err)
	}
	return nil
}

// sample is one series of an instant query.
type sample struct {
	Metric    map[string]string
	Value     [2]any          // when, and the number as text
	Histogram json.RawMessage // in place of Value, for a native histogram
}

// query asks Prometheus; a fault of the expression is returned as a series with the label error.
func (s *server) query(expr string) []sample {
	var answer struct {
		Status, Error string
		Data          struct{ Result []sample }
	}
	if err := s.ask("/api/v1/query", url.Values{"query": {expr}}, &answer); err != nil {
		return []sample{{Metric: map[string]string{"error": err.Error()}}}
	}
	if answer.Status != "success" {
		return []sample{{Metric: map[string]string{"error": answer.Error}}}
	}
	return answer.Data.Result
}

// failed returns the fault of an expression from its answer, "" if there is none.
func failed(answer []sample) string {
	for _, s := range answer {
		if text := s.Metric["error"]; text != "" && len(s.Metric) == 1 {
			return text
		}
	}
	return ""
}

// watched starts a worker for a watch, at an address that it keeps when it is started again.
func watched(t *testing.T, redisURL, id string, set harness.Settings) *harness.Worker {
	t.Helper()
	all := harness.Settings{
		"worker.id": id, "worker.queues": []string{id}, "health.listen": "127.0.0.1:" + harness.FreePort(t),
		"python.startup_timeout": "2m", "fleet.enabled": false,
	}
	maps.Copy(all, set)
	return harness.StartWorker(t, redisURL, all)
}
