// Command gendocs writes the pages of docs/ that follow from the code: docs/metrics.md from the metrics as the worker
// declares them and the rules of metrics/rules as Prometheus loads them, and docs/configuration.md from the keys of the
// configuration. The prose around both is in the templates beside this file. A test fails when a page differs from what
// this program would write.
//
// Run it from the root of the repository; make generate does.
package main

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

//go:embed *.md.tmpl
var templates embed.FS

func main() {
	if err := write("."); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

// page is one generated file of docs/.
type page struct {
	name string // its template is name.tmpl
	// functions returns what the template may call, and a check that it has shown everything there is.
	functions func(root string) (funcs template.FuncMap, complete func() error, err error)
}

func pages() []page {
	return []page{{"metrics.md", metricsFunctions}, {"configuration.md", configurationFunctions}}
}

// path is where the page lies in the repository at root.
func (p page) path(root string) string { return filepath.Join(root, "docs", p.name) }

// write writes every page of the repository at root.
func write(root string) error {
	for _, p := range pages() {
		text, err := p.render(root)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if err := os.WriteFile(p.path(root), text, 0o644); err != nil {
			return fmt.Errorf("write the page: %w", err)
		}
	}
	return nil
}

// render is the text of the page, for the repository at root.
func (p page) render(root string) ([]byte, error) {
	funcs, complete, err := p.functions(root)
	if err != nil {
		return nil, err
	}
	t, err := template.New(p.name+".tmpl").Option("missingkey=error").Funcs(funcs).ParseFS(templates, p.name+".tmpl")
	if err != nil {
		return nil, fmt.Errorf("parse the template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, nil); err != nil {
		return nil, fmt.Errorf("fill in the template: %w", err)
	}
	return out.Bytes(), complete()
}
