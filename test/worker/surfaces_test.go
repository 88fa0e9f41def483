package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/test/harness"
)

// observation is what one place said of the worker's health.
type observation struct {
	surface      string
	began, ended time.Time // of the question

	number   int64 // of the report
	stale    bool
	healthy  string // "true", "false", empty: it does not say
	ready    string
	live     string
	status   string // starting, running, …
	reason   string // the first
	reported bool   // there is a reason, if only an empty one
}

// surface is a place that shows the health.
type surface struct {
	name  string
	every time.Duration
	ask   func(context.Context, *observation) error
	past  bool // what it shows was made some time before it is asked
}

// watcher asks every surface again and again.
type watcher struct {
	t    *testing.T
	stop func()

	mu           sync.Mutex // guards the rest
	observations []observation
	faults       []error // answers that cannot be read
}

// watch asks until stop is called, or the test ends.
func watch(t *testing.T, surfaces []surface) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{t: t}
	var asking sync.WaitGroup
	for _, s := range surfaces {
		asking.Go(func() {
			tick := time.NewTicker(s.every)
			defer tick.Stop()
			for {
				w.ask(ctx, s)
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	w.stop = func() {
		cancel()
		asking.Wait()
	}
	t.Cleanup(w.stop)
	return w
}

// errNoAnswer says that a surface did not answer, as when the worker or Redis is gone.
var errNoAnswer = errors.New("no answer")

func (w *watcher) ask(ctx context.Context, s surface) {
	asked, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	seen := observation{surface: s.name, began: time.Now()}
	err := s.ask(asked, &seen)
	seen.ended = time.Now()
	if s.past {
		seen.began = time.Time{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.observations = append(w.observations, seen)
	case !errors.Is(err, errNoAnswer) && ctx.Err() == nil:
		w.faults = append(w.faults, fmt.Errorf("%s: %w", s.name, err))
	}
}

// all returns a copy of what has been seen.
func (w *watcher) all() []observation {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]observation(nil), w.observations...)
}

// await waits until every surface has been asked after the call and has said what accept wants of it.
func (w *watcher) await(what string, surfaces []surface, accept func(observation) bool) {
	w.t.Helper()
	from := len(w.all())
	harness.Eventually(w.t, what, func() error {
		missing := map[string]bool{}
		for _, s := range surfaces {
			missing[s.name] = true
		}
		for _, s := range w.all()[from:] {
			if accept(s) {
				delete(missing, s.surface)
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("%v do not say so", missing)
		}
		return nil
	})
}

var markPattern = regexp.MustCompile(`^(\d+); age=(\d+\.\d{3})(; stale)?$`)

// mark reads the number of a report.
func (s *observation) mark(text string) error {
	m := markPattern.FindStringSubmatch(text)
	if m == nil {
		return fmt.Errorf("%q is not the mark of a report", text)
	}
	s.number, _ = strconv.ParseInt(m[1], 10, 64)
	age, _ := strconv.ParseFloat(m[2], 64)
	if s.stale = m[3] != ""; s.stale != (age > 3) {
		return fmt.Errorf("the mark %q has the wrong age", text)
	}
	return nil
}

// say puts the reasons into a observation.
func (s *observation) say(first string) { s.reason, s.reported = first, true }

// get asks a path of an HTTP server, with POST where there is a body to send, and reads the mark of the answer.
func (s *observation) get(ctx context.Context, client *http.Client, url, post string) (code int, body string, err error) {
	method := http.MethodGet
	if post != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(post))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", errNoAnswer
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", errNoAnswer
	}
	if header := resp.Header.Get(status.ReportHeader); header != "" {
		err = s.mark(header)
	}
	return resp.StatusCode, string(text), err
}

// surfacesOf are all places that show the health of a worker: those of its port, of its socket, and the rest.
func surfacesOf(w *harness.Worker, client *redis.Client) (port, others []surface) {
	const often = 100 * time.Millisecond // ten times a second
	tcp := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	socket := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(w.Dir, "s"))
	}}}
	base := "http://" + w.Addr()
	code := func(client *http.Client, base, path, post string, read func(s *observation, code int, body string) error) func(context.Context, *observation) error {
		return func(ctx context.Context, s *observation) error {
			code, body, err := s.get(ctx, client, base+path, post)
			if err != nil {
				return err
			}
			return read(s, code, body)
		}
	}
	ok := func(code int) string { return strconv.FormatBool(code == http.StatusOK) }
	health := func(s *observation, code int, _ string) error { s.healthy = ok(code); return nil }
	check := func(service string, field func(*observation) *string) func(context.Context, *observation) error {
		return code(tcp, base, "/grpc.health.v1.Health/Check", `{"service":"`+service+`"}`, func(s *observation, _ int, body string) error {
			*field(s) = strconv.FormatBool(strings.Contains(body, `STATUS_SERVING"`))
			return nil
		})
	}
	port = []surface{
		{"/health", often, code(tcp, base, "/health", "", health), false},
		{"/health?verbose", often, code(tcp, base, "/health?verbose=1", "", readVerbose), false},
		{"/readyz", often, code(tcp, base, "/readyz", "", func(s *observation, code int, _ string) error { s.ready = ok(code); return nil }), false},
		{"/livez", often, code(tcp, base, "/livez", "", func(s *observation, code int, _ string) error { s.live = ok(code); return nil }), false},
		{"/metrics", often, code(tcp, base, "/metrics", "", readMetrics), false},
		{"/", often, code(tcp, base, "/", "", readBanner), false},
		{"Ping", often, code(tcp, base, "/runqy.v1.WorkerService/Ping", "{}", readPing), false},
		{"Check", often, check("", func(s *observation) *string { return &s.healthy }), false},
		{"Check worker", often, check("runqy.v1.WorkerService", func(s *observation) *string { return &s.ready }), false},
		{"Check live", often, check("livez", func(s *observation) *string { return &s.live }), false},
		{"socket /health", often, code(socket, "http://worker", "/health?verbose=1", "", readVerbose), false},
		{"socket /healthcheck", often, code(socket, "http://worker", "/healthcheck?probe=ready", "", func(s *observation, code int, _ string) error {
			s.ready = ok(code)
			return nil
		}), false},
		{"healthcheck", time.Second, func(ctx context.Context, s *observation) error { return askCommand(ctx, w, s) }, false},
	}
	others = []surface{{"heartbeat", often, func(ctx context.Context, s *observation) error { return askHeartbeat(ctx, client, w.ID, s) }, true}}
	return port, others
}

func readVerbose(s *observation, code int, body string) error {
	var answer struct {
		Reasons []string `json:"reasons"`
		Status  string   `json:"worker_status"`
		Report  string   `json:"report"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return fmt.Errorf("%s: %w", body, err)
	}
	header := s.number
	if err := s.mark(answer.Report); err != nil || s.number != header {
		return fmt.Errorf("the header has the number %d, the body %q", header, answer.Report)
	}
	s.healthy, s.status = strconv.FormatBool(code == http.StatusOK), answer.Status
	s.say("")
	if len(answer.Reasons) > 0 {
		s.say(firstLine(answer.Reasons[0]))
	}
	return nil
}

func readMetrics(s *observation, _ int, body string) error {
	value := func(name string) float64 {
		for _, line := range harness.LinesWith(body, name) {
			if text, found := strings.CutPrefix(line, name+" "); found {
				v, _ := strconv.ParseFloat(text, 64)
				return v
			}
		}
		return -1
	}
	s.number, s.stale = int64(value("runqy_worker_health_reports_total")), value("runqy_worker_health_report_age_seconds") > 3
	s.healthy = strconv.FormatBool(value("runqy_worker_healthy") == 1)
	return nil
}

var bannerPattern = regexp.MustCompile(`<section id="health"[^>]* data-tone="(\w+)" data-report="(\d+)"`)

// readBanner reads the tone of the dashboard's banner: one that is good says healthy, one that is bad does not; a quiet
// one, as of a worker that starts or drains, says neither.
func readBanner(s *observation, _ int, body string) error {
	m := bannerPattern.FindStringSubmatch(body)
	if m == nil || m[2] != strconv.FormatInt(s.number, 10) {
		return fmt.Errorf("the banner %q is not of report %d", m, s.number)
	}
	switch m[1] {
	case "good":
		s.healthy = "true"
	case "bad":
		s.healthy = "false"
	}
	return nil
}

func readPing(s *observation, _ int, body string) error {
	var answer struct {
		Healthy bool   `json:"healthy"`
		Status  string `json:"status"`
		Reason  string `json:"reason"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return fmt.Errorf("%s: %w", body, err)
	}
	s.healthy, s.status = strconv.FormatBool(answer.Healthy), answer.Status
	if !answer.Healthy {
		s.say(answer.Reason)
	}
	return nil
}

func askCommand(ctx context.Context, w *harness.Worker, s *observation) error {
	cmd := exec.CommandContext(ctx, harness.Program(), "healthcheck", "-c", w.Config)
	cmd.Env = harness.Environ()
	var out bytes.Buffer
	cmd.Stdout = &out
	_ = cmd.Run()
	var answer struct {
		Worker string `json:"worker"`
		Report string `json:"report"`
	}
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return fmt.Errorf("%s: %w", out.String(), err)
	}
	code := cmd.ProcessState.ExitCode()
	if code == 1 && answer.Worker != "unhealthy" {
		return fmt.Errorf("it ends with 1 and prints %s", out.String())
	}
	if answer.Report == "" {
		return errNoAnswer
	}
	s.healthy = strconv.FormatBool(code == 0)
	return s.mark(answer.Report)
}

func askHeartbeat(ctx context.Context, client *redis.Client, id string, s *observation) error {
	beat, err := client.HGetAll(ctx, "asynq:workers:"+id).Result()
	if err != nil || len(beat) == 0 {
		return errNoAnswer
	}
	s.healthy, s.status = beat["healthy"], beat["status"]
	s.say(firstLine(beat["reason"]))
	return s.mark(beat["report"])
}

// firstLine is a reason without the lines of stderr, and without the heading of those.
func firstLine(text string) string { return status.ParseReason(text).Summary }
