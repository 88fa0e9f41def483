package harness

import (
	"maps"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Settings are configuration keys with dots, as in docs, and their values.
type Settings map[string]any

// With returns a copy with one key set.
func (s Settings) With(key string, value any) Settings {
	out := Settings{}
	maps.Copy(out, s)
	out[key] = value
	return out
}

// WriteConfig writes settings as a configuration file.
func WriteConfig(t *testing.T, path string, set Settings) {
	t.Helper()
	tree := map[string]any{}
	for key, value := range set {
		parts := strings.Split(key, ".")
		at := tree
		for _, p := range parts[:len(parts)-1] {
			if at[p] == nil {
				at[p] = map[string]any{}
			}
			at = at[p].(map[string]any)
		}
		at[parts[len(parts)-1]] = value
	}
	text, err := yaml.Marshal(tree)
	if err != nil {
		t.Fatalf("marshal the configuration %v: %v", set, err)
	}
	WriteFile(t, path, string(text))
}
