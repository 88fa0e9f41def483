package docker

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The image is built from the folders that .dockerignore lets in: each one with a package of the program must be there.
func TestBuildContextHasEveryPackage(t *testing.T) {
	const module = "github.com/runqy/runqy-worker/"
	text, err := os.ReadFile(root + "/.dockerignore")
	if err != nil {
		t.Fatalf("read .dockerignore: %v", err)
	}
	included := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "!"); ok {
			included[name] = true
		}
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/runqy-worker")
	list.Dir = root
	output, err := list.Output()
	if err != nil {
		t.Fatalf("go list -deps ./cmd/runqy-worker: %v", err)
	}
	for path := range strings.FieldsSeq(string(output)) {
		rest, ours := strings.CutPrefix(path, module)
		if folder, _, _ := strings.Cut(rest, "/"); ours && !included[folder] {
			t.Errorf(".dockerignore leaves out %s, which the program is built from (%s): add !%s", folder, path, folder)
		}
	}
}
