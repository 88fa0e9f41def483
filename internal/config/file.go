package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds the configuration file in bytes.
const maxFile = 1 << 20

var yamlError = regexp.MustCompile(`^yaml: (?:(?:unmarshal errors:\s*)?line (\d+): )?(?s:(.*))$`)

// readFile flattens the YAML of a file into the loader's inputs, by key.
func (l *loader) readFile(name string, data []byte) {
	if len(data) > maxFile {
		l.fault(Origin{Name: name}, "", "", fmt.Sprintf("is larger than %d bytes; this is no configuration", maxFile))
		return
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if !errors.Is(err, io.EOF) { // an empty file sets nothing
			l.syntaxFault(name, err)
		}
		return
	}
	var second yaml.Node
	if err := decoder.Decode(&second); err == nil {
		l.fault(Origin{name, second.Line}, "", "", "begins a second document: the configuration is one document, remove the --- line")
	} else if !errors.Is(err, io.EOF) {
		l.syntaxFault(name, err)
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return
	}
	l.section(name, "", document.Content[0], 0)
}

func (l *loader) syntaxFault(name string, err error) {
	match := yamlError.FindStringSubmatch(err.Error())
	if match == nil {
		l.fault(Origin{Name: name}, "", "", "is not YAML: "+err.Error())
		return
	}
	line, _ := strconv.Atoi(match[1]) // 0 when yaml did not say
	text := "is not YAML: " + match[2]
	if strings.Contains(match[2], "cannot start any token") {
		text += " (indent with spaces, not tabs, and quote values that begin with @ ` or %)"
	}
	l.fault(Origin{name, line}, "", "", text)
}

// section reads the keys of one mapping; prefix is "" or ends in a dot.
func (l *loader) section(file, prefix string, node *yaml.Node, depth int) {
	for node.Kind == yaml.AliasNode && depth < maxDepth {
		node, depth = node.Alias, depth+1
	}
	key := strings.TrimSuffix(prefix, ".")
	if isNull(node) {
		return // "redis:" with nothing below it
	}
	if node.Kind != yaml.MappingNode || depth >= maxDepth {
		text := "holds no keys: write key: value lines"
		if key != "" {
			text = "is a section: write its keys (" + strings.Join(l.children(prefix), ", ") + ") below it"
		}
		l.fault(Origin{file, node.Line}, key, "", text)
		return
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		full := prefix + name.Value
		origin := Origin{file, name.Line}
		if first, twice := seen[name.Value]; twice {
			l.fault(origin, full, "", fmt.Sprintf("is already set in line %d: remove one of them", first))
			continue
		}
		seen[name.Value] = name.Line
		switch f, isField := l.byKey[full]; {
		case name.Kind == yaml.ScalarNode && isField:
			if !isNull(value) {
				l.fileInput(f, origin, value)
			}
		case name.Kind == yaml.ScalarNode && len(l.children(full+".")) > 0:
			l.section(file, full+".", value, depth+1)
		default:
			if name.Kind != yaml.ScalarNode {
				full = key
			}
			l.fault(origin, full, "", "is not a key"+l.suggestKey(prefix, name.Value))
		}
	}
}

func (l *loader) fileInput(f field, origin Origin, value *yaml.Node) {
	faulty := false
	r := resolver{lookup: l.lookup, left: maxNodes, fault: func(line int, text string) {
		faulty = true
		l.fault(Origin{origin.Name, line}, f.key, "", text)
	}}
	node := r.resolve(value, 0)
	if faulty {
		l.bad[f.key] = true
		return
	}
	l.add(f.key, input{origin: origin, node: node})
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// children lists the names directly below a prefix that ends in a dot.
func (l *loader) children(prefix string) []string {
	var names []string
	for _, f := range l.fields {
		rest, ok := strings.CutPrefix(f.key, prefix)
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(rest, ".")
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names
}

// suggestKey finds what an unknown key was meant to be.
func (l *loader) suggestKey(prefix, name string) string {
	siblings := l.children(prefix)
	if best := closest(name, siblings); best != "" {
		return "; did you mean " + best + "?"
	}
	for _, f := range l.fields { // the right name in the wrong section
		if strings.HasSuffix(f.key, "."+name) {
			return "; did you mean " + f.key + "?"
		}
	}
	return ": known here are " + strings.Join(siblings, ", ")
}

// closest returns the candidate that differs from s by at most a third of its letters, and at most three; empty when
// there is none.
func closest(s string, candidates []string) string {
	best, least := "", min(3, (len(s)+2)/3)+1
	for _, c := range candidates {
		if d := distance(s, c); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance is Levenshtein's, over bytes.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
