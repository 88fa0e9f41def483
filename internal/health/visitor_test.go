package health

import (
	"net/http"
	"strings"
	"testing"

	"github.com/runqy/runqy-worker/internal/status"
)

// What a stranger gets of every route is tested in internal/worker.
func TestStrangersSeeTheFirstLineOnly(t *testing.T) {
	h := degraded()
	h.Reasons = []status.Reason{
		{Summary: "The process crashed.", Stderr: []string{"last words"}},
		{Summary: "Redis does not answer: the first Sentinel\nthe second Sentinel"},
	}
	for _, path := range []string{"/health?verbose=1", "/readyz"} {
		for _, trusted := range []bool{true, false} {
			src := sources(h)
			src.Trusted = func(*http.Request) bool { return trusted }
			body := request(Handler(src), http.MethodGet, path).Body.String()
			for text, want := range map[string]bool{
				"The process crashed.": true, "last words": trusted, "the first Sentinel": true, "the second Sentinel": trusted,
			} {
				if strings.Contains(body, text) != want {
					t.Errorf("%s, trusted %v: that the answer has %q is %v, want %v:\n%s", path, trusted, text, !want, want, body)
				}
			}
			if body := request(SocketHandler(src), http.MethodGet, path).Body.String(); !strings.Contains(body, "last words") {
				t.Errorf("%s on the socket: the answer is %s, want the lines of stderr", path, body)
			}
		}
	}
}
