package dashboard

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/runqy/runqy-worker/internal/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// secrets stand in all that only a trusted visitor may see.
var secrets = []string{"SECRET-STDERR", "SECRET-ERROR", "SECRET-TRACE", "SECRET-PAYLOAD", "SECRET-MESSAGE", "SECRET-STACK"}

// site is a running dashboard, with its sources and a record of its actions.
type site struct {
	t    *testing.T
	d    *Dashboard
	http *httptest.Server
	log  bytes.Buffer

	mu      sync.Mutex // guards the rest
	label   string
	changed chan struct{}
	reads   map[string]int
	done    []string
	err     error         // of every source that reads Redis, and of every action
	hang    chan struct{} // not nil: those sources wait for it
	trusted bool
}

func newSite(t *testing.T, change func(*Sources)) *site {
	t.Helper()
	s := &site{t: t, label: "Healthy", changed: make(chan struct{}), reads: make(map[string]int), trusted: true}
	src := Sources{
		Name: "worker-1", Health: s.health, Changed: s.changes,
		Process: func() Process {
			return Process{Tone: Good, Status: "running", Stderr: []string{"SECRET-STDERR"}, Stack: "SECRET-STACK"}
		},
		Active: func() Active {
			return Active{Concurrency: 1, Tasks: []ActiveTask{{ID: "a1", Queue: "q", Message: "SECRET-MESSAGE", Payload: "SECRET-PAYLOAD"}}}
		},
		Totals: func() (int64, int64) { return 7, 1 },
		Queues: func(ctx context.Context) ([]Queue, error) {
			return []Queue{{Name: "q", Tone: Good, Depth: status.Depth{Pending: 4711}}}, s.read(ctx, "queues")
		},
		Failures: func(ctx context.Context, _ int) ([]Failure, error) {
			return []Failure{{ID: "f1", Queue: "q", State: "archived", Error: "SECRET-ERROR", Traceback: "SECRET-TRACE", Payload: "SECRET-PAYLOAD"}},
				s.read(ctx, "failures")
		},
		Fleet: func(ctx context.Context) ([]Worker, time.Time, error) {
			return []Worker{{ID: "worker-1", Tone: Good, State: "FREE", Serving: true, Queues: []string{"q"}}}, time.Now(), s.read(ctx, "fleet")
		},
		System:  func(ctx context.Context) (System, error) { return System{}, s.read(ctx, "system") },
		Trusted: func(*http.Request) bool { s.mu.Lock(); defer s.mu.Unlock(); return s.trusted },
		Logger:  slog.New(slog.NewTextHandler(&s.log, nil)),
		Actions: Actions{
			Restart: func(context.Context) error { return s.do("restart") },
			Stack: func(_ context.Context, id string) (string, string, error) {
				return "SECRET-STACK:12 in f", "  File SECRET-STACK\n", s.do("stack " + id)
			},
			Retry:  func(_ context.Context, queue, id string) error { return s.do("retry " + queue + " " + id) },
			Delete: func(_ context.Context, queue, id string) error { return s.do("delete " + queue + " " + id) },
			Pause:  func(_ context.Context, queue string) error { return s.do("pause " + queue) },
			Resume: func(_ context.Context, queue string) error { return s.do("resume " + queue) },
		},
	}
	if change != nil {
		change(&src)
	}
	var err error
	if s.d, err = New(src); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for pattern, handler := range s.d.Handlers() {
		mux.Handle(pattern, handler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.d.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	s.http = httptest.NewServer(mux)
	t.Cleanup(func() {
		s.http.CloseClientConnections()
		s.http.Close()
		cancel()
		running.Wait()
	})
	return s
}

func (s *site) health() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Health{Tone: Good, Label: s.label, Health: status.Health{
		Reasons: []status.Reason{{Summary: "what happened\nSECRET-STDERR", Stderr: []string{"SECRET-REASON"}}},
	}}
}

func (s *site) changes() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// become changes the health's label, as a crash does.
func (s *site) become(label string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.label = label
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *site) read(ctx context.Context, what string) error {
	s.mu.Lock()
	s.reads[what]++
	err, hang := s.err, s.hang
	s.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (s *site) do(what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, what)
	return s.err
}

func (s *site) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *site) get(path string) (*http.Response, string) {
	s.t.Helper()
	response, err := http.Get(s.http.URL + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response, string(body)
}

// post sends a form as a script does, and returns the code and the text of the answer.
func (s *site) post(action string, form url.Values, header ...string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.http.URL+"/actions/"+action, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer map[string]string
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return response.StatusCode, response.Header.Get("Location")
	}
	return response.StatusCode, answer["message"] + answer["error"]
}

// version counts the updates of the page.
func (s *site) version() uint64 {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	return s.d.version
}

func (s *site) actions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.done)
}

// stream opens /events and returns what it says, event by event.
func (s *site) stream() (<-chan string, func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.http.URL+"/events", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		s.t.Fatalf("/events answers %s", response.Status)
	}
	events := make(chan string)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(events)
		defer response.Body.Close()
		lines := bufio.NewReader(response.Body)
		var event strings.Builder
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			if event.WriteString(line); line != "\n" {
				continue
			}
			select {
			case events <- event.String():
			case <-ctx.Done():
				return
			}
			event.Reset()
		}
	})
	return events, func() { cancel(); reading.Wait() }
}

// await returns the first event that holds the text.
func await(t *testing.T, events <-chan string, text string) string {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case event, open := <-events:
			if !open {
				t.Fatalf("the stream ended before %q came", text)
			}
			if strings.Contains(event, text) {
				return event
			}
		case <-limit:
			t.Fatalf("%q has not come on the stream", text)
		}
	}
}

func TestStrangersSeeNothingOfTheTasks(t *testing.T) {
	for _, c := range []struct {
		trusted, payloads bool
		hidden            []string
	}{
		{true, true, nil},
		{true, false, []string{"SECRET-PAYLOAD"}},
		{false, true, append([]string{"name=\"token\""}, secrets...)},
	} {
		s := newSite(t, func(src *Sources) { src.ShowPayloads = c.payloads })
		s.set(func() { s.trusted = c.trusted })
		_, page := s.get("/")
		events, stop := s.stream()
		stream := await(t, events, "a1")
		stop()
		for _, secret := range append([]string{"name=\"token\""}, secrets...) {
			want := !slices.Contains(c.hidden, secret)
			inJSON := strings.ReplaceAll(secret, `"`, `\"`)
			for what, got := range map[string]bool{"the page": strings.Contains(page, secret), "the stream": strings.Contains(stream, inJSON)} {
				if got != want {
					t.Errorf("trusted %v, payloads %v: %s has %s: %v", c.trusted, c.payloads, what, secret, got)
				}
			}
		}
		if !c.trusted && strings.Contains(page, s.d.csrf.token) {
			t.Error("a stranger's page has the token")
		}
	}
}

func TestTheStreamTellsAtOnce(t *testing.T) {
	s := newSite(t, nil)
	events, stop := s.stream()
	defer stop()
	first := await(t, events, "Healthy")
	if !strings.HasPrefix(first, "event: sections\ndata: {\"page\":\""+s.d.render.build()+"\",") || !strings.Contains(first, `"id":"fleet"`) {
		t.Errorf("it begins with %.200s", first)
	}
	await(t, events, "4,711")
	await(t, events, "event: beat")
	s.become("Degraded")
	news := await(t, events, "Degraded")
	if strings.Contains(news, `"id":"fleet"`) {
		t.Error("what has not changed is sent again")
	}
}

func TestEveryStreamEnds(t *testing.T) {
	s := newSite(t, nil)
	stops := make([]func(), 0, maxStreams)
	for range maxStreams {
		_, stop := s.stream()
		stops = append(stops, stop)
	}
	if response, _ := s.get("/events"); response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("one stream too many is answered with %s", response.Status)
	}
	s.set(func() { s.trusted = false })
	_, stop := s.stream() // has places of its own
	for _, stop := range append(stops, stop) {
		stop()
	}
	deadline := time.Now().Add(time.Minute)
	for len(s.d.trustedStreams)+len(s.d.otherStreams) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d streams are still open", len(s.d.trustedStreams)+len(s.d.otherStreams))
		}
		time.Sleep(time.Millisecond)
	}
}

func TestARedisThatHangsIsTold(t *testing.T) {
	s := newSite(t, nil)
	events, stop := s.stream()
	defer stop()
	await(t, events, "f1")
	hang := make(chan struct{})
	defer close(hang)
	s.set(func() { s.hang = hang })
	s.become("Unhealthy")
	await(t, events, "Unhealthy")
	await(t, events, noAnswer)
	_, page := s.get("/")
	if !strings.Contains(page, "Unhealthy") || !strings.Contains(page, "4,711") || !strings.Contains(page, noAnswer) {
		t.Error("the page does not show the last depths and why there are no newer ones")
	}
	if n := strings.Count(page, "unknown since <time"); n != 3 || strings.Contains(page, context.DeadlineExceeded.Error()) {
		t.Errorf("%d of the three figures from Redis are unknown", n)
	}
}

func TestErrorText(t *testing.T) {
	refused := errors.New("dial tcp 127.0.0.1:6379: connect: connection refused")
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""}, {fmt.Errorf("read the failed tasks: %w", context.DeadlineExceeded), "too late"},
		{fmt.Errorf("read: %w", os.ErrDeadlineExceeded), "Redis did not answer in time"},
		{fmt.Errorf("read the failed tasks: %w", refused), refused.Error()}, {errors.New("a\nb"), "a"},
	} {
		if got := errorText(c.err, "too late"); got != c.want {
			t.Errorf("the text of %v is %q, want %q", c.err, got, c.want)
		}
	}
}

func TestOnlyDepthsAreReadWhileNoPageIsOpen(t *testing.T) {
	s := newSite(t, nil)
	deadline := time.Now().Add(time.Minute)
	for {
		s.mu.Lock()
		reads := s.reads["queues"]
		s.mu.Unlock()
		if reads > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the queues are not read")
		}
		time.Sleep(time.Millisecond)
	}
	s.set(func() {
		if s.reads["failures"]+s.reads["fleet"] > 0 {
			t.Errorf("read while no page is open: %v, want the queues only", s.reads)
		}
	})
	if _, page := s.get("/"); !strings.Contains(page, "f1") {
		t.Error("the first page after a while is not complete")
	}
}

func TestActions(t *testing.T) {
	s := newSite(t, nil)
	form := func(pairs ...string) url.Values {
		v := url.Values{"token": {s.d.csrf.token}}
		for i := 0; i+1 < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		return v
	}
	for action, f := range map[string]url.Values{
		"restart": form(), "stack": form("id", "a1"), "retry": form("queue", "q", "id", "f1"), "delete": form("queue", "q", "id", "f1"),
		"pause": form("queue", "q"), "resume": form("queue", "q"),
	} {
		if code, text := s.post(action, f); code != http.StatusOK || text == "" {
			t.Errorf("action %s is answered with %d %q, want 200 and a text", action, code, text)
		}
	}
	got := s.actions()
	slices.Sort(got)
	if want := []string{"delete q f1", "pause q", "restart", "resume q", "retry q f1", "stack a1"}; !slices.Equal(got, want) {
		t.Errorf("actions that were done: %q, want %q", got, want)
	}
	if code, location := s.post("pause", form("queue", "q"), "Accept", "text/html"); code != http.StatusSeeOther || location != "/" {
		t.Errorf("without a script: %d %s", code, location)
	}

	s.set(func() { s.done = nil })
	for name, refused := range map[string]struct {
		action string
		form   url.Values
		header []string
		code   int
	}{
		"without a token":          {"restart", url.Values{}, nil, http.StatusForbidden},
		"with another token":       {"restart", url.Values{"token": {strings.Repeat("0", 64)}}, nil, http.StatusForbidden},
		"from another site":        {"restart", form(), []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		"from another origin":      {"restart", form(), []string{"Origin", "http://evil.example"}, http.StatusForbidden},
		"unknown":                  {"reboot", form(), nil, http.StatusNotFound},
		"a queue that is not ours": {"pause", form("queue", "other"), nil, http.StatusNotFound},
		"no queue":                 {"pause", form(), nil, http.StatusNotFound},
		"no task":                  {"delete", form("queue", "q"), nil, http.StatusBadRequest},
		"too large":                {"delete", form("queue", "q", "id", strings.Repeat("x", maxForm)), nil, http.StatusBadRequest},
	} {
		if code, text := s.post(refused.action, refused.form, refused.header...); code != refused.code || text == "" {
			t.Errorf("%s: answered with %d %q, want %d and a text", name, code, text, refused.code)
		}
	}
	s.set(func() { s.trusted = false })
	for _, action := range []string{"restart", "stack"} {
		if code, text := s.post(action, form("id", "a1")); code != http.StatusForbidden || strings.Contains(text, "SECRET") {
			t.Errorf("%s by a stranger: %d %s", action, code, text)
		}
	}
	if done := s.actions(); len(done) > 0 {
		t.Errorf("done all the same: %q", done)
	}
	s.set(func() { s.trusted, s.err = true, errors.New("the task is running\nSECRET-STDERR") })
	if code, text := s.post("delete", form("queue", "q", "id", "f1")); code != http.StatusNotFound && code != http.StatusConflict || strings.Contains(text, "SECRET") {
		t.Errorf("an action that fails: %d %s", code, text)
	}
	if response, _ := s.get("/actions/restart"); response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET of an action: %s", response.Status)
	}
}

func TestEverythingHasThePolicy(t *testing.T) {
	s := newSite(t, nil)
	for _, path := range []string{"/", "/assets/app.js", "/assets/nothing"} {
		response, _ := s.get(path)
		for name, want := range map[string]string{"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"} {
			if got := response.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Error("the policy is not strict")
	}
}

func TestSourcesAreChecked(t *testing.T) {
	if _, err := New(Sources{}); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("New without sources returns %v, want an error that names what is missing", err)
	}
}

func TestMostUrgentWorkersComeFirst(t *testing.T) {
	var all []Worker
	for i := range 2 * maxWorkers {
		all = append(all, Worker{ID: fmt.Sprintf("w%03d", i), Tone: Good, State: "FREE"})
	}
	all[150].Tone, all[150].State = Bad, "DEAD"
	all[180].Tone, all[180].State = Bad, "BUSY"
	all[170].State = "BUSY"
	f := fleetView(reading{fleet: all})
	if f.Workers[0].ID != "w150" || f.Workers[1].ID != "w180" || f.Workers[2].ID != "w000" || f.More != maxWorkers {
		t.Errorf("the first workers are %s, %s and %s, with %d more; want w150, w180, w000", f.Workers[0].ID, f.Workers[1].ID, f.Workers[2].ID, f.More)
	}
	if f.Dead != 1 || f.Unhealthy != 1 || f.Busy != 1 || f.Free != 2*maxWorkers-3 {
		t.Errorf("the fleet is %+v, want 1 dead, 1 unhealthy, 1 busy and the rest free", f)
	}
	if all[0].ID != "w000" {
		t.Error("the source's list was changed")
	}
}

func TestMostUrgentQueuesAreShown(t *testing.T) {
	var all []Queue
	for i := range 10_000 {
		all = append(all, Queue{Name: fmt.Sprintf("q%04d", i), Tone: Good, Depth: status.Depth{Active: 1}})
	}
	all[5000].Pending, all[7000].Tone, all[9000].Tone = 3, Warn, Bad
	s := newSite(t, func(src *Sources) {
		src.Queues = func(context.Context) ([]Queue, error) { return all, nil }
	})
	_, page := s.get("/")
	for _, name := range []string{"q0000", "q5000", "q7000", "q9000"} {
		if !strings.Contains(page, name) {
			t.Errorf("queue %s is not shown", name)
		}
	}
	if strings.Contains(page, "q0099") || len(page) > 2<<20 || !strings.Contains(page, "And 9,900 more") {
		t.Errorf("the page has %d bytes", len(page))
	}
	if q := mostUrgent(all); q.Rest.Active != 9_900 || q.Rest.Pending != 0 || q.List[97].Name != "q5000" || all[97].Name != "q0097" {
		t.Errorf("%d more: %+v", q.More, q.Rest)
	}
}

// Streams are woken all at once.
func TestStreamsShareOneRendering(t *testing.T) {
	var renderings atomic.Int64
	s := newSite(t, func(src *Sources) {
		src.Process = func() Process {
			renderings.Add(1)
			time.Sleep(50 * time.Millisecond) // the work of a large page
			return Process{Tone: Good}
		}
		src.Changed = func() <-chan struct{} { return nil }
	})
	before := s.version()
	var asking sync.WaitGroup
	for range maxStreams {
		asking.Go(func() {
			if _, _, err := s.d.sections(s.d.visitor(true)); err != nil {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	if versions := int64(s.version()-before) + 1; renderings.Load() > versions {
		t.Errorf("%d renderings of %d versions of the page, want one of each at most", renderings.Load(), versions)
	}
}

func TestRoundUp(t *testing.T) {
	for v, want := range map[float64]float64{0.7: 1, 1: 1, 1.1: 2, 3: 5, 51: 100, 100: 100, 4711: 5000, 0.03: 0.05} {
		if got := roundUp(v); got < want*0.999 || got > want*1.001 {
			t.Errorf("roundUp(%v) = %v, want %v", v, got, want)
		}
	}
}

func TestScalesOfDurationsAreRound(t *testing.T) {
	for v, want := range map[float64]float64{
		0.3: 0.5, 1.2: 2, 11: 30, 31: 60, 61: 120, 301: 600, 1801: 3600, 3601: 7200, 7201: 21600, 21601: 43200, 50000: 86400, 90000: 172800,
	} {
		if got := durationChart("age", []float64{math.NaN(), v / 2, v, math.NaN()}).Top; got != want {
			t.Errorf("the scale of %v s ends at %v, want %v", v, got, want)
		}
	}
}
