package config

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Every key is described, and its words do not break a row of a table.
func TestEveryKeyIsDescribed(t *testing.T) {
	keys := Keys()
	if got, want := len(keys), len(fields()); got != want {
		t.Fatalf("%d keys are described, want all %d", got, want)
	}
	for i, f := range fields() {
		k := keys[i]
		if k.Name != f.key {
			t.Errorf("key %d is %s, want %s", i, k.Name, f.key)
		}
		if !strings.HasSuffix(k.Meaning, ".") {
			t.Errorf("the doc of %s is %q, want one or two sentences", k.Name, k.Meaning)
		}
		if k.Default == "" || k.Type == "" || strings.Contains(k.Type, "*") {
			t.Errorf("%s has the type %q and the default %q, want words for both", k.Name, k.Type, k.Default)
		}
		if f.limit.check != nil && k.Allowed == "" {
			t.Errorf("%s is checked, but what it accepts is not described", k.Name)
		}
		if strings.ContainsAny(k.Default+k.Allowed+k.Meaning, "|\n") {
			t.Errorf("the words for %s have a | or a line break, which a row of a table cannot hold", k.Name)
		}
	}
}

// The words for a default that is no fixed value are used only where a fixed value would be wrong.
func TestFallbackWords(t *testing.T) {
	for _, f := range fields() {
		if value := show(f, Default()); f.fallback != "" && f.key != "worker.id" && value != "" {
			t.Errorf("%s has the default %v and the words %q, want one of them", f.key, value, f.fallback)
		}
	}
}

// docs/configuration.md, which is generated, names every environment variable that the program reads.
func TestEveryVariableIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	variables := slices.Clone(otherVariables)
	for _, s := range synonyms {
		variables = append(variables, s.variable)
	}
	for _, f := range fields() {
		variables = append(variables, f.variable())
	}
	for _, name := range variables {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/configuration.md does not name the variable %s", name)
		}
	}
}
