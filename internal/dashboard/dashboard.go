package dashboard

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/runqy/runqy-worker/internal/broadcast"
	"github.com/runqy/runqy-worker/internal/status"
)

// Dashboard is the page of one process. Run it once; its Handlers and Finished may be used from any goroutine, and
// before Run too: the page then shows what it knows.
type Dashboard struct {
	src     Sources
	log     *slog.Logger
	render  *renderer
	hist    *history
	collect *collector
	csrf    csrf

	trustedStreams, otherStreams chan struct{} // one element per open stream
	jobs                         chan job      // restarts that outlive their request; Run carries them out

	trustedMu, otherMu sync.Mutex // held while the sections of one kind of visitor are rendered; taken before mu
	updated            broadcast.Notifier

	mu       sync.Mutex // guards the rest
	label    string     // of the health
	since    time.Time  // of label
	version  uint64     // of the page: counts the updates
	rendered map[visitor]rendering
}

// rendering are the sections as one kind of visitor sees them.
type rendering struct {
	version  uint64
	sections []section
}

// job is work that goes on after the visitor has left.
type job struct {
	do   func(context.Context) error
	done chan<- error // capacity 1
}

// maxStreams bounds the open streams of each kind of visitor: visitors who are not trusted cannot keep the others out.
const maxStreams = 32

// New returns a Dashboard of these sources.
func New(src Sources) (*Dashboard, error) {
	if err := src.check(); err != nil {
		return nil, err
	}
	render, err := newRenderer()
	if err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	hist := newHistory(time.Now)
	return &Dashboard{
		src: src, log: src.Logger.With("component", "dashboard"), render: render, hist: hist, collect: newCollector(src, hist),
		csrf: newCSRF(), trustedStreams: make(chan struct{}, maxStreams), otherStreams: make(chan struct{}, maxStreams),
		jobs: make(chan job), since: time.Now(), rendered: make(map[visitor]rendering),
	}, nil
}

// Finished counts a task that has ended here after took. It is cheap and does not block.
func (d *Dashboard) Finished(took time.Duration, failed bool) { d.hist.finished(took, failed) }

// Run keeps the page up to date until ctx is over and then returns nil; restarts that are under way end with ctx.
func (d *Dashboard) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { d.collect.run(ctx) })
	running.Go(func() { d.work(ctx) })
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		health := d.src.Changed()
		d.health() // records since when, also while no page is open
		d.update()
		select {
		case <-health:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// work carries jobs out, one at a time.
func (d *Dashboard) work(ctx context.Context) {
	for {
		select {
		case j := <-d.jobs:
			j.done <- j.do(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// update has every stream send what has changed.
func (d *Dashboard) update() {
	d.mu.Lock()
	d.version++
	d.mu.Unlock()
	d.updated.Notify()
}

// sections returns the present sections for one kind of visitor, and a channel that is closed when they may have
// changed. Any number of streams shares one rendering, those that were woken at the same moment too.
func (d *Dashboard) sections(by visitor) ([]section, <-chan struct{}, error) {
	mu := &d.otherMu
	if by.trusted {
		mu = &d.trustedMu
	}
	mu.Lock()
	defer mu.Unlock()
	updated := d.updated.Next()
	d.mu.Lock()
	version, last := d.version, d.rendered[by]
	d.mu.Unlock()
	if last.sections != nil && last.version == version {
		return last.sections, updated, nil
	}
	sections, err := d.render.sections(d.view(d.collect.latest(), by))
	if err != nil {
		return nil, updated, fmt.Errorf("render the dashboard: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rendered[by] = rendering{version, sections}
	return sections, updated, nil
}

// Handlers returns the page, its stream, its assets and its actions, each by its pattern for http.ServeMux.
func (d *Dashboard) Handlers() map[string]http.Handler {
	return map[string]http.Handler{
		"GET /{$}":               headers(http.HandlerFunc(d.servePage)),
		"GET /events":            headers(http.HandlerFunc(d.serveEvents)),
		"GET /assets/":           headers(assetHandler()),
		"POST /actions/{action}": headers(d.actionHandler()),
	}
}

// policy lets the page load only what this server serves, and run no script that is written in the page itself.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		// Not no-referrer: a browser would then not tell the origin of a form either.
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func (d *Dashboard) servePage(w http.ResponseWriter, r *http.Request) {
	view := d.view(d.collect.fresh(r.Context()), d.visitorOf(r))
	var document pageBuffer
	if err := d.render.page(&document, view); err != nil {
		d.log.Error("render failed", "error", err)
		http.Error(w, "The dashboard could not be rendered; the worker's log tells why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set(status.ReportHeader, view.Health.Report.String())
	document.send(w, http.StatusOK)
}
