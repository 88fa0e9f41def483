package health

import (
	"os"
	"path/filepath"
	"testing"
)

func TestUsesTLS(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.yml")
	for text, want := range map[string]bool{
		"":                           false,
		"basic_auth_users: {a: b}\n": false,
		"tls_server_config:\n":       false,
		"tls_server_config: {cert_file: c, key_file: k}\nbasic_auth_users: {a: b}\n": true,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := UsesTLS(path); err != nil || got != want {
			t.Errorf("UsesTLS of %q is %v, error %v; want %v", text, got, err, want)
		}
	}
	if got, err := UsesTLS(""); err != nil || got {
		t.Errorf("no file: %v, %v", got, err)
	}
	if _, err := UsesTLS(path + "x"); err == nil {
		t.Error("no error for a missing file")
	}
	if err := os.WriteFile(path, []byte("[\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := UsesTLS(path); err == nil {
		t.Error("no error for a file that is no YAML")
	}
}
