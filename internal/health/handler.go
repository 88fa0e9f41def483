package health

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// wedgedAfter is how old the supervisor's last turn may be before its loop
// counts as wedged; it turns at least every second.
const wedgedAfter = 10 * time.Second

// Sources are what the probes are answered from. Their functions are called
// from any goroutine.
type Sources struct {
	// Report returns the worker's health; it must not block. Required.
	Report func() Report
	// LoopTick returns when the supervisor's loop last turned, zero while there
	// is no loop yet. Nil counts as a loop that always turns.
	LoopTick func() time.Time
	// Queues and Broker serve /health/v2/queues; without Queues the path is not found.
	Queues QueueSource
	Broker BrokerSource
	// Metrics serves /metrics; without it the path is not found.
	Metrics http.Handler
	// RPC are the handlers of remote procedures, each by the path of its
	// service, which ends in a slash; any method is theirs.
	RPC map[string]http.Handler
	// Dashboard are the handlers of the page at / and of what belongs to it, each by its pattern for http.ServeMux. Without
	// it / is a plain-text index.
	Dashboard map[string]http.Handler
	// Trusted tells which visitors may see what tasks carry: the lines of stderr below a reason are shown to them alone.
	// Nil trusts all.
	Trusted func(*http.Request) bool
}

// Handler serves /health, /livez, /readyz, /metrics, /health/v2/queues, the
// remote procedures and the dashboard or, without one, a plain-text
// index at /.
func Handler(src Sources) http.Handler { return newMux(src) }

// SocketHandler serves what Handler does, and /healthcheck for [Check]: meant
// for the unix socket only.
func SocketHandler(src Sources) http.Handler {
	mux := newMux(src)
	mux.Handle("/healthcheck", get(src.serveHealthcheck))
	return mux
}

func newMux(src Sources) *http.ServeMux {
	mux := http.NewServeMux()
	paths := []string{"/health", "/livez", "/readyz"}
	mux.Handle("/health", get(src.serveHealth))
	mux.Handle("/livez", get(src.serveLive))
	mux.Handle("/readyz", get(src.serveReady))
	if src.Metrics != nil {
		paths = append(paths, "/metrics")
		mux.Handle("/metrics", get(src.Metrics.ServeHTTP))
	}
	if src.Queues != nil {
		paths = append(paths, "/health/v2/queues")
		mux.Handle("/health/v2/queues", get(src.serveQueues))
	}
	for _, path := range slices.Sorted(maps.Keys(src.RPC)) {
		paths = append(paths, path)
		mux.Handle(path, src.RPC[path])
	}
	for pattern, handler := range src.Dashboard {
		mux.Handle(pattern, handler)
	}
	if len(src.Dashboard) > 0 {
		return mux
	}
	index := "runqy-worker\n\n" + strings.Join(paths, "\n") + "\n"
	mux.Handle("/{$}", get(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, index)
	}))
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

// writeJSON answers with v as compact JSON, without a newline behind it: some
// probes compare the whole body.
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
	// The client may be gone; there is nobody left to tell.
	_, _ = w.Write(body)
}

func statusCode(ok bool) int {
	if ok {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
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
	Error        string        `json:"error,omitempty"`
}

type checksBody struct {
	Worker   status.Check `json:"worker"`
	Broker   status.Check `json:"broker"`
	Database status.Check `json:"database"`
}

func (src Sources) serveHealth(w http.ResponseWriter, r *http.Request) {
	rep := src.Report()
	status := "UNHEALTHY"
	if rep.Healthy {
		status = "HEALTHY"
	}
	if !verbose(r) {
		writeJSON(w, statusCode(rep.Healthy), healthBody{status})
		return
	}
	reasons := src.reasonsFor(r, rep)
	writeJSON(w, statusCode(rep.Healthy), verboseBody{
		Status: status, Reasons: reasons, WorkerStatus: rep.Status, State: rep.State, Environment: rep.Environment,
		Checks: checksBody{rep.Worker, rep.Broker, rep.Database}, Error: rep.Error,
	})
}

// reasonsFor is why the worker is not healthy, as this visitor may know it: the process's last words stand below a line
// that says what happened.
func (src Sources) reasonsFor(r *http.Request, rep Report) []string {
	health := rep.Health
	if src.Trusted != nil && !src.Trusted(r) {
		health = health.Public()
	}
	return texts(health.Reasons)
}

// texts are the whole reasons.
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

func (src Sources) serveLive(w http.ResponseWriter, _ *http.Request) {
	live, reason := src.Live()
	status := "LIVE"
	if !live {
		status = "WEDGED"
	}
	writeJSON(w, statusCode(live), probeBody{status, reason})
}

// Live says whether the supervisor's loop turns, and why not, as /livez does.
func (src Sources) Live() (ok bool, reason string) {
	if src.LoopTick == nil {
		return true, ""
	}
	tick := src.LoopTick()
	if tick.IsZero() {
		return true, ""
	}
	if age := time.Since(tick); age > wedgedAfter {
		return false, fmt.Sprintf("The supervisor's loop has not turned for %s.", age.Truncate(time.Second))
	}
	return true, ""
}

func (src Sources) serveReady(w http.ResponseWriter, r *http.Request) {
	rep := src.Report()
	ready, reason := rep.Ready(), ""
	status := "READY"
	if !ready {
		status, reason = "NOT_READY", strings.Join(src.reasonsFor(r, rep), " ")
		if reason == "" {
			reason = fmt.Sprintf("The worker is %s.", rep.Status)
		}
	}
	writeJSON(w, statusCode(ready), probeBody{status, reason})
}

// serveHealthcheck answers the healthcheck command: the status code is the
// answer to the probe that was asked, the body is always the same.
func (src Sources) serveHealthcheck(w http.ResponseWriter, r *http.Request) {
	rep := src.Report()
	ok, reason := rep.Healthy, strings.Join(texts(rep.Reasons), " ")
	switch Probe(r.URL.Query().Get("probe")) {
	case ProbeLive:
		if live, why := src.Live(); live {
			ok = true
		} else {
			ok, reason = false, why
		}
	case ProbeReady:
		ok = rep.Ready()
		if !ok && reason == "" {
			reason = fmt.Sprintf("The worker is %s.", rep.Status)
		}
	default: // ProbeHealth
	}
	if rep.Error != "" {
		reason = rep.Error
	}
	writeJSON(w, statusCode(ok), Result{
		Worker: rep.Worker, Broker: rep.Broker, Database: rep.Database,
		QueueDepth: rep.QueueDepth, Processing: rep.Processing, Failed: rep.Failed, Error: reason,
	})
}
