package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces ${VAR} and ${VAR:-default} in one value of the file; $$ is a dollar sign. Any other dollar sign
// stands for itself. As in a shell, the default also takes the place of an empty variable.
func expand(s string, lookup func(string) (string, bool)) (string, error) {
	if !strings.Contains(s, "$") {
		return s, nil
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			b.WriteString(s)
			return b.String(), nil
		}
		b.WriteString(s[:i])
		s = s[i:]
		switch s[1] {
		case '$':
			b.WriteByte('$')
			s = s[2:]
		case '{':
			end := strings.IndexByte(s, '}')
			if end < 0 {
				return "", errors.New("has a ${ without its }: close it, or write $$ for a dollar sign")
			}
			name, fallback, hasFallback := strings.Cut(s[2:end], ":-")
			if !variableName.MatchString(name) || strings.Contains(fallback, "${") {
				return "", fmt.Errorf("has %s, which is neither ${VAR} nor ${VAR:-default}; write $$ for a dollar sign", quote("${"+name+"…}"))
			}
			value, set := lookup(name)
			switch {
			case hasFallback && value == "":
				value = fallback
			case !set:
				return "", fmt.Errorf("needs the variable %s, which is not set: set it, or write ${%s:-default}", name, name)
			}
			b.WriteString(value)
			s = s[end+1:]
		default:
			b.WriteByte('$')
			s = s[1:]
		}
	}
}

// resolver copies the nodes of one value: aliases become what they stand for, variables in scalars are expanded.
// Copying keeps an anchored value from being expanded twice.
type resolver struct {
	lookup func(string) (string, bool)
	fault  func(line int, text string)
	left   int // nodes that may still be copied: an alias bomb ends here
}

const (
	maxNodes = 10_000
	maxDepth = 20
)

func (r *resolver) resolve(n *yaml.Node, depth int) *yaml.Node {
	for n.Kind == yaml.AliasNode && depth < maxDepth {
		n, depth = n.Alias, depth+1
	}
	r.left--
	if depth >= maxDepth || r.left < 0 {
		if r.left >= -1 {
			r.fault(n.Line, "is nested too deeply or has too many parts")
		}
		r.left = -2
		return &yaml.Node{Kind: yaml.ScalarNode, Line: n.Line}
	}
	c := &yaml.Node{Kind: n.Kind, Tag: n.Tag, Value: n.Value, Line: n.Line, Column: n.Column}
	if n.Kind == yaml.ScalarNode {
		value, err := expand(n.Value, r.lookup)
		if err != nil {
			r.fault(n.Line, err.Error())
		}
		c.Value = value
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 { // a key is no value
			c.Content = append(c.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: child.Value, Line: child.Line})
			continue
		}
		c.Content = append(c.Content, r.resolve(child, depth+1))
	}
	return c
}
