// Command metricsdoc writes docs/metrics.md: the metrics as the worker declares them, the rules of metrics/rules as
// Prometheus loads them, and the prose of metrics.md.tmpl around both. Its test fails when the page says anything else.
//
// Run it from the root of the repository; make generate does.
package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

//go:embed metrics.md.tmpl
var page string

func main() {
	if err := write("."); err != nil {
		fmt.Fprintln(os.Stderr, "metricsdoc:", err)
		os.Exit(1)
	}
}

// output is where the page lies below the root of the repository.
func output(root string) string { return filepath.Join(root, "docs", "metrics.md") }

func write(root string) error {
	text, err := render(root)
	if err != nil {
		return err
	}
	if err := os.WriteFile(output(root), text, 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// render is the page, for the repository at root.
func render(root string) ([]byte, error) {
	all, err := declared()
	if err != nil {
		return nil, err
	}
	rules, err := readRules(filepath.Join(root, "metrics", "rules"))
	if err != nil {
		return nil, err
	}
	t, err := template.New("metrics.md").Option("missingkey=error").Funcs(template.FuncMap{
		"metrics":    all.table,
		"alerts":     func() (string, error) { return alerts(rules) },
		"recordings": func() string { return recordings(rules) },
	}).Parse(page)
	if err != nil {
		return nil, fmt.Errorf("parse the template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, nil); err != nil {
		return nil, fmt.Errorf("fill in the template: %w", err)
	}
	return out.Bytes(), all.complete()
}
