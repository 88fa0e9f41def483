package dashboard

import (
	"bytes"
	"fmt"
	"html/template"
	"io"
)

// sectionIDs are the parts of the page that are replaced while it is looked at, in its order. Each has the template of
// its name, and the same id in the document.
var sectionIDs = []string{"top", "health", "process", "load", "queues", "active", "failures", "fleet"}

// section is one part of the page.
type section struct {
	ID   string `json:"id"`
	HTML string `json:"html"`
}

// Message is the outcome of an action for a browser without JavaScript.
type Message struct {
	OK          bool
	Title, Text string
	Details     string // lines to read below; may be empty
}

// renderer turns views into HTML. It may be used by many goroutines at once.
type renderer struct {
	templates *template.Template
	hash      string
}

// newRenderer parses the templates; an error is one of the program's.
func newRenderer() (*renderer, error) {
	hash, err := buildHash()
	if err != nil {
		return nil, fmt.Errorf("read the dashboard's assets: %w", err)
	}
	templates, err := template.New("dashboard").Funcs(templateFuncs()).ParseFS(embedded, "assets/*.html")
	if err != nil {
		return nil, fmt.Errorf("parse the dashboard's templates: %w", err)
	}
	return &renderer{templates: templates, hash: hash}, nil
}

func templateFuncs() template.FuncMap {
	return template.FuncMap{
		"asset": assetPath,
		"at":    at,
		"bytes": size,
		"count": func(n any) (string, error) {
			switch n := n.(type) {
			case int:
				return grouped(n), nil
			case int64:
				return grouped(n), nil
			}
			return "", fmt.Errorf("count of a %T", n)
		},
		"plural": func(n any, one, many string) (string, error) {
			switch n := n.(type) {
			case int:
				return plural(n, one, many), nil
			case int64:
				return plural(n, one, many), nil
			}
			return "", fmt.Errorf("plural of a %T", n)
		},
		"duration":   duration,
		"percent":    percent,
		"rate":       rate,
		"name":       name,
		"long":       long,
		"line":       line,
		"text":       text,
		"key":        key,
		"sparkCount": func(c Chart) plot { return spark(c, amount) },
		"sparkSpan":  func(c Chart) plot { return spark(c, span) },
		"plotRate":   func(all, failed Chart) plot { return overlay(all, failed, "second", rate) },
		"plotSpan":   func(p95, p50 Chart) plot { return overlay(p95, p50, "third", span) },
	}
}

// build identifies the templates and assets: a page of another build must be loaded again.
func (r *renderer) build() string { return r.hash }

// page writes the whole document.
func (r *renderer) page(w io.Writer, v *View) error {
	if err := r.templates.ExecuteTemplate(w, "page.html", page{View: v, Build: r.hash}); err != nil {
		return fmt.Errorf("render the dashboard: %w", err)
	}
	return nil
}

// sections renders every part of the page, exactly as page has it.
func (r *renderer) sections(v *View) ([]section, error) {
	out := make([]section, 0, len(sectionIDs))
	for _, id := range sectionIDs {
		var b bytes.Buffer
		if err := r.templates.ExecuteTemplate(&b, id, page{View: v, Build: r.hash}); err != nil {
			return nil, fmt.Errorf("render the dashboard's %s: %w", id, err)
		}
		out = append(out, section{ID: id, HTML: b.String()})
	}
	return out, nil
}

// message writes a small page of its own.
func (r *renderer) message(w io.Writer, m Message) error {
	if err := r.templates.ExecuteTemplate(w, "message.html", m); err != nil {
		return fmt.Errorf("render the outcome of an action: %w", err)
	}
	return nil
}
