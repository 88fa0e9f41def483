package health

import (
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
