package health

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/runqy/runqy-worker/internal/status"
)

// Sources are what the probes are answered from. Their functions are called from any goroutine.
type Sources struct {
	// Report returns the worker's health, lines of stderr included; it must not block. Required.
	Report      func() status.Report
	Environment string
	// Counts returns the numbers of the healthcheck command for a worker of this health. It may ask Redis, briefly. Nil: none
	// is known.
	Counts func(status.Health) Counts
	// Queues and Broker serve /health/v2/queues; without Queues the path is not found.
	Queues QueueSource
	States StateSource // nil: those that can be read are served
	Broker BrokerSource
	// Metrics serves /metrics; without it the path is not found.
	Metrics http.Handler
	// RPC are the handlers of remote procedures, each by the path of its service, which ends in a slash. They get
	// requests of any method.
	RPC map[string]http.Handler
	// Dashboard are the handlers of the page at / and of what belongs to it, each by its pattern for http.ServeMux.
	// Without it / is a plain-text index.
	Dashboard map[string]http.Handler
	// Trusted reports whether a visitor may see what tasks carry, as the lines of stderr in a reason. Nil trusts
	// everybody.
	Trusted func(*http.Request) bool
}

// Route is a pattern of http.ServeMux and what serves it.
type Route struct {
	Pattern string
	Handler http.Handler
}

// Routes returns everything that [Handler] serves: /health, /livez, /readyz, /metrics, /health/v2/queues, the remote
// procedures, and the dashboard or, without one, a plain-text index at /.
func Routes(src Sources) []Route {
	p := src.probes()
	routes := []Route{{"/health", get(p.serveHealth)}, {"/livez", get(p.serveLive)}, {"/readyz", get(p.serveReady)}}
	if src.Metrics != nil {
		routes = append(routes, Route{"/metrics", get(src.Metrics.ServeHTTP)})
	}
	if src.Queues != nil {
		routes = append(routes, Route{"/health/v2/queues", get(p.serveQueues)})
	}
	for _, path := range slices.Sorted(maps.Keys(src.RPC)) {
		routes = append(routes, Route{path, knowing(src.RPC[path], src.Trusted)})
	}
	if len(src.Dashboard) == 0 {
		return append(routes, Route{"/{$}", index(routes)})
	}
	for _, pattern := range slices.Sorted(maps.Keys(src.Dashboard)) {
		routes = append(routes, Route{pattern, src.Dashboard[pattern]})
	}
	return routes
}

func index(routes []Route) http.Handler {
	text := "runqy-worker\n\n"
	for _, r := range routes {
		text += r.Pattern + "\n"
	}
	return get(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, text)
	})
}

// Handler serves [Routes] to the visitors of the TCP port.
func Handler(src Sources) http.Handler { return newMux(Routes(src)) }

// SocketHandler is for the unix socket, which only the worker's own user can reach, so that every visitor is trusted.
// It serves what [Handler] does but the dashboard, and /healthcheck for [Check].
func SocketHandler(src Sources) http.Handler {
	src.Trusted, src.Dashboard = nil, nil
	mux := newMux(Routes(src))
	mux.Handle("/healthcheck", get(src.probes().serveHealthcheck))
	return mux
}

func newMux(routes []Route) *http.ServeMux {
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.Handle(r.Pattern, r.Handler)
	}
	return mux
}

// get refuses every method but GET and HEAD.
func get(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
			return
		}
		next(w, r)
	})
}

// writeJSON answers with v as compact JSON, without a newline at the end: some probes compare the whole body.
func writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, fmt.Sprintf("encode the answer: %v", err), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(body) // an error means that the client is gone
}

func statusCode(ok bool) int {
	if ok {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

// probes answers the probes. It has no other way to the health than the one that leaves out what the visitor may not
// see, and each answer comes from one report.
type probes struct {
	report      func(*http.Request) status.Report
	counts      func(status.Health) Counts
	environment string
	queues      QueueSource
	states      StateSource
	broker      BrokerSource
}

func (src Sources) probes() probes {
	p := probes{
		report: visible(src.Report, src.Trusted), counts: src.Counts,
		environment: src.Environment, queues: src.Queues, states: src.States, broker: src.Broker,
	}
	if p.counts == nil {
		p.counts = func(status.Health) Counts { return Counts{} }
	}
	return p
}

type healthBody struct {
	Status string `json:"status"`
}

type verboseBody struct {
	Status       string        `json:"status"`
	Reasons      []string      `json:"reasons"`
	WorkerStatus status.Status `json:"worker_status"`
	State        status.State  `json:"state"`
	Environment  string        `json:"environment"`
	Checks       checksBody    `json:"checks"`
	Report       string        `json:"report"`
}

type checksBody struct {
	Worker   status.Check `json:"worker"`
	Broker   status.Check `json:"broker"`
	Database status.Check `json:"database"`
}

func (p probes) serveHealth(w http.ResponseWriter, r *http.Request) {
	h := p.report(r)
	word := "UNHEALTHY"
	if h.Healthy {
		word = "HEALTHY"
	}
	if !verbose(r) {
		answer(w, h.Mark, h.Healthy, healthBody{word})
		return
	}
	answer(w, h.Mark, h.Healthy, verboseBody{
		Status: word, Reasons: texts(h.Reasons), WorkerStatus: h.Status, State: h.State, Environment: p.environment,
		Checks: checksBody{h.Worker, h.Broker, h.Database}, Report: h.Mark.String(),
	})
}

// texts returns the reasons with the lines of stderr that they have.
func texts(reasons []status.Reason) []string {
	out := make([]string, len(reasons))
	for i, r := range reasons {
		out[i] = r.Text()
	}
	return out
}

// verbose accepts ?verbose and ?verbose= followed by anything but a no.
func verbose(r *http.Request) bool {
	values, ok := r.URL.Query()["verbose"]
	if !ok {
		return false
	}
	switch strings.ToLower(values[0]) {
	case "0", "false", "no":
		return false
	}
	return true
}

type probeBody struct {
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}

func (p probes) serveLive(w http.ResponseWriter, r *http.Request) {
	h := p.report(r)
	live, reason := Live(h.Health)
	word := "LIVE"
	if !live {
		word = "WEDGED"
	}
	answer(w, h.Mark, live, probeBody{word, reason})
}

func (p probes) serveReady(w http.ResponseWriter, r *http.Request) {
	h := p.report(r)
	word, reason := "READY", ""
	if !h.Ready() {
		word, reason = "NOT_READY", NotReady(h.Health)
	}
	answer(w, h.Mark, h.Ready(), probeBody{word, reason})
}

// NotReady says why a worker that is not ready is not.
func NotReady(h status.Health) string {
	switch {
	case len(h.Reasons) > 0:
	case h.Awaits.Summary != "":
		return fmt.Sprintf("The worker is %s: %s.", h.Status, h.Awaits)
	default:
		return fmt.Sprintf("The worker is %s.", h.Status)
	}
	return strings.Join(texts(h.Reasons), " ")
}

// serveHealthcheck answers the healthcheck command: the status code is the answer to the probe that was asked, the body
// is always the same.
func (p probes) serveHealthcheck(w http.ResponseWriter, r *http.Request) {
	h := p.report(r)
	ok, reason := h.Healthy, strings.Join(texts(h.Reasons), " ")
	switch Probe(r.URL.Query().Get("probe")) {
	case ProbeLive:
		if live, why := Live(h.Health); live {
			ok = true
		} else {
			ok, reason = false, why
		}
	case ProbeReady:
		if ok = h.Ready(); !ok {
			reason = NotReady(h.Health)
		}
	default: // ProbeHealth
	}
	result := Result{
		Worker: h.Worker, Broker: h.Broker, Database: h.Database, Counts: p.counts(h.Health),
		Report: h.Mark.String(), Error: reason,
	}
	if !ok { // whoever reads the first word only is not to read "healthy" there
		result.Worker = status.Unhealthy
	}
	answer(w, h.Mark, ok, result)
}

// answer answers a probe with a body that was made from the report of this mark.
func answer(w http.ResponseWriter, m status.Mark, ok bool, body any) {
	w.Header().Set(status.ReportHeader, m.String())
	writeJSON(w, statusCode(ok), body)
}
