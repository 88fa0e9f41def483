package health

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

func healthy() status.Health {
	return status.Health{
		Healthy: true, Status: status.Running, State: status.Busy,
		Worker: status.Healthy, Broker: status.Healthy, Database: status.NotConfigured,
	}
}

func degraded() status.Health {
	h := healthy()
	h.Healthy, h.Status, h.State, h.Worker = false, status.Degraded, status.Free, status.Unhealthy
	h.Reasons = []status.Reason{{Summary: "The Python process is not healthy: exit status 1."}}
	return h
}

func sources(h status.Health) Sources {
	return Sources{
		Report: func() status.Report {
			return status.Report{Health: h, Mark: status.Mark{Number: 4, Age: 250 * time.Millisecond}}
		},
		Environment: "development",
		Counts: func(status.Health) Counts {
			depth, processing, failed := int64(7), int64(2), int64(3)
			return Counts{QueueDepth: &depth, Processing: &processing, Failed: &failed}
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "runqy_worker_healthy 1\n") }),
		Queues: func(context.Context) (map[string]status.Depth, error) {
			return map[string]status.Depth{"default": {Pending: 1}}, nil
		},
	}
}

func request(h http.Handler, method, target string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(method, target, nil))
	return rec
}

func TestProbes(t *testing.T) {
	starting, draining := degraded(), healthy()
	starting.Status, starting.Reasons = "starting", nil
	draining.Status = "draining"
	lately := sources(StoodStill(healthy(), "The loop", time.Now().Add(-3*time.Second)))
	since := time.Now().Add(-11 * time.Second)
	wedged := sources(StoodStill(healthy(), "The loop", since))
	why := "The loop has not turned since " + since.UTC().Format(time.RFC3339) + ": nothing newer is known."
	uncounted := sources(healthy())
	uncounted.Counts = nil

	for _, c := range []struct {
		name   string
		src    Sources
		target string
		code   int
		body   string
	}{
		{"healthy", sources(healthy()), "/health", 200, `{"status":"HEALTHY"}`},
		{"degraded", sources(degraded()), "/health", 503, `{"status":"UNHEALTHY"}`},
		{"verbose", sources(healthy()), "/health?verbose=1", 200,
			`{"status":"HEALTHY","reasons":[],"worker_status":"running","state":"BUSY","environment":"development","checks":{"worker":"healthy","broker":"healthy","database":"not configured"},"report":"4; age=0.250"}`},
		{"verbose degraded", sources(degraded()), "/health?verbose", 503,
			`{"status":"UNHEALTHY","reasons":["The Python process is not healthy: exit status 1."],"worker_status":"degraded","state":"FREE","environment":"development","checks":{"worker":"unhealthy","broker":"healthy","database":"not configured"},"report":"4; age=0.250"}`},
		{"not verbose", sources(healthy()), "/health?verbose=0", 200, `{"status":"HEALTHY"}`},
		{"live", sources(healthy()), "/livez", 200, `{"status":"LIVE"}`},
		{"live though degraded", sources(degraded()), "/livez", 200, `{"status":"LIVE"}`},
		{"stands still", lately, "/livez", 200, `{"status":"LIVE"}`},
		{"stands still, health", lately, "/health", 503, `{"status":"UNHEALTHY"}`},
		{"wedged", wedged, "/livez", 503, `{"status":"WEDGED","reason":"` + why + `"}`},
		{"wedged is not healthy", wedged, "/health", 503, `{"status":"UNHEALTHY"}`},
		{"wedged is not ready", wedged, "/readyz", 503, `{"status":"NOT_READY","reason":"` + why + `"}`},
		{"ready", sources(healthy()), "/readyz", 200, `{"status":"READY"}`},
		{"degraded is not ready", sources(degraded()), "/readyz", 503, `{"status":"NOT_READY","reason":"The Python process is not healthy: exit status 1."}`},
		{"starting is not ready", sources(starting), "/readyz", 503, `{"status":"NOT_READY","reason":"The worker is starting."}`},
		{"being replaced is not ready", sources(OfProcess(status.Restarting, true, status.Reason{Summary: "it waits for a task"})),
			"/readyz", 503, `{"status":"NOT_READY","reason":"The worker is restarting: it waits for a task."}`},
		{"draining is not ready", sources(draining), "/readyz", 503, `{"status":"NOT_READY","reason":"The worker is draining."}`},
		{"draining is healthy", sources(draining), "/health", 200, `{"status":"HEALTHY"}`},
		{"healthcheck", sources(degraded()), "/healthcheck", 503,
			`{"worker":"unhealthy","broker":"healthy","database":"not configured","queue_depth":7,"processing":2,"failed":3,"report":"4; age=0.250","error":"The Python process is not healthy: exit status 1."}`},
		{"healthcheck live", sources(degraded()), "/healthcheck?probe=live", 200,
			`{"worker":"unhealthy","broker":"healthy","database":"not configured","queue_depth":7,"processing":2,"failed":3,"report":"4; age=0.250","error":"The Python process is not healthy: exit status 1."}`},
		{"healthcheck wedged", wedged, "/healthcheck?probe=live", 503,
			`{"worker":"unhealthy","broker":"healthy","database":"not configured","queue_depth":7,"processing":2,"failed":3,"report":"4; age=0.250","error":"` + why + `"}`},
		{"healthcheck without numbers", uncounted, "/healthcheck", 200,
			`{"worker":"healthy","broker":"healthy","database":"not configured","queue_depth":null,"processing":null,"failed":null,"report":"4; age=0.250"}`},
		{"healthcheck draining", sources(draining), "/healthcheck?probe=ready", 503,
			`{"worker":"unhealthy","broker":"healthy","database":"not configured","queue_depth":7,"processing":2,"failed":3,"report":"4; age=0.250","error":"The worker is draining."}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := request(SocketHandler(c.src), "GET", c.target)
			if rec.Code != c.code || rec.Body.String() != c.body {
				t.Errorf("GET %s answers %d %s, want %d %s", c.target, rec.Code, rec.Body, c.code, c.body)
			}
			if h := rec.Header(); h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" {
				t.Errorf("GET %s has the headers %v, want JSON that is not stored", c.target, h)
			}
			if mark := rec.Header().Get(status.ReportHeader); mark != "4; age=0.250" {
				t.Errorf("GET %s is marked %q, want 4; age=0.250", c.target, mark)
			}
			if head := request(SocketHandler(c.src), "HEAD", c.target); head.Code != c.code {
				t.Errorf("HEAD %s answers %d, want %d", c.target, head.Code, c.code)
			}
			post := request(SocketHandler(c.src), "POST", c.target)
			if post.Code != http.StatusMethodNotAllowed || post.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("POST %s answers %d with the headers %v, want 405 and Allow: GET, HEAD", c.target, post.Code, post.Header())
			}
		})
	}
}

func TestHeadHasNoBodyOnTheWire(t *testing.T) {
	s := httptest.NewServer(Handler(sources(healthy())))
	defer s.Close()
	resp, err := s.Client().Head(s.URL + "/health")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || len(body) != 0 || resp.StatusCode != http.StatusOK || resp.ContentLength != int64(len(`{"status":"HEALTHY"}`)) {
		t.Errorf("HEAD /health: status %d, body %q, length %d, error %v; want 200, no body and the length of GET", resp.StatusCode, body, resp.ContentLength, err)
	}
}

func TestIndexAndUnknownPaths(t *testing.T) {
	h := Handler(sources(healthy()))
	rec := request(h, "GET", "/")
	for _, path := range []string{"/health", "/livez", "/readyz", "/metrics", "/health/v2/queues"} {
		if rec.Code != 200 || !strings.Contains(rec.Body.String(), path+"\n") {
			t.Errorf("the index answers %d without %s: %s", rec.Code, path, rec.Body)
		}
		if rec := request(h, "GET", path); rec.Code != 200 {
			t.Errorf("GET %s answers %d, want 200", path, rec.Code)
		}
	}
	for _, path := range []string{"/nothing", "/health/", "/health/v2", "/healthcheck", "/livez/x"} {
		if rec := request(h, "GET", path); rec.Code != 404 {
			t.Errorf("GET %s answers %d, want 404", path, rec.Code)
		}
	}
	bare := Handler(Sources{Report: sources(healthy()).Report})
	for _, path := range []string{"/metrics", "/health/v2/queues"} {
		if rec := request(bare, "GET", path); rec.Code != 404 {
			t.Errorf("without a source GET %s answers %d, want 404", path, rec.Code)
		}
	}
	if rec := request(bare, "GET", "/livez"); rec.Code != 200 {
		t.Errorf("without a loop /livez answers %d, want 200", rec.Code)
	}
}

func TestQueuesEndpoint(t *testing.T) {
	queues := map[string]status.Depth{
		"default": {Pending: 1, Active: 2, Scheduled: 3, Retry: 4, Archived: 5, Completed: 6, Latency: 1500 * time.Millisecond},
		"slow":    {Paused: true},
		"broken":  {Pending: 9, Err: errors.New("WRONGTYPE")},
		"unaged":  {Pending: 1, Latency: -1},
	}
	src := sources(healthy())
	src.Queues = func(context.Context) (map[string]status.Depth, error) { return queues, nil }
	const rows = `{"broken":{"name":"broken","status":"error","error":"WRONGTYPE"},` +
		`"default":{"name":"default","status":"active","pending":1,"active":2,"scheduled":3,"retry":4,"archived":5,"completed":6,"latency_seconds":1.5},` +
		`"slow":{"name":"slow","status":"paused","pending":0,"active":0,"scheduled":0,"retry":0,"archived":0,"completed":0,"latency_seconds":0},` +
		`"unaged":{"name":"unaged","status":"active","pending":1,"active":0,"scheduled":0,"retry":0,"archived":0,"completed":0,"latency_seconds":null}}`

	for name, c := range map[string]struct {
		broker BrokerSource
		figs   string
	}{
		"known":   {func(context.Context) (Broker, error) { return Broker{"2.5M", 2}, nil }, `"redis_memory_used":"2.5M","redis_connected_clients":2`},
		"unknown": {func(context.Context) (Broker, error) { return Broker{"", -1}, nil }, `"redis_memory_used":"unknown","redis_connected_clients":null`},
		"failing": {func(context.Context) (Broker, error) { return Broker{}, errors.New("down") }, `"redis_memory_used":"unknown","redis_connected_clients":null`},
		"absent":  {nil, `"redis_memory_used":"unknown","redis_connected_clients":null`},
	} {
		src.Broker = c.broker
		rec := request(Handler(src), "GET", "/health/v2/queues")
		want := `{"broker":"connected","queues":` + rows + `,` + c.figs + `,"environment":"development"}`
		if rec.Code != 200 || rec.Body.String() != want {
			t.Errorf("with figures of Redis %s the answer is %d\n got %s\nwant %s", name, rec.Code, rec.Body, want)
		}
	}

	// What can be read may be at fault all the same: its figures stay.
	src.Broker = nil
	src.Queues = func(context.Context) (map[string]status.Depth, error) {
		return map[string]status.Depth{"typo": {Pending: 2, Aggregating: 3}, "idle": {}, "paused": {Paused: true}, "broken": {Err: errors.New("WRONGTYPE")}}, nil
	}
	src.States = func(_ context.Context, report status.Report, queues map[string]status.Depth) map[string]QueueState {
		if !report.Healthy {
			t.Errorf("asked with the report %+v", report)
		}
		return map[string]QueueState{
			"typo": {Fault: (status.Service{Asynq: 0}).Fault(status.Depth{Pending: queues["typo"].Pending}), Unserved: true}, "idle": {Unserved: true},
			"paused": {Unserved: true},
		}
	}
	if got, want := request(Handler(src), "GET", "/health/v2/queues").Body.String(), `"typo":{"name":"typo","status":"error",`+
		`"error":"2 tasks wait and no worker serves it","pending":2,"active":0,"scheduled":0,"retry":0,"archived":0,"completed":0,`+
		`"aggregating":3,"latency_seconds":0}`; !strings.Contains(got, want) {
		t.Errorf("a queue without workers is\n     %s\nwant %s", got, want)
	}
	answered := request(Handler(src), "GET", "/health/v2/queues")
	for _, want := range []string{`"idle":{"name":"idle","status":"unserved","pending":0`, `"paused":{"name":"paused","status":"paused"`} {
		if !strings.Contains(answered.Body.String(), want) {
			t.Errorf("the answer is %s, want %s in it", answered.Body, want)
		}
	}
	// Of one report, and when nothing newer is known, nothing is known of any queue.
	if got := answered.Header().Get(status.ReportHeader); got == "" {
		t.Error("the answer does not say from which report it was made")
	}
	stood := src
	stood.Report = sources(StoodStill(healthy(), "The loop", time.Now().Add(-3*time.Second))).Report
	body := request(Handler(stood), "GET", "/health/v2/queues").Body.String()
	if n := strings.Count(body, "The loop has not turned"); n != 3 || strings.Contains(body, `"status":"active"`) || !strings.Contains(body, "WRONGTYPE") {
		t.Errorf("while the loop stands still the answer is %s, want so of the three that could be read", body)
	}

	// A Redis that can be read, and refuses what the work needs, is not said to be well here alone.
	refusing := healthy()
	refusing.Healthy, refusing.Broker = false, status.Unhealthy
	refusing.Reasons = []status.Reason{{Summary: "READONLY."}}
	refused := sources(refusing)
	refused.Queues, refused.States, refused.Broker = src.Queues, nil, nil
	rec := request(Handler(refused), "GET", "/health/v2/queues")
	if got := rec.Body.String(); rec.Code != 503 || !strings.HasPrefix(got, `{"broker":"error","error":"READONLY.","queues":{`) || !strings.Contains(got, `"pending":2`) {
		t.Errorf("with a Redis that refuses the answer is %d %s", rec.Code, got)
	}

	src.Queues = func(context.Context) (map[string]status.Depth, error) { return nil, errors.New("connection refused") }
	rec = request(Handler(src), "GET", "/health/v2/queues")
	if rec.Code != 503 || rec.Body.String() != `{"broker":"error","error":"connection refused"}` {
		t.Errorf("without Redis the answer is %d %s, want 503 and the error", rec.Code, rec.Body)
	}
}
