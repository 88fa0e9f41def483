package dashboard

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

// embedded are the templates and what they refer to.
//
//go:embed assets
var embedded embed.FS

// contentTypes are those of the files that are served; what is not here, the templates, is not.
var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// assetPath is where the page finds a file of its own. The hash makes it another address after a change, so that
// browsers may keep it for ever.
func assetPath(file string) (string, error) {
	body, err := embedded.ReadFile("assets/" + file)
	if err != nil {
		return "", err
	}
	return "/assets/" + file + "?v=" + shortHash(body), nil
}

func shortHash(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// buildHash is a hash of all templates and assets: pages with another one are of another build.
func buildHash() (string, error) {
	var parts [][]byte
	err := fs.WalkDir(embedded, "assets", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := embedded.ReadFile(file)
		parts = append(parts, []byte(file), body)
		return err
	})
	return shortHash(parts...), err
}

// assetHandler serves the page's own files below /assets/.
func assetHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file := strings.TrimPrefix(r.URL.Path, "/assets/")
		kind, known := contentTypes[path.Ext(file)]
		body, err := embedded.ReadFile("assets/" + file)
		if !known || err != nil {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the dashboard's files can only be read", http.StatusMethodNotAllowed)
			return
		}
		header := w.Header()
		header.Set("Content-Type", kind)
		header.Set("X-Content-Type-Options", "nosniff")
		if r.URL.Query().Get("v") == shortHash(body) {
			header.Set("Cache-Control", "public, max-age=31536000, immutable")
		} else {
			header.Set("Cache-Control", "no-cache")
		}
		_, _ = w.Write(body) // an error means that the visitor is gone
	})
}
