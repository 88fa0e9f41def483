package health

import (
	"context"
	"net/http"

	"github.com/runqy/runqy-worker/internal/status"
)

// visible returns the health as each visitor may see it: with what the Python process wrote for the trusted (nil trusts
// everybody), else without. It is the one place that decides so for the probes, which have no other source.
func visible(report func() status.Report, trusted func(*http.Request) bool) func(*http.Request) status.Report {
	return func(r *http.Request) status.Report {
		h := report()
		if trusted != nil && !trusted(r) {
			h.Health = h.Public()
		}
		return h
	}
}

type trustedKey struct{}

// knowing lets the handler of remote procedures ask, with [MaySee], whether its visitor is trusted (nil trusts everybody).
func knowing(next http.Handler, trusted func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		may := func() bool { return trusted == nil || trusted(r) }
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), trustedKey{}, may)))
	})
}

// MaySee reports whether the visitor whose request has this context may see what tasks carry. Of a request that no server
// of this package has taken, nothing is known, so it may not.
func MaySee(ctx context.Context) bool {
	may, ok := ctx.Value(trustedKey{}).(func() bool)
	return ok && may()
}
