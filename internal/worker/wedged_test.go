package worker

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/dashboard"
	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/internal/status"
)

// wedge is a log that holds up the event loop of the supervisor when it is armed.
type wedge struct {
	slog.Handler
	held  chan struct{} // closed: the loop goes on
	armed *atomic.Bool
}

// Handle implements slog.Handler.
func (w wedge) Handle(ctx context.Context, r slog.Record) error {
	if w.armed.Load() && r.Message == "python process state changed" {
		<-w.held
	}
	return w.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (w wedge) WithAttrs(attrs []slog.Attr) slog.Handler {
	return wedge{w.Handler.WithAttrs(attrs), w.held, w.armed}
}

// The supervisor stands still at the moment at which its process has died: its last word is that all is well, and nobody
// may believe it.
func TestWedgedSupervisorIsUnhealthyEverywhere(t *testing.T) {
	server := redistest.Start(t)
	cfg := testConfig(t, server.URL)
	opts := testOptions(t, cfg)
	log := wedge{Handler: opts.Logger.Handler(), held: make(chan struct{}), armed: &atomic.Bool{}}
	opts.Logger = slog.New(log)
	w := runWith(t, opts)
	w.eventuallyReady()
	healthy := w.report()

	log.armed.Store(true)
	if err := syscall.Kill(w.supervisor.Snapshot().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	const why = "The supervisor's loop has not turned since "
	eventually(t, func() string {
		beat := server.Client.HGetAll(t.Context(), heartbeat.Key(cfg.Worker.ID)).Val()
		if beat["healthy"] != "false" || !strings.HasPrefix(beat["reason"], why) {
			return fmt.Sprintf("the heartbeat is %v", beat)
		}
		return ""
	})
	h := w.report()
	if h.Healthy || h.Number != healthy.Number+1 || h.Stale || h.Worker != status.Unhealthy {
		t.Errorf("the report is %+v, want the one that follows %d", h, healthy.Number)
	}
	for path, want := range map[string]int{"/health": 503, "/readyz": 503, "/livez": 200} { // who asks /livez kills
		if code := w.get(path); code != want {
			t.Errorf("%s answers %d, want %d", path, code, want)
		}
	}
	pong, banner := w.pong(), dashboardHealth(w.report())
	if pong.Healthy || pong.State != status.Busy || pong.Reason != h.Reason().Summary || w.metricSources(nil).Worker().Healthy ||
		banner.Tone != dashboard.Bad || banner.Label != "Wedged" || w.monitor.Open() || !strings.Contains(w.serviceState().Text, why) {
		t.Errorf("ping %+v, banner %+v, gate open %v, systemd %q", pong, banner, w.monitor.Open(), w.serviceState().Text)
	}
	eventually(t, func() string {
		if code := w.get("/livez"); code != http.StatusServiceUnavailable {
			return fmt.Sprintf("/livez answers %d", code)
		}
		return ""
	})
	if h := w.report(); h.Number != healthy.Number+1 {
		t.Errorf("the report has the number %d while nothing changed, want %d", h.Number, healthy.Number+1)
	}

	close(log.held)
	eventually(t, func() string {
		if h := w.report(); !h.StoodSince.IsZero() || !strings.Contains(h.Reason().Summary, "SIGKILL") {
			return fmt.Sprintf("the report is %+v", h)
		}
		return ""
	})
	if code := w.get("/livez"); code != http.StatusOK {
		t.Errorf("/livez answers %d when the loop goes on, want 200", code)
	}
}
