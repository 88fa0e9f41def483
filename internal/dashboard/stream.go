package dashboard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// beatEvery is how often a stream says that it is alive; the page calls itself not live after three of them.
	beatEvery = 2 * time.Second
	// maxStreamAge bounds a stream's life: its visitor then connects again, and whether it is trusted is decided anew.
	maxStreamAge = 5 * time.Minute
	// writeTimeout is how long a visitor may take to read one event.
	writeTimeout = 10 * time.Second
)

// pageBuffer holds a page until it is known to be whole.
type pageBuffer struct{ bytes.Buffer }

func (b *pageBuffer) send(w http.ResponseWriter, code int) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = b.WriteTo(w) // an error means that the visitor is gone
}

type sectionsEvent struct {
	Page     string    `json:"page"`
	Sections []section `json:"sections"`
}

type beatEvent struct {
	At time.Time `json:"at"`
}

// serveEvents sends every section, and then those that have changed, each time that some may have. To a visitor who
// reads slowly it sends less often: what has changed meanwhile arrives together.
func (d *Dashboard) serveEvents(w http.ResponseWriter, r *http.Request) {
	by := d.visitorOf(r)
	open := d.otherStreams
	if by.trusted {
		open = d.trustedStreams
	}
	select {
	case open <- struct{}{}:
		defer func() { <-open }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("%d pages follow this worker already; close some of them.", maxStreams), http.StatusServiceUnavailable)
		return
	}
	defer d.collect.watch()()
	stream := http.NewResponseController(w)
	// The server's limit is for a request that is read whole before it is answered.
	if err := stream.SetReadDeadline(time.Time{}); err != nil {
		http.Error(w, "This connection cannot carry a stream.", http.StatusNotImplemented)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // or nginx keeps events to itself
	w.WriteHeader(http.StatusOK)
	send := func(event string, data any) error {
		if err := stream.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if err := writeEvent(w, event, data); err != nil {
			return err
		}
		return stream.Flush()
	}
	over := time.NewTimer(maxStreamAge)
	defer over.Stop()
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	sent := make(map[string]string)
	for {
		all, updated, err := d.sections(by)
		if err != nil {
			d.log.Error("render failed", "error", err)
			return
		}
		var news []section
		for _, s := range all {
			if sent[s.ID] != s.HTML {
				sent[s.ID] = s.HTML
				news = append(news, s)
			}
		}
		if len(news) > 0 {
			if send("sections", sectionsEvent{d.render.build(), news}) != nil {
				return // the visitor has left
			}
		}
		select {
		case <-updated:
		case <-beat.C:
			if send("beat", beatEvent{time.Now().UTC()}) != nil {
				return
			}
		case <-over.C:
			return
		case <-r.Context().Done():
			return
		}
	}
}

func writeEvent(w io.Writer, event string, data any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // a stream is never taken for HTML, and an escaped < is six times as long
	if err := encoder.Encode(data); err != nil {
		return fmt.Errorf("encode the event %s: %w", event, err)
	}
	// On one line, as an event's data must be; Encode has ended it.
	_, err := fmt.Fprintf(w, "event: %s\ndata: %s\n", event, text.Bytes())
	return err
}
