package status_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/runqy/runqy-worker/"

// stderrReaders are the files that may read the lines of stderr and the stacks in a Reason (its fields, its method Text),
// in a snapshot or in the dashboard's view, with why. Whoever adds a file here has to say who sees what it does with them.
var stderrReaders = map[string]string{
	"internal/status/reason.go":     "the type itself",
	"heartbeat/beat.go":             "the field reason of the heartbeat: who reads Redis sees the payloads of tasks too",
	"internal/listing/listing.go":   "the workers command, which reads Redis itself",
	"internal/demo/demo.go":         "the demo's own terminal",
	"internal/health/handler.go":    "the probes, of a health that visitor.go has made public for strangers",
	"internal/worker/sdnotify.go":   "the service manager of this machine",
	"internal/worker/dashboard.go":  "hands them to the dashboard, where visitor.go removes them for strangers",
	"internal/worker/rpc.go":        "answers visitors of whom internal/rpc has asked whether they may see stacks",
	"internal/dashboard/visitor.go": "removes them for strangers",
	"internal/control/control.go":   "the restart command, which reads Redis itself",
	"client/worker.go":              "a Go program that reads Redis itself; the field is not encoded as JSON",
}

// A Reason shows its summary only, unless the code asks for more. This test finds each place that does.
func TestOnlyKnownPlacesReadStderr(t *testing.T) {
	packages := listPackages(t)
	exports := make(map[string]string)
	for _, p := range packages {
		exports[p.ImportPath] = p.Export
	}
	fset := token.NewFileSet()
	imports := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	found := make(map[string]bool)
	for _, p := range packages {
		if !strings.HasPrefix(p.ImportPath, module) || strings.HasPrefix(p.ImportPath, module+"supervisor") {
			continue // the supervisor is where they come from
		}
		for file, what := range readersIn(t, fset, imports, p) {
			found[file] = true
			if stderrReaders[file] == "" {
				t.Errorf("%s reads %s: may whoever sees the result see what tasks carry? Then add the file to stderrReaders, "+
					"else use Summary, String or Public", file, what)
			}
		}
	}
	for file := range stderrReaders {
		if !found[file] {
			t.Errorf("%s does not read stderr any more: remove it from stderrReaders", file)
		}
	}
}

type listedPackage struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

// listPackages returns the packages of this module and all that they import, with their export data.
func listPackages(t *testing.T) []listedPackage {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles"}
	if raceEnabled() { // else everything would be compiled once more, without the race detector
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, module+"...")...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var packages []listedPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); decoder.More(); {
		var p listedPackage
		if err := decoder.Decode(&p); err != nil {
			t.Fatalf("decode the packages of go list: %v", err)
		}
		packages = append(packages, p)
	}
	return packages
}

// raceEnabled reports whether this test was compiled with the race detector.
func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// readersIn returns the files of a package that read stderr, each with one thing that it reads.
func readersIn(t *testing.T, fset *token.FileSet, imports types.Importer, p listedPackage) map[string]string {
	t.Helper()
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatalf("parse %s: %v", name, err)
		}
		files = append(files, f)
	}
	info := &types.Info{Selections: make(map[*ast.SelectorExpr]*types.Selection)}
	config := types.Config{Importer: imports}
	if _, err := config.Check(p.ImportPath, fset, files, info); err != nil {
		t.Fatalf("check the types of %s: %v", p.ImportPath, err)
	}
	readers := make(map[string]string)
	for expr, selection := range info.Selections {
		receiver := strings.TrimPrefix(types.TypeString(selection.Recv(), nil), "*")
		what := fmt.Sprintf("%s.%s", strings.TrimPrefix(receiver, module), expr.Sel.Name)
		switch what {
		case "internal/status.Reason.Stderr", "internal/status.Reason.Stack", "internal/status.Reason.Text",
			"supervisor.Snapshot.Stderr", "supervisor.Snapshot.Stack", "supervisor.Stack.Text", "supervisor.Stack.Where",
			"internal/dashboard.Process.Stderr", "internal/dashboard.Process.Stack", "client.Worker.Stderr":
			file := strings.TrimPrefix(p.ImportPath, module) + "/" + filepath.Base(fset.Position(expr.Pos()).Filename)
			readers[file] = what
		}
	}
	return readers
}
