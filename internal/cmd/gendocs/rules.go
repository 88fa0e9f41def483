package main

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/template"

	"go.yaml.in/yaml/v3"
)

// rule is an alert or a recording rule, and the comment above it.
type rule struct {
	Alert, Record, Expr, For string
	Labels, Annotations      map[string]string

	comment string
}

// readRules reads the rules of every file in dir.
func readRules(dir string) ([]rule, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("list the rules: %w", err)
	}
	var rules []rule
	for _, file := range files {
		more, err := readFile(file)
		if err != nil {
			return nil, err
		}
		rules = append(rules, more...)
	}
	return rules, nil
}

func readFile(file string) ([]rule, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	var content struct {
		Groups []struct{ Rules []yaml.Node }
	}
	if err := yaml.Unmarshal(b, &content); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var rules []rule
	for _, g := range content.Groups {
		for _, node := range g.Rules {
			var r rule
			if err := node.Decode(&r); err != nil {
				return nil, fmt.Errorf("%s, line %d: %w", file, node.Line, err)
			}
			r.Expr = strings.TrimSpace(r.Expr)
			r.comment = prose(node.HeadComment)
			rules = append(rules, r)
		}
	}
	return rules, nil
}

// prose is the text of a YAML comment, as one line.
func prose(comment string) string {
	var words []string
	for line := range strings.Lines(comment) {
		words = append(words, strings.Fields(strings.TrimLeft(line, "# "))...)
	}
	return strings.Join(words, " ")
}

// alerts shows each alert: its name with the way to the runbook, severity, wait, summary, and expression.
func alerts(rules []rule) (string, error) {
	var out []string
	for _, r := range rules {
		if r.Alert == "" {
			continue
		}
		text, err := annotation(r.Annotations["summary"])
		if err != nil {
			return "", fmt.Errorf("the summary of %s: %w", r.Alert, err)
		}
		page, err := annotation(r.Annotations["runbook_url"])
		if err != nil {
			return "", fmt.Errorf("the runbook_url of %s: %w", r.Alert, err)
		}
		runbook, err := url.Parse(page)
		if err != nil {
			return "", fmt.Errorf("the runbook_url of %s: %w", r.Alert, err)
		}
		wait := "at once"
		if r.For != "" {
			wait = "after " + r.For
		}
		out = append(out, fmt.Sprintf("**[%s](%s#%s)**, %s, %s: %s.\n%s\n```promql\n%s\n```\n",
			r.Alert, path.Base(runbook.Path), runbook.Fragment, r.Labels["severity"], wait, text, paragraph(r.comment), r.Expr))
	}
	return strings.TrimSpace(strings.Join(out, "\n")), nil
}

// recordings shows the recorded series, in a table below each comment.
func recordings(rules []rule) string {
	var b strings.Builder
	for _, r := range rules {
		if r.Record == "" {
			continue
		}
		if b.Len() == 0 || r.comment != "" {
			fmt.Fprintf(&b, "%s\n| series | expression |\n|---|---|\n", paragraph(r.comment))
		}
		expr := strings.Join(strings.Fields(r.Expr), " ")
		fmt.Fprintf(&b, "| `%s` | `%s` |\n", r.Record, strings.ReplaceAll(expr, "|", `\|`))
	}
	return strings.TrimSpace(b.String())
}

// paragraph puts empty lines around text.
func paragraph(text string) string {
	if text == "" {
		return ""
	}
	return "\n" + text + "\n"
}

// annotation fills Prometheus' template with words in place of the values of an alert; there are no external labels.
func annotation(text string) (string, error) {
	value := func(any) string { return "*N*" }
	t, err := template.New("annotation").Option("missingkey=error").Funcs(template.FuncMap{
		"printf": func(string, any) string { return "*N*" }, "humanize": value, "humanize1024": value, "humanizeDuration": value, "humanizePercentage": value,
	}).Parse("{{ $labels := .labels }}{{ $value := .value }}{{ $externalLabels := .external }}" + text)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"value":  "*N*",
		"labels": map[string]string{"job": "*job*", "instance": "*instance*", "queue": "*queue*", "reason": "*reason*"},
		// Known and empty, as without it.
		"external": map[string]string{"runqy_runbook": ""},
	})
	return out.String(), err
}
