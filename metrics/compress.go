package metrics

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"sync"
)

// compressor has the answers of a handler compressed as fast as gzip can. That of promhttp has no level, and takes more
// CPU time than all else that a scrape does; a library for handlers brings formats along that no scraper asks for.
type compressor struct {
	next    http.Handler
	writers sync.Pool // of *gzip.Writer
}

func newCompressor(next http.Handler) *compressor {
	return &compressor{next: next, writers: sync.Pool{New: func() any {
		w, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // the level is one that exists
		return w
	}}}
}

// ServeHTTP implements http.Handler.
func (c *compressor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Accept-Encoding")
	if !acceptsGzip(r.Header.Values("Accept-Encoding")) {
		c.next.ServeHTTP(w, r)
		return
	}
	gz := c.writers.Get().(*gzip.Writer)
	defer c.writers.Put(gz)
	body := &gzipBody{ResponseWriter: w, gz: gz}
	c.next.ServeHTTP(body, r)
	if body.compressed {
		_ = gz.Close() // a client that went away misses nothing
	}
}

// gzipBody compresses the body of an answer, unless it is an error.
type gzipBody struct {
	http.ResponseWriter
	gz                *gzip.Writer
	begun, compressed bool
}

// WriteHeader implements http.ResponseWriter.
func (b *gzipBody) WriteHeader(code int) {
	if !b.begun {
		b.begun = true
		if b.compressed = code == http.StatusOK; b.compressed {
			b.Header().Set("Content-Encoding", "gzip")
			b.Header().Del("Content-Length")
			b.gz.Reset(b.ResponseWriter)
		}
	}
	b.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (b *gzipBody) Write(p []byte) (int, error) {
	if !b.begun {
		b.WriteHeader(http.StatusOK)
	}
	if b.compressed {
		return b.gz.Write(p)
	}
	return b.ResponseWriter.Write(p)
}

// acceptsGzip reads Accept-Encoding (RFC 9110, 12.5.3).
func acceptsGzip(header []string) bool {
	for coding := range strings.SplitSeq(strings.Join(header, ","), ",") {
		name, parameter, _ := strings.Cut(coding, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		weight, has := strings.CutPrefix(strings.ReplaceAll(parameter, " ", ""), "q=")
		return !has || strings.Trim(weight, "0.") != ""
	}
	return false
}
