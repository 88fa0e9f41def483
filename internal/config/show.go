package config

import (
	"maps"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/internal/redisclient"
)

const masked = "***"

// Setting is one effective value.
type Setting struct {
	Key    string
	Value  any // string, bool, int, []string, map[string]int or map[string]string; secrets masked
	Origin Origin
}

// Settings lists every key with its effective value, fit for showing: secrets are masked, durations and sizes are texts
// as the file has them.
func (c *Config) Settings() []Setting {
	all := fields()
	settings := make([]Setting, len(all))
	for i, f := range all {
		settings[i] = Setting{Key: f.key, Value: show(f, c), Origin: c.origins[f.key]}
	}
	return settings
}

// Tree is Settings as the file nests them.
func (c *Config) Tree() map[string]any {
	root := make(map[string]any)
	for _, s := range c.Settings() {
		node := root
		path := strings.Split(s.Key, ".")
		for _, name := range path[:len(path)-1] {
			next, ok := node[name].(map[string]any)
			if !ok {
				next = make(map[string]any)
				node[name] = next
			}
			node = next
		}
		node[path[len(path)-1]] = s.Value
	}
	return root
}

func show(f field, c *Config) any {
	switch p := f.place(c).(type) {
	case *string:
		return redact(f, *p)
	case *bool:
		return *p
	case *int:
		return *p
	case *size:
		return showSize(int64(*p))
	case *time.Duration:
		return showDuration(*p)
	case *[]string:
		words := make([]string, len(*p))
		for i, word := range *p {
			words[i] = redactVariable("", word)
		}
		return words
	case *map[string]int:
		return maps.Clone(*p)
	case *map[string]string:
		shown := make(map[string]string, len(*p))
		for name, value := range *p {
			shown[name] = redactVariable(name, value)
		}
		return shown
	}
	return nil
}

func redact(f field, text string) string {
	switch f.secret {
	case urlText:
		if text != "" && !strings.Contains(text, "://") {
			return masked // a password, or a DSN of another form
		}
		return redisclient.Redact(text)
	case mapTexts:
		return masked
	}
	return text
}

// redactVariable masks what the name of a variable calls a secret, and the credentials of a URL.
func redactVariable(name, value string) string {
	upper := strings.ToUpper(name)
	for _, word := range []string{"PASS", "PWD", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "AUTH", "DSN", "PRIVATE"} {
		if strings.Contains(upper, word) {
			return masked
		}
	}
	if strings.Contains(value, "://") {
		return redisclient.Redact(value)
	}
	return value
}
