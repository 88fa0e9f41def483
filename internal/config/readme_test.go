package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The README's table lists exactly the keys there are, in their order, each with its variables.
func TestReadmeListsEveryKey(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Configuration\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := make(map[string]string)
	var listed, want []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\|.*$").FindAllStringSubmatch(section, -1) {
		listed = append(listed, row[1])
		rows[row[1]] = row[0]
	}
	for _, f := range fields() {
		want = append(want, f.key)
		if row, ok := rows[f.key]; ok && !strings.Contains(row, "`"+f.variable()+"`") {
			t.Errorf("the row of %s does not name its variable %s", f.key, f.variable())
		}
	}
	if !slices.Equal(listed, want) {
		t.Errorf("README.md lists the keys\n%v\nand the configuration has\n%v", listed, want)
	}
	for _, s := range synonyms {
		if !strings.Contains(rows[s.key], "`"+s.variable+"`") {
			t.Errorf("the row of %s does not name its other variable %s", s.key, s.variable)
		}
	}
}
