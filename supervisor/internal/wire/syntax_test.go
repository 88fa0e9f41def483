package wire

import (
	"encoding/json"
	"strings"
	"testing"
)

// values are JSON, and what is nearly JSON.
func values() []string {
	deep := strings.Repeat("[", maxDepth)
	return []string{
		``, ` `, `1`, `-0`, `-`, `01`, `1.`, `1.5e+7`, `1e`, `.5`, `+1`, `null`, `nul`, `true`, `falsy`, `NaN`, `1 2`,
		`""`, `"a\"b\\"`, `"\u00e9"`, `"\u00g9"`, `"\u00`, `"\x"`, `"`, `"\`, "\"a\nb\"", "\"\x1f\"", "\"\x7f\xff\"", `"eight ch` + `aracters\`,
		`"sixteen characters "`, `"0123456"`, `"01234567"`, "\"01234567\x01\"", `"` + strings.Repeat(`\\`, 20) + `"`,
		`[]`, `[ ]`, `[1,]`, `[,1]`, `[1 2]`, `[1,"a",{}]`, `[}`, `{]`, `[`, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,}`, `{"a":1,"b":[{"c":null}]}`,
		`{1:2}`, `{"a" : 1 , "b" : [ ] }` + "\r\n\t", `{}}`, `[]]`, `,`, `:`, `}`, `{"a":{"b":{}},"c":[[],[]]}`,
		deep, deep + strings.Repeat("]", maxDepth), "[" + deep + strings.Repeat("]", maxDepth+1),
		strings.Repeat(`{"a":`, maxDepth+5) + "1" + strings.Repeat("}", maxDepth+5),
	}
}

func TestValidJSON(t *testing.T) {
	for _, v := range values() {
		if got, want := validJSON([]byte(v)), json.Valid([]byte(v)); got != want {
			t.Errorf("validJSON(%.60q) = %v, want %v", v, got, want)
		}
	}
}

func FuzzValidJSON(f *testing.F) {
	for _, v := range values() {
		f.Add([]byte(v))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		if got, want := validJSON(v), json.Valid(v); got != want {
			t.Errorf("validJSON(%q) = %v, want %v", v, got, want)
		}
	})
}
