package metrics

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCompressor(t *testing.T) {
	page := strings.Repeat("runqy_worker_healthy 1\n", 1000)
	handler := newCompressor(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/error":
			http.Error(w, "no", http.StatusInternalServerError)
		case "/in-pieces":
			_, _ = io.WriteString(w, page[:100])
			_, _ = io.WriteString(w, page[100:])
		default:
			w.WriteHeader(http.StatusOK)
			_, _ = io.WriteString(w, page)
		}
	}))
	for _, tc := range []struct {
		path, accept string
		compressed   bool
	}{
		{"/", "", false}, {"/", "gzip", true}, {"/in-pieces", "br, gzip;q=0.5", true}, {"/", "GZIP ; q=1", true},
		{"/", "gzip;q=0", false}, {"/", "gzip; q=0.000", false}, {"/", "br", false}, {"/error", "gzip", false}, {"/", "gzip", true},
	} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, tc.path, nil)
		req.Header.Set("Accept-Encoding", tc.accept)
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, req)
		want := page
		if tc.path == "/error" {
			want = "no\n"
		}
		var body io.Reader = rec.Body
		if tc.compressed {
			var err error
			if body, err = gzip.NewReader(rec.Body); err != nil {
				t.Fatalf("%s %q: %v", tc.path, tc.accept, err)
			}
		}
		got, err := io.ReadAll(body)
		if err != nil || string(got) != want || (rec.Header().Get("Content-Encoding") == "gzip") != tc.compressed {
			t.Errorf("%s %q: %d bytes, %v, %v", tc.path, tc.accept, len(got), err, rec.Header())
		}
		if rec.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("Vary is %q", rec.Header().Get("Vary"))
		}
	}
}
