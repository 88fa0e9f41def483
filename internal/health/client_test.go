package health

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/runqy/runqy-worker/internal/status"
)

func TestCheckAsksTheWorker(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	startServer(t, mustServer(t, ServerOptions{Socket: path, SocketHandler: SocketHandler(sources(degraded()))}))
	for probe, ok := range map[Probe]bool{ProbeHealth: false, ProbeLive: true, ProbeReady: false} {
		res, err := Check(t.Context(), path, probe)
		if err != nil || res.OK != ok {
			t.Errorf("probe %q: result %+v, error %v; want OK %v", probe, res, err, ok)
		}
		b, err := json.Marshal(res)
		if want := `{"worker":"unhealthy","broker":"healthy","database":"not configured","queue_depth":7,"processing":2,"failed":3,"report":"4; age=0.250",` +
			`"error":"The Python process is not healthy: exit status 1."}`; err != nil || string(b) != want {
			t.Errorf("the result is printed as %s (error %v), want %s", b, err, want)
		}
	}
}

func TestCheckWithoutAWorker(t *testing.T) {
	dir := socketDir(t)
	listen := func(name string) *net.UnixListener {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	stale := listen("stale")
	stale.SetUnlinkOnClose(false)
	stale.Close()
	frozen := listen("frozen") // connections are made, and nobody answers
	defer frozen.Close()
	answering := func(name string, h http.HandlerFunc) {
		s := &http.Server{Handler: h}
		l := listen(name)
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close(); <-done })
	}
	answering("garbage", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
	answering("stranger", func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) })
	answering("dribble", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"worker":"healthy",`)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"missing": "no worker answers", "stale": "no worker answers", "frozen": "does not answer", "file": "no worker answers",
		"garbage": "unreadable answer", "stranger": "404", "dribble": "does not answer",
	} {
		t.Run(name, func(t *testing.T) {
			res, err := Check(t.Context(), filepath.Join(dir, name), ProbeHealth)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("error %v, want one with %q", err, want)
			}
			if res.OK || res.Worker != status.Unhealthy || res.Broker != status.Unknown || res.Database != status.Unknown || res.QueueDepth != nil || res.Error != err.Error() {
				t.Errorf("result %+v, want an unhealthy worker, nothing known of the rest, and %q", res, err)
			}
		})
	}
	if _, err := Check(t.Context(), "", ProbeHealth); err == nil || !strings.Contains(err.Error(), "health.socket") {
		t.Errorf("without a socket the error is %v, want one that names health.socket", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if res, err := Check(ctx, filepath.Join(dir, "frozen"), ProbeHealth); err == nil || res.OK {
		t.Errorf("with a cancelled context: result %+v, error %v; want an error", res, err)
	}
	if FailedResult(nil).Error == "" {
		t.Error("FailedResult(nil) has no error text, want one")
	}
}
