package dashboard

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// figures are the words of the tiles below the banner, by the tile's name.
func figures(t *testing.T, v *View) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, tile := range elements(byID(t, parse(t, pageOf(t, v)), "health"), "a") {
		if spans := elements(tile, "span"); len(spans) > 2 {
			out[textOf(spans[0])] = textOf(spans[1]) + " " + textOf(spans[2])
		}
	}
	return out
}

// What was read last is not the present: no figure, no green sign.
func TestWhatCannotBeReadIsUnknown(t *testing.T) {
	read := fixedNow.Add(-24 * time.Second)
	const unknown = "– unknown since 12:34:32 UTC"
	gone := func(v *View) *View {
		v.Queues.Err, v.Queues.At, v.Failures.At, v.Fleet.Err, v.Fleet.At = noAnswer, read, fixedNow, noAnswer, read
		return v
	}
	for name, v := range map[string]*View{"healthy": gone(healthyView()), "load": gone(loadView())} {
		tiles := figures(t, v)
		for _, tile := range []string{"Waiting", "Failed", "Workers"} {
			if tiles[tile] != unknown {
				t.Errorf("%s: %s says %q, want %q", name, tile, tiles[tile], unknown)
			}
		}
		doc := parse(t, pageOf(t, v))
		for _, id := range []string{"queues", "failures", "fleet"} {
			part := byID(t, doc, id)
			if !strings.Contains(attr(part, "class"), " old") || !strings.Contains(textOf(part), "as of 12:34:32 UTC") {
				t.Errorf("%s: the section %s does not say that it is old: %s", name, id, textOf(part))
			}
			for _, sign := range elements(part, "svg") {
				if class := attr(sign, "class"); strings.HasPrefix(class, "sign") && class != "sign sign-quiet" && class != "sign sign-bad" {
					t.Errorf("%s: %s has the sign %q", name, id, class)
				}
			}
		}
	}
	checker := gone(checkerView())
	if got := figures(t, checker)["Running"]; got != unknown {
		t.Errorf("running in all workers: %q", got)
	}
	late := healthyView() // nothing has failed yet, and yet nothing has been read
	late.Queues.At, late.Failures.At, late.Fleet.At = time.Time{}, time.Time{}, time.Time{}
	for _, tile := range []string{"Waiting", "Failed", "Workers"} {
		if got := figures(t, late)[tile]; got != "– not known yet" {
			t.Errorf("before the first reading %s says %q", tile, got)
		}
	}
	failures := healthyView()
	failures.Failures.Err, failures.Failures.At = "no", read
	if tiles := figures(t, failures); tiles["Failed"] != unknown || tiles["Waiting"] != "3 tasks in this worker's queues, oldest 120 ms" {
		t.Errorf("with the failed tasks alone unknown: %q", tiles)
	}
}

func TestAQueueThatCannotBeReadHasNoFigures(t *testing.T) {
	v := healthyView()
	v.Queues.List = []Queue{{Name: "broken", Tone: Bad, Depth: status.Depth{Err: errors.New("WRONGTYPE")}}}
	for _, cell := range elements(byID(t, parse(t, pageOf(t, v)), "queues"), "td") {
		if label := attr(cell, "data-label"); label != "" && textOf(cell) != "–" {
			t.Errorf("%s of a queue that cannot be read shows %q, want –", label, textOf(cell))
		}
	}
}
