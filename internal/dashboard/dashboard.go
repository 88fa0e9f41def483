package dashboard

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Dashboard is the page of one process. Run it once; its Handler and Finished may be used from any goroutine, and before
// Run too: the page then shows what it knows.
type Dashboard struct {
	src     Sources
	render  *renderer
	hist    *history
	collect *collector
	token   string // that a form must bring: who sends it has seen the page

	trustedStreams, otherStreams chan struct{} // one element per open stream
	jobs                         chan job      // restarts that outlive their request; Run owns them

	trustedPen, otherPen sync.Mutex // held while the sections of one kind of visitor are rendered; before mu

	mu      sync.Mutex // guards the rest
	word    string     // of the health
	since   time.Time  // of word
	turn    uint64     // counts what closed updated
	updated chan struct{}
	drawn   map[bool]drawing // by trusted
}

// drawing are the sections as one kind of visitor sees them.
type drawing struct {
	turn     uint64
	sections []section
}

// job is work that goes on when the visitor has left.
type job struct {
	do   func(context.Context) error
	done chan<- error // capacity 1
}

// streamsMost bounds the open streams of each kind of visitor: those who are not trusted cannot keep the others out.
const streamsMost = 32

// New returns a Dashboard of these sources.
func New(src Sources) (*Dashboard, error) {
	if err := src.check(); err != nil {
		return nil, err
	}
	render, err := newRenderer()
	if err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	hist := newHistory(time.Now)
	return &Dashboard{
		src: src, render: render, hist: hist, collect: newCollector(src, hist), token: hex.EncodeToString(secret),
		trustedStreams: make(chan struct{}, streamsMost), otherStreams: make(chan struct{}, streamsMost),
		jobs: make(chan job), since: time.Now(), updated: make(chan struct{}), drawn: make(map[bool]drawing),
	}, nil
}

// Finished tells of a task that has ended here. It is cheap and does not block.
func (d *Dashboard) Finished(took time.Duration, failed bool) { d.hist.finished(took, failed) }

// Run keeps the page up to date until ctx is over and then returns nil; restarts under way end with ctx.
func (d *Dashboard) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { d.collect.run(ctx) })
	running.Go(func() { d.work(ctx) })
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		health := d.src.Changed()
		d.health() // since when, also while nobody looks
		d.changed()
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

// changed wakes every stream.
func (d *Dashboard) changed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn++
	close(d.updated)
	d.updated = make(chan struct{})
}

// sections returns the present sections for one kind of visitor, and a channel that is closed when they may have changed.
// Any number of streams shares one rendering, those that were woken at the same moment too.
func (d *Dashboard) sections(trusted bool) ([]section, <-chan struct{}, error) {
	pen := &d.otherPen
	if trusted {
		pen = &d.trustedPen
	}
	pen.Lock()
	defer pen.Unlock()
	d.mu.Lock()
	turn, updated, last := d.turn, d.updated, d.drawn[trusted]
	d.mu.Unlock()
	if last.sections != nil && last.turn == turn {
		return last.sections, updated, nil
	}
	drawn, err := d.render.sections(d.view(d.collect.latest(), trusted))
	if err != nil {
		return nil, updated, fmt.Errorf("render the dashboard: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drawn[trusted] = drawing{turn, drawn}
	return drawn, updated, nil
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

// policy lets the page load what this server serves and nothing else, and run nothing that stands in the page itself.
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
	trusted := d.src.Trusted(r)
	view := d.view(d.collect.fresh(r.Context()), trusted)
	var page pageBuffer
	if err := d.render.page(&page, view); err != nil {
		d.src.Logger.Error("cannot render the dashboard", "error", err)
		http.Error(w, "The dashboard could not be rendered; the worker's log tells why.", http.StatusInternalServerError)
		return
	}
	page.send(w, http.StatusOK)
}
