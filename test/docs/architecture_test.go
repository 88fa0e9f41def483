// Package docs tests what the documentation says of the code.
package docs

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/runqy/runqy-worker"
)

// read returns a file of the project.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(root + "/" + name)
	if err != nil {
		t.Fatalf("read the documentation: %v", err)
	}
	return string(text)
}

// section returns what stands below a heading, up to the next one of the same level.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut(page, "\n## "+heading+"\n")
	if !found {
		t.Fatalf("there is no section %q", heading)
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

// rows returns the cells of the tables in a text, without their headings.
func rows(text string) [][]string {
	var out [][]string
	heading := true
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case !strings.HasPrefix(line, "|"):
			heading = true
		case strings.HasPrefix(line, "|--"), strings.HasPrefix(line, "| --"):
			heading = false
		case !heading:
			cells := strings.Split(strings.Trim(line, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			out = append(out, cells)
		}
	}
	return out
}

// A file that is named for a behaviour exists.
func TestArchitectureNamesExistingFiles(t *testing.T) {
	name := regexp.MustCompile("`([^`]+)`")
	found := rows(section(t, read(t, "docs/architecture.md"), "Where to look"))
	if len(found) == 0 {
		t.Fatal("docs/architecture.md has no rows below Where to look")
	}
	for _, row := range found {
		for _, file := range name.FindAllStringSubmatch(row[1], -1) {
			if _, err := os.Stat(root + "/" + file[1]); err != nil {
				t.Errorf("docs/architecture.md names %s for %q, which does not exist", file[1], row[0])
			}
		}
	}
}

// Every package has its sentence in docs/architecture.md, and every package there exists.
func TestArchitectureListsEveryPackage(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "./...")
	list.Dir = root
	output, err := list.Output()
	if err != nil {
		t.Fatalf("go list ./...: %v", err)
	}
	exists := make(map[string]bool)
	for path := range strings.FieldsSeq(string(output)) {
		exists[strings.TrimPrefix(strings.TrimPrefix(path, module), "/")] = true
	}
	described := make(map[string]bool)
	name := regexp.MustCompile("`([^`]+)`")
	for _, row := range rows(section(t, read(t, "docs/architecture.md"), "Packages")) {
		for _, found := range name.FindAllStringSubmatch(row[0], -1) {
			described[found[1]] = true
			if _, err := os.Stat(root + "/" + found[1]); err != nil {
				t.Errorf("docs/architecture.md describes %s, which does not exist", found[1])
			}
		}
		if sentence := row[len(row)-1]; !strings.HasSuffix(sentence, ".") {
			t.Errorf("docs/architecture.md says of %s %q, want a sentence", row[0], sentence)
		}
	}
	for path := range exists {
		if !described[path] {
			t.Errorf("docs/architecture.md has no row for the package %s", path)
		}
	}
}
