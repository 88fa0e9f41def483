package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Key describes one key of the configuration, for docs/configuration.md. The texts are Markdown.
type Key struct {
	Name      string   // a.b.c
	Type      string   // what a value is
	Default   string   // the value without a configuration
	Allowed   string   // what is accepted beyond the type; empty: every value of the type
	Variables []string // the environment variables, the one that is named after the key first
	Meaning   string   // one or two sentences
}

// Section is the part of the name before the first dot.
func (k Key) Section() string {
	section, _, _ := strings.Cut(k.Name, ".")
	return section
}

// Keys describes every key, in the order in which they are documented.
func Keys() []Key {
	defaults := Default()
	var keys []Key
	for _, f := range fields() {
		keys = append(keys, Key{
			Name: f.key, Type: typeName(f.place(defaults)), Default: defaultText(f, defaults), Allowed: f.limit.text,
			Variables: f.variables(), Meaning: f.doc,
		})
	}
	return keys
}

// typeName is the type of a place in words.
func typeName(place any) string {
	switch place.(type) {
	case *string:
		return "text"
	case *bool:
		return "boolean"
	case *int:
		return "whole number"
	case *size:
		return "size"
	case *time.Duration:
		return "duration"
	case *[]string:
		return "list of words"
	case *map[string]int:
		return "map of weights"
	case *map[string]string:
		return "map of texts"
	}
	return fmt.Sprintf("%T", place)
}

// defaultText is the default of f as the file has it.
func defaultText(f field, defaults *Config) string {
	if f.fallback != "" {
		return f.fallback
	}
	var text string
	switch value := show(f, defaults).(type) {
	case string:
		text = value
	case []string:
		text = "[" + strings.Join(value, ", ") + "]"
	case map[string]int:
		text = flowMap(value)
	case map[string]string:
		text = flowMap(value)
	default:
		text = fmt.Sprint(value)
	}
	if text == "" {
		return "none"
	}
	return "`" + text + "`"
}

// flowMap is a map as YAML writes it on one line.
func flowMap[V any](m map[string]V) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s: %v", name, m[name]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
