package status

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const secret = "password=hunter2"

func crashed() Reason {
	return NewReason("crashed (exit): exit status 3", []string{"Traceback", secret})
}

func TestReasonTextIsReadBack(t *testing.T) {
	for _, r := range []Reason{{}, {Summary: "stalled"}, crashed(), NewReason("one\ntwo", []string{"three"})} {
		if got := ParseReason(r.Text()); !got.Equal(r) {
			t.Errorf("ParseReason(%q) = %q, want %q", r.Text(), got.Text(), r.Text())
		}
	}
	want := "crashed (exit): exit status 3; its last lines on stderr:\nTraceback\n" + secret
	if got := crashed().Text(); got != want {
		t.Errorf("Text() = %q, want %q", got, want)
	}
}

// Whatever a new place does with a reason, short of asking for the lines of stderr, shows the summary alone.
func TestReasonShowsItsSummaryOnly(t *testing.T) {
	health := Health{Reasons: []Reason{crashed()}}
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("health", "reason", crashed(), "health", health)
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("health", "reason", crashed(), "health", health)
	encoded, err := json.Marshal(health)
	if err != nil {
		t.Fatalf("encode health: %v", err)
	}
	public := health.Public()
	for name, shown := range map[string]string{
		"%v": fmt.Sprintf("%v", crashed()), "%+v": fmt.Sprintf("%+v", health), "%s": fmt.Sprintf("%s", health.Reasons),
		"%#v": fmt.Sprintf("%#v", health), "%q": fmt.Sprintf("%q", crashed()),
		"JSON": string(encoded), "log": logged.String(), "Public": public.Reason().Text(),
	} {
		if strings.Contains(shown, secret) {
			t.Errorf("%s shows stderr: %s", name, shown)
		}
		if !strings.Contains(shown, "exit status 3") {
			t.Errorf("%s = %s, want the summary in it", name, shown)
		}
	}
	if health.Reasons[0].Stderr == nil {
		t.Error("Public changed the reasons that it was asked about")
	}
}

// An error with several lines, such as that of all Sentinels, is not for everybody, and its text stays as it is.
func TestReasonShowsTheFirstLineOnly(t *testing.T) {
	r := Reason{Summary: "Redis does not answer: dial 10.0.0.1\ndial 10.0.0.2."}
	const want = "Redis does not answer: dial 10.0.0.1"
	encoded, err := json.Marshal(r)
	if err != nil {
		t.Fatalf("encode the reason: %v", err)
	}
	for name, got := range map[string]string{
		"%v": fmt.Sprintf("%v", r), "%#v": fmt.Sprintf("%#v", r), "JSON": strings.Trim(string(encoded), `"`),
		"log": r.LogValue().String(), "Public": r.Public().Text(),
	} {
		if got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if got := r.Text(); got != r.Summary {
		t.Errorf("Text() = %q, want %q", got, r.Summary)
	}
}

func TestReady(t *testing.T) {
	for want, h := range map[bool]Health{
		true:  {Healthy: true, Status: Running},
		false: {Healthy: true, Status: Restarting},
	} {
		if got := h.Ready(); got != want {
			t.Errorf("Ready() of %v = %v, want %v", h, got, want)
		}
	}
}
