package health

import (
	"net/http"
	"strings"
	"testing"

	"github.com/runqy/runqy-worker/internal/status"
)

// What a stranger gets of every route is tested in internal/worker.
func TestStrangersSeeTheSummaryOnly(t *testing.T) {
	h := degraded()
	h.Reasons = []status.Reason{{Summary: "The process crashed.", Stderr: []string{"last words"}}}
	for _, path := range []string{"/health?verbose=1", "/readyz"} {
		for _, trusted := range []bool{true, false} {
			src := sources(h)
			src.Trusted = func(*http.Request) bool { return trusted }
			body := request(Handler(src), http.MethodGet, path).Body.String()
			if !strings.Contains(body, "The process crashed.") || strings.Contains(body, "last words") != trusted {
				t.Errorf("%s, trusted %v: the answer is %s, want the lines of stderr for the trusted only", path, trusted, body)
			}
			if body := request(SocketHandler(src), http.MethodGet, path).Body.String(); !strings.Contains(body, "last words") {
				t.Errorf("%s on the socket: the answer is %s, want the lines of stderr", path, body)
			}
		}
	}
}
