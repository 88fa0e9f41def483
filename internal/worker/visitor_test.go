package worker

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	_ "google.golang.org/grpc/health/grpc_health_v1" // describes the methods of the service
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/status"
)

// What the tasks below write, raise and carry. None of it may reach a stranger.
const (
	stderrSecret  = "SECRET-ON-STDERR"
	errorSecret   = "SECRET-IN-AN-ERROR"
	payloadSecret = "SECRET-IN-A-PAYLOAD"
	messageSecret = "SECRET-IN-A-MESSAGE"
)

const leakingTasks = `
import os, sys, time
from runqy import run, task

@task("fail")
def fail(payload):
    raise ValueError("` + errorSecret + `")

@task("die")
def die(payload, ctx):
    ctx.progress(0.5, "` + messageSecret + `")
    while not os.path.exists(payload["when"]):
        time.sleep(0.01)
    print("` + stderrSecret + `", file=sys.stderr, flush=True)
    os._exit(3)

if __name__ == "__main__":
    run()
`

// Every route that is registered is asked, so that one that is added tomorrow is tested too.
func TestStrangersNeverReceiveWhatTasksCarry(t *testing.T) {
	cfg := testConfig(t, "embedded://")
	cfg.Dashboard.ShowPayloads = true
	cfg.Worker.Concurrency = 2
	write(t, filepath.Join(cfg.Python.Dir, "main.py"), leakingTasks)
	w := run(t, cfg)
	client := redis.NewClient(&redis.Options{Addr: strings.TrimPrefix(w.target.String(), "embedded://")})
	defer func() { _ = client.Close() }()
	w.eventuallyReady()
	enqueue(t, client, "fail", "f1", fmt.Sprintf("%q", payloadSecret), asynq.MaxRetry(0))
	eventually(t, func() string {
		if info := taskInfo(t, client, "f1"); info.State != asynq.TaskStateArchived {
			return fmt.Sprintf("task f1 is %s, want archived", info.State)
		}
		return ""
	})

	// The progress message of a task in flight, while all is well.
	when := filepath.Join(t.TempDir(), "when")
	enqueue(t, client, "die", "d1", fmt.Sprintf(`{"when":%q,"secret":%q}`, when, payloadSecret), asynq.MaxRetry(0))
	eventually(t, func() string {
		if active := w.consumer.Active(); len(active) != 1 || active[0].ProgressMessage != messageSecret {
			return fmt.Sprintf("the tasks in flight are %+v, want d1 with its message", active)
		}
		return ""
	})
	w.checkVisitors(map[string][]string{"/": {messageSecret, errorSecret, payloadSecret}, "/events": {messageSecret, errorSecret, payloadSecret}})

	// The last lines of a process that has died.
	write(t, when, "")
	eventually(t, func() string {
		beat := client.HGetAll(t.Context(), heartbeat.Key(cfg.Worker.ID)).Val()
		if beat["status"] != string(status.Degraded) || !strings.Contains(beat["reason"], stderrSecret) {
			return fmt.Sprintf("the heartbeat is %v, want degraded with the lines of stderr", beat)
		}
		return ""
	})
	w.checkVisitors(map[string][]string{
		"/": {stderrSecret, errorSecret, payloadSecret}, "/events": {stderrSecret, errorSecret, payloadSecret},
		"/health": {stderrSecret}, "/readyz": {stderrSecret},
	})
}

// checkVisitors asks every route as a stranger, who must see none of the secrets, and as a trusted visitor, who must
// see those that shown says by path.
func (r *running) checkVisitors(shown map[string][]string) {
	r.t.Helper()
	secrets := []string{stderrSecret, errorSecret, payloadSecret, messageSecret}
	asked := 0
	for _, route := range health.Routes(r.probes) {
		for _, q := range requestsOf(r.t, route.Pattern) {
			asked++
			answer := r.ask(q, true)
			for _, secret := range secrets {
				if strings.Contains(answer, secret) {
					r.t.Errorf("%s %s gives a stranger %s:\n%.2000s", q.method, q.path, secret, answer)
				}
			}
			if path, _, _ := strings.Cut(q.path, "?"); q.method == http.MethodGet {
				answer := r.ask(q, false)
				for _, secret := range shown[path] {
					if !strings.Contains(answer, secret) {
						r.t.Errorf("%s %s does not give a trusted visitor %s:\n%.2000s", q.method, q.path, secret, answer)
					}
				}
			}
		}
	}
	if asked < 15 {
		r.t.Errorf("%d requests were made, want all routes", asked)
	}
}

type request struct{ method, path string }

// requestsOf returns requests that the handler of a pattern gets. The path of a service, which ends in a slash, stands
// for each of its methods.
func requestsOf(t *testing.T, pattern string) []request {
	t.Helper()
	method, path, found := strings.Cut(pattern, " ")
	if !found {
		method, path = "", pattern
	}
	path = strings.ReplaceAll(path, "{$}", "")
	paths := []string{regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(path, "restart")}
	switch service := strings.Trim(path, "/"); {
	case path == "/assets/":
		paths = []string{"/assets/app.js"}
	case path != "/" && strings.HasSuffix(path, "/"):
		descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
		if err != nil {
			t.Fatalf("pattern %s is not that of a service, and this test does not know what to ask: %v", pattern, err)
		}
		paths = nil
		methods := descriptor.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			paths = append(paths, path+string(methods.Get(i).Name()))
		}
	}
	var out []request
	for _, p := range paths {
		for _, m := range []string{http.MethodGet, http.MethodPost} {
			if method == "" || method == m {
				out = append(out, request{m, p + "?verbose=1&encoding=json&message={}"})
			}
		}
	}
	return out
}

// ask returns the headers and the body of an answer, of a stream what comes first. A stranger comes through a proxy.
func (r *running) ask(q request, stranger bool) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), testTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, q.method, "http://"+r.Addr().String()+q.path, strings.NewReader("{}"))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if stranger {
		req.Header.Set("X-Forwarded-For", "203.0.113.7")
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", q.method, q.path, err)
	}
	defer resp.Body.Close()
	var text strings.Builder
	fmt.Fprintln(&text, resp.Status, resp.Header)
	stream := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
	for part := make([]byte, 32<<10); ; {
		n, err := resp.Body.Read(part)
		text.Write(part[:n])
		// The first events of a stream may come before Redis was read for it: the failed task comes last.
		if err == io.EOF || stream && strings.Contains(text.String(), ">f1<") && strings.HasSuffix(text.String(), "\n\n") {
			break
		}
		if err != nil {
			r.t.Fatalf("%s %s ended with %v after:\n%s", q.method, q.path, err, text.String())
		}
	}
	return text.String()
}
