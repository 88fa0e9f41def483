package dashboard

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func getAsset(t *testing.T, method, target string) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	assetHandler().ServeHTTP(w, httptest.NewRequest(method, target, nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), string(body)
}

func TestAssets(t *testing.T) {
	for file, kind := range map[string]string{
		"style.css": "text/css; charset=utf-8", "app.js": "text/javascript; charset=utf-8", "icon-good.svg": "image/svg+xml", "icon-quiet.svg": "image/svg+xml",
		"icon-warn.svg": "image/svg+xml", "icon-bad.svg": "image/svg+xml", "icon-stale.svg": "image/svg+xml",
	} {
		target, err := assetPath(file)
		if err != nil {
			t.Fatal(err)
		}
		res, body := getAsset(t, http.MethodGet, target)
		if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != kind || body == "" {
			t.Errorf("%s: %s, %q, %d bytes", target, res.Status, res.Header.Get("Content-Type"), len(body))
		}
		if got := res.Header.Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
			t.Errorf("%s: Cache-Control %q", target, got)
		}
		// Under any other address it may change at any time.
		for _, other := range []string{"/assets/" + file, "/assets/" + file + "?v=000000000000"} {
			if res, _ := getAsset(t, http.MethodGet, other); res.StatusCode != http.StatusOK || res.Header.Get("Cache-Control") != "no-cache" {
				t.Errorf("%s: %s, Cache-Control %q", other, res.Status, res.Header.Get("Cache-Control"))
			}
		}
	}
	if _, err := assetPath("gone.css"); err == nil {
		t.Error("a template may name a file that is not there")
	}
}

func TestAssetsServeNothingElse(t *testing.T) {
	for _, target := range []string{"/assets/", "/assets/page.html", "/assets/..%2fview.go", "/assets/../assets.go", "/assets/style.css/", "/assets/none.css", "/assets/.css"} {
		if res, body := getAsset(t, http.MethodGet, target); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s\n%s", target, res.Status, body)
		}
	}
	if res, _ := getAsset(t, http.MethodPost, "/assets/app.js"); res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", res.Status)
	}
}

func TestBuildIsStable(t *testing.T) {
	a, b := newTestRenderer(t), newTestRenderer(t)
	if a.build() != b.build() || len(a.build()) != 12 {
		t.Errorf("builds %q and %q", a.build(), b.build())
	}
	if !strings.Contains(pageOf(t, healthyView()), `data-build="`+a.build()+`"`) {
		t.Error("the page does not tell its build")
	}
}
